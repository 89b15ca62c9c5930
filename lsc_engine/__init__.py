"""lsc_engine: latent space configuration, from a preset (TOML) to a run folder.

Importing this package loads neither torch nor pydantic; every part is imported where it is used.
"""

import os
import sys

# Two OpenMP pools on the same cores stall each other by spinning; a short spin costs nothing alone.
# libgomp reads this once, when torch is loaded, so it has to be set here.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# `python -m` imports from the current folder before all others: a random.py there would stand in for Python's own.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

__version__ = "0.1.0"
