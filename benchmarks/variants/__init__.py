"""What is compared, a module each, imported only by the process that serves or calls.

A module has `serve(port)`, and where it observes calls too `create_client()`. It imports nothing of this kit unless it
is this kit: it may run in an environment of its own.
"""
