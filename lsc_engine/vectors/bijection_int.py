"""The keyed bijection on [0, count) in Python integers: the oracle for order.py, and for callers without torch.

Swap-or-not (Hoang, Morris, Rogaway, CRYPTO 2012): in round r, x and its partner K_r - x (mod count) change places when
a bit of the larger of the two says so. Each round is its own inverse, so it is a bijection at any count, with no table
and no cycle-walking. The bit is the top one of two multiplications modulo 2^64; keys come from SHA-256.
"""

from __future__ import annotations

import hashlib

VERSION = 1
"""Changes whenever a mapping would: it is stored beside every order."""

# Neighbours stay neighbours with probability 2^-ROUNDS: under one pair in 4 * 10^9 labels. By measurement 16 rounds
# still keep 20 pairs of 1.28 * 10^6 together; from 20 on no statistic of tests/vectors/test_order.py leaves chance.
ROUNDS = 32

LARGEST_COUNT = 2**63 - 1

_MASK = 2**64 - 1


def keys(count: int, seed: int, purpose: str) -> list[tuple[int, int, int]]:
    """Per round: the sum K of partners in [0, count), and an addend and an odd factor, signed 64-bit."""
    if not 1 <= count <= LARGEST_COUNT:
        raise ValueError(f"a bijection needs a count of 1 to 2^63 - 1, not {count}")
    found = []
    for number in range(ROUNDS):
        text = f"lsc bijection {VERSION}|{purpose}|{seed}|{count}|{number}"
        digest = hashlib.sha256(text.encode()).digest()
        # 16 bytes modulo count: the bias is under 2^-64 at any count.
        partner = int.from_bytes(digest[:16], "little") % count
        found.append(
            (
                partner,
                _signed(int.from_bytes(digest[16:24], "little")),
                _signed(int.from_bytes(digest[24:32], "little") | 1),
            )
        )
    return found


def _signed(value: int) -> int:
    value &= _MASK
    return value - 2**64 if value >= 2**63 else value


class BijectionInt:
    """`Bijection` of order.py for Python integers, one at a time."""

    def __init__(self, count: int, seed: int, purpose: str) -> None:
        self.count = count
        self._keys = keys(count, seed, purpose)

    def __call__(self, x: int) -> int:
        """Where x in [0, count) goes."""
        return self._run(x, self._keys)

    def inverse(self, y: int) -> int:
        """What goes to y."""
        return self._run(y, self._keys[::-1])

    def _run(self, x: int, rounds: list[tuple[int, int, int]]) -> int:
        if not 0 <= x < self.count:
            raise IndexError(f"{x} is outside [0, {self.count})")
        for partner, addend, factor in rounds:
            other = (partner - x) % self.count
            h = _signed((max(x, other) + addend) * factor)
            # An arithmetic shift, as torch has for int64: the hash only has to be repeatable.
            h = _signed((h ^ (h >> 32)) * factor)
            if h < 0:
                x = other
        return x
