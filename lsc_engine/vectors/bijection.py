"""A keyed bijection on [0, count), for orders of labels and of samples; imports without torch.

Swap-or-not (Hoang, Morris, Rogaway, CRYPTO 2012): in round r, x and its partner K_r - x (mod count) change places when
a bit derived from the larger of the two is 1. Each round is its own inverse, so it is a bijection at any count, with
no table and no cycle-walking. The bit is the top one of two multiplications modulo 2^64; keys come from SHA-256.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any, TypeVar

from lsc_engine.common.deferred import Tensor, np, torch, triton_kernels

# Neighbours stay neighbours with probability 2^-ROUNDS: under one pair in 4 * 10^9 labels. By measurement 16 rounds
# still keep 20 pairs of 1.28 * 10^6 together; from 20 on no statistic of tests/vectors/test_order.py leaves chance.
ROUNDS = 32

LARGEST_COUNT = 2**63

Numbers = TypeVar("Numbers", int, "Tensor")


def mix(x: Any) -> Any:
    """The finaliser of SplitMix64, a bijection of 64-bit integers, for int64 arrays and tensors."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ (x >> shift & (1 << 64 - shift) - 1)) * factor
    return x ^ (x >> 31 & (1 << 33) - 1)


class Bijection:
    """The bijection of `count` numbers, 1 to 2^63, that `seed` and `purpose` choose.

    Of Python integers (IndexError outside [0, count)), or elementwise on int64 tensors of any shape and device, exact,
    without host synchronisation and without a check of the range; on CUDA by one kernel where Triton is at hand.
    """

    VERSION = 1
    """Changes whenever a mapping would: it is stored beside every order."""

    def __init__(self, count: int, seed: int, purpose: str) -> None:
        if not 1 <= count <= LARGEST_COUNT:
            raise ValueError(f"a bijection needs a count of 1 to 2^63, not {count}")
        self.count, self.seed, self.purpose = count, seed, purpose
        # Of each round the sum K of partners in [0, count), an addend and an odd factor, signed 64-bit.
        self._rounds: list[tuple[int, int, int]] = []
        for number in range(ROUNDS):
            text = f"lsc bijection {self.VERSION}|{purpose}|{seed}|{count}|{number}"
            digest = hashlib.sha256(text.encode()).digest()
            # 16 bytes modulo count: the bias is under 2^-64 at any count.
            partner, factor = int.from_bytes(digest[:16], "little") % count, int.from_bytes(digest[24:], "little") | 1
            self._rounds.append((partner, int.from_bytes(digest[16:24], "little", signed=True), _signed(factor)))
        self._keys: dict[tuple[torch.device, int], Tensor] = {}

    def inverse(self, y: Numbers) -> Numbers:
        """What goes to y."""
        return self(y, -1)

    def __call__(self, x: Numbers, direction: int = 1) -> Numbers:
        """Where x goes, or with direction -1 what goes to it."""
        if isinstance(x, int):
            if not 0 <= x < self.count:
                raise IndexError(f"{x} is outside [0, {self.count})")
            return int(self.of_array(np.array([x]), direction)[0])
        if not torch.compiler.is_compiling():
            if x.device.type == "cpu":
                return torch.from_numpy(self.of_array(x.numpy(), direction))
            if x.device.type == "cuda" and (kernels := triton_kernels("lsc_engine.vectors.triton_bijection")):
                mapped: Tensor = kernels.mapped(x, self._keys_on(x.device, direction))
                return mapped
        return self.of_tensor(x, direction)

    def _keys_on(self, device: torch.device, direction: int) -> Tensor:
        """Count and keys of the rounds, in the order of a direction, int64 [1 + 3 ROUNDS] on `device`."""
        if (device, direction) not in self._keys:
            keys = [_signed(self.count), *(key for each in self._rounds[::direction] for key in each)]
            self._keys[device, direction] = torch.tensor(keys).to(device, non_blocking=True)
        return self._keys[device, direction]

    def of_tensor(self, x: Tensor, direction: int = 1) -> Tensor:
        """The same by the operations of torch."""
        count = _signed(self.count)
        for partner, addend, factor in self._rounds[::direction]:
            other = partner - x
            other += (other >> 63) & count
            # int64 products wrap modulo 2^64, the shift keeps the sign.
            h = torch.maximum(x, other).add_(addend).mul_(factor)
            h = h.bitwise_xor_(h >> 32).mul_(factor)
            x = torch.where(h < 0, other, x)
        return x

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, list[tuple[np.ndarray, ...]]]:
        """Count and rounds as arrays without dimensions: making them of integers would double the cost of a call."""
        return np.array(_signed(self.count)), [tuple(np.array(value) for value in each) for each in self._rounds]

    def of_array(self, x: np.ndarray, direction: int = 1) -> np.ndarray:
        """Where int64 numbers go, or with direction -1 what goes to them: four times as fast as tensors on the host,
        where every training and evaluation batch is mapped."""
        (count, rounds), x = self._arrays, np.array(x)
        other, h, s = np.empty_like(x), np.empty_like(x), np.empty_like(x)
        unsigned, and_count = other.view(np.uint64), s.view(np.uint64)
        half, sign = np.array(32), np.array(63)
        for partner, addend, factor in rounds[::direction]:
            np.subtract(partner, x, out=other)
            np.add(other, count, out=s)
            # Modulo count: of both, the one that is below it as an unsigned number.
            np.minimum(unsigned, and_count, out=unsigned)
            np.maximum(x, other, out=h)
            np.add(h, addend, out=h)
            np.multiply(h, factor, out=h)
            np.right_shift(h, half, out=s)
            np.bitwise_xor(h, s, out=h)
            np.multiply(h, factor, out=h)
            # All ones where x and its partner change places.
            np.right_shift(h, sign, out=h)
            np.bitwise_xor(other, x, out=other)
            np.bitwise_and(other, h, out=other)
            np.bitwise_xor(x, other, out=x)
        return x


def _signed(value: int) -> int:
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value
