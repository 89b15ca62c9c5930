"""Randomness is a function of (seed, purpose, numbers): nothing about it has to be saved to continue a run."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, purpose: str, *numbers: int) -> int:
    """A 63-bit seed that differs for every purpose and step, the same on every machine and version."""
    text = ":".join(["lsc", str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
