"""Names of vector systems, and numbers as people write them. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from lsc_engine.errors import UsageError, did_you_mean
from lsc_engine.registry import SYSTEMS

LISTED = (
    "A",
    "Ap",
    "A-mid",
    "A-interp",
    "A-helmert",
    "V11",
    "V21",
    "V21pm",
    "V22",
    "V31",
    "V32",
    "V33",
    "W2",
    "W4",
    "simplex",
)
"""The systems that `lsc-engine nmin` lists unasked."""

LARGEST_K = 16
"""Of W2, W4, ... the largest whose vectors are made and trained on."""

LARGEST_K_COUNTED = 998
"""The largest that is counted; the time of it grows with the cube of k."""

SUGGESTED = (*LISTED, "planar", "embeddings:RUN", "file:PATH")


@dataclass(frozen=True)
class Name:
    """A name taken apart. `family`: A, Ap, A-mid, A-interp, A-helmert, V, Vpm, W, planar, simplex, table or plugin."""

    text: str
    family: str
    p: int = 0
    q: int = 0
    k: int = 0

    @property
    def least_n(self) -> int:
        """The smallest n with at least one vector."""
        if self.family in ("V", "Vpm"):
            return self.p + self.q
        return {"A-mid": 2, "W": 2, "planar": 2}.get(self.family, 1)


def parse(name: str) -> Name:
    """Take a name apart. Raises UsageError with the nearest valid name."""
    if name in ("A", "Ap", "A-mid", "A-interp", "A-helmert", "planar", "simplex"):
        return Name(name, name)
    if match := re.fullmatch(r"V([1-9])([1-9])(pm)?", name):
        p, q = int(match[1]), int(match[2])
        if match[3] and p == q:
            raise UsageError(f'target.system: "{name}" is "V{p}{q}" itself, which contains its negatives')
        return Name(name, "Vpm" if match[3] else "V", p=p, q=q)
    if match := re.fullmatch(r"W([1-9][0-9]{0,17})", name):
        if int(match[1]) % 2 or int(match[1]) > LARGEST_K_COUNTED:
            raise UsageError(f'target.system: "{name}": k is even, at most {LARGEST_K_COUNTED} (W2, W4, ...)')
        return Name(name, "W", k=int(match[1]))
    if re.fullmatch(r"(embeddings|file):.+", name):
        return Name(name, "table")
    if name in plugin_names():
        return Name(name, "plugin")
    raise UsageError(f'target.system: "{name}" is not a vector system; {did_you_mean(name, SUGGESTED)}')


def canonical(name: str) -> str:
    """The name as it is written everywhere. Raises UsageError with the nearest valid name."""
    return parse(name.strip()).text


def is_known(name: str) -> bool:
    """Whether `name` is a system."""
    try:
        parse(name)
    except UsageError:
        return False
    return True


def fault(name: str) -> str | None:
    """Why `name` cannot be trained on: no system is called so, or its vectors are not made. None where it can."""
    try:
        parsed = parse(name)
    except UsageError as error:
        return str(error).removeprefix("target.system: ")
    if parsed.k > LARGEST_K:
        return f'"{name}" is counted, but its vectors are not made; W{LARGEST_K} is the largest'
    return None


def plugin_names() -> tuple[str, ...]:
    """Systems that installed packages and plugin files offer, by name only: nothing is imported."""
    return tuple(SYSTEMS.plugin_names())


def plugin(name: str) -> Callable[..., Any]:
    """The factory `(n, classes) -> VectorSystem` behind a plugin's name, imported now. UsageError where it fails."""
    return SYSTEMS.load_plugin(name, "target.system")


def source(parsed: Name) -> str:
    """The paper a system comes from, '-' where it is ours."""
    match parsed.family:
        case "A" | "Ap" | "planar":
            return "2510.04090"
        case "A-helmert":
            return "2510.04090 Fig. 2b"
        case "A-mid" | "A-interp":
            return "2510.04090 Fig. 9"
        case "W":
            return "2512.04865"
        case "simplex":
            return "2412.00884"
        case "V" | "Vpm" if (parsed.p, parsed.q) in ((1, 1), (2, 1), (2, 2)):
            return "2512.07509"
        case _:
            return "-"


_UNITS = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12}


def parse_count(text: str, what: str = "classes") -> int:
    """A whole number of 1 or more as people write it: 300000, 300_000, 300 000, 300k, 1.28M. Raises UsageError.

    >>> parse_count("1.28M")
    1280000
    """
    match = re.fullmatch(
        r"\+?((?:[0-9]{1,3}(?:[ ,][0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]+)?(?:[eE]\+?[0-9]{1,2})?)\s*([kKMGT]?)",
        text.strip(),
    )
    try:
        value = Decimal(re.sub("[_ ,]", "", match[1])).scaleb(_UNITS[match[2]]) if match else None
    except InvalidOperation:
        value = None
    if value is None:
        raise UsageError(f'{what}: "{text}" is not a number (300000, 300_000, 300k and 1.28M are)')
    if value != value.to_integral_value():
        raise UsageError(f"{what}: {text} is not a whole number")
    if value < 1:
        raise UsageError(f"{what}: {text} is too few, 1 or more")
    return int(value)
