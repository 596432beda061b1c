"""Grafana's dashboards of the stack; `python -m deploy.dashboards` writes their JSON.

Each file makes one dashboard of the parts in `panels.py`. What is written is committed, so that Grafana, and everyone
without Python, reads it as it is; a test holds the two together.
"""
