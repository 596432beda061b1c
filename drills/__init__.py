"""What the shop does when something breaks, tried out under load: `make drill`.

Its own folder beside benchmarks/, since it passes or fails: benchmarks only compare.
"""
