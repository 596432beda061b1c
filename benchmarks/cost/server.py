"""`python -m benchmarks.cost.server VARIANT PORT`: serves one variant, in whatever environment has it."""

from __future__ import annotations

import sys
from importlib import import_module

if __name__ == "__main__":
    name, port = sys.argv[1:]
    import_module(f"benchmarks.variants.{name}").serve(int(port))
