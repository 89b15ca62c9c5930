"""Predefined vector systems: exact facts from integers, unit vectors from their index, nearest vectors in torch.

    from lsc_engine.vectors import n_min, system

Importing this package loads no torch. A new system is one class in one file of `lsc_engine/vectors/families`.
"""

from lsc_engine.vectors.base import VectorSystem
from lsc_engine.vectors.registry import n_min, system

__all__ = ["VectorSystem", "n_min", "system"]
