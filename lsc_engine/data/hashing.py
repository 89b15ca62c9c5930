"""Random numbers as a pure function of what they are for: a counter hashed with a key, without generator state, by the
finaliser of SplitMix64 (Steele, Lea, Flood 2014) on wrapping 64-bit integers: the same bits on every device."""

from __future__ import annotations

import hashlib

from lsc_engine.common.deferred import Tensor, torch
from lsc_engine.vectors.bijection import mix

GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)


def key(*parts: object) -> int:
    """A signed 64-bit key from printable parts, for instance ("augment", seed, epoch)."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def keyed(counter: Tensor, secret: int) -> Tensor:
    """int64 hashes of an int64 `counter` under the key `secret` (see `key`); for one key a bijection."""
    hashed: Tensor = mix((counter ^ secret) * GAMMA + GAMMA)
    return hashed


def words(keys: Tensor, count: int) -> Tensor:
    """[B] int64 keys -> [B, count] independent int64 hashes: one SplitMix64 stream per key."""
    steps = torch.arange(1, count + 1, dtype=torch.int64, device=keys.device) * GAMMA
    hashed: Tensor = mix(keys.unsqueeze(-1) + steps)
    return hashed


def uniform(hashes: Tensor) -> Tensor:
    """int64 hashes -> float32 in [0, 1), the upper 24 bits, so that every value is exact."""
    return ((hashes >> 40) & 0xFFFFFF).to(torch.float32) * (1.0 / (1 << 24))
