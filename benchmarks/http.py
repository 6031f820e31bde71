"""Runs `http_service.py`, the benchmark of the HTTP service.

A module named `http` that imported ours would be in a circle with the standard library's, for type checkers and for
packages alike.
"""

import sys

# Other packages must find the standard library's module of this name first.
sys.path.append(sys.path.pop(0))

# isort: split
import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).with_name("http_service.py")), run_name="__main__")
