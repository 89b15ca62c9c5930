"""lsc_engine: latent space configuration, from a preset (TOML) to a run folder.

Importing this package loads neither torch nor pydantic; every part is imported where it is used.
"""

import os

# Two OpenMP pools on the same cores stall each other by spinning; a short spin costs nothing alone.
# libgomp reads this once, when torch is loaded, so it has to be set here.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

__version__ = "0.1.0"
