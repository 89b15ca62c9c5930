"""What the Vectors screen knows: its limits as typed, one row per system, their order, and the table as CSV.

Pure functions over the facts of lsc_engine.vectors: exact integers, no torch.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import grouped, parse_count
from lsc_engine.common.safe_io import csv_text
from lsc_engine.common.userpaths import user_path
from lsc_engine.runs.folder.process import python_command
from lsc_engine.vectors.base import VectorSystem
from lsc_engine.vectors.families.tables import Table, table_shape
from lsc_engine.vectors.registry import at_n_min, family_of, is_known, listed
from lsc_tui.lines import clean

LARGEST = 2**63 - 1
FIELDS = ("classes", "cosine", "most", "bytes", "loss")
FILE_SECONDS = 120.0
# Cosines of more directions of the plane are not listed.
MANY_ANGLES = 4096
BYTES = {"1": "fp8", "2": "bf16", "4": "fp32", "8": "fp64"}
LOSSES = ("cosine", "distance", "cosine+distance")
COLUMNS = ("system", "n", "vectors", "used", "cos", "crowd", "angle", "near", "sure", "rank", "bytes", "database")

# The scale s of the crowding, that of `lsc-engine nmin`.
SCALE = 16.0
# By name, n and number of vectors: those that another process counts are put here.
CROWDING: dict[tuple[str, int, int], tuple[float, bool]] = {}


@dataclass(frozen=True)
class Limits:
    """The fields above the table."""

    classes: int = 300_000
    cosine: float = 0.75
    most: int = 4096
    bytes: int = 4
    loss: str = "cosine"

    @property
    def angle(self) -> float:
        """The smallest angle that `cosine` allows, degrees."""
        return math.degrees(math.acos(self.cosine))

    def shown(self, field: str) -> str:
        """A field as it is written when nobody types in it."""
        if field in ("classes", "most"):
            return grouped(getattr(self, field))
        if field == "bytes":
            return f"{self.bytes} {BYTES[str(self.bytes)]}"
        return f"{self.cosine:g}" if field == "cosine" else self.loss

    def typed(self, field: str, text: str) -> Limits:
        """These limits with one field as typed. UsageError with a sentence where it cannot be meant."""
        text = text.strip()
        shown = clean(text) or "nothing"
        if field == "classes":
            return replace(self, classes=parse_count(text))
        if field == "most":
            return replace(self, most=parse_count(text, "n"))
        if field == "cosine":
            value = math.nan
            with contextlib.suppress(ValueError):
                value = float(text.replace("−", "-"))
            if math.isnan(value):
                raise UsageError(f"cosine: {shown} is not a number from -1 to 1")
            if not -1 <= value <= 1:
                why = "above 1, where all vectors may be equal" if value > 1 else "below -1, no cosine is"
                raise UsageError(f"cosine: {value:g} is {why}")
            return replace(self, cosine=value)
        if field == "bytes":
            first = text.partition(" ")[0]
            number = next((number for number, word in BYTES.items() if first in (number, word)), None)
            if number is None:
                raise UsageError(f"bytes per number: {shown} is none of {', '.join(BYTES)}")
            return replace(self, bytes=int(number))
        loss = text if text in LOSSES else next((loss for loss in LOSSES if text and loss.startswith(text)), None)
        if loss is None:
            raise UsageError(f"loss: {shown} is none of {', '.join(LOSSES)}")
        return replace(self, loss=loss)


@dataclass(frozen=True)
class Row:
    """One system at its smallest n for the classes; `size` and `database` are the bytes of one embedding, of all."""

    known: VectorSystem
    classes: int
    near: tuple[float, float] | None
    outside: bool
    sure: float
    size: int

    @property
    def system(self) -> str:
        return self.known.name

    @property
    def n(self) -> int:
        return self.known.n

    @property
    def used(self) -> float:
        return self.classes / self.known.count

    @property
    def crowding(self) -> tuple[float, bool] | None:
        """The mean of exp(16 cos) over pairs of vectors, and whether it is an estimate. None while it is not counted,
        by another process, where it takes long or needs the rows. NaN where it is not known."""
        key, family = (self.system, self.n, self.known.count), family_of(self.system)
        if self.system == "planar" and self.known.count > MANY_ANGLES:
            return math.nan, False
        if key not in CROWDING:
            if family is None or family.is_table or family.slow_histogram:
                return None
            CROWDING[key] = self.known.crowding(SCALE)
        return CROWDING[key]

    @property
    def database(self) -> int:
        return self.size * self.classes


@lru_cache(maxsize=4096)
def facts_at_n_min(system: str, classes: int, cosine: float) -> VectorSystem | str:
    """A system at its smallest n for the classes and the largest cosine, or the sentence that no n holds them."""
    try:
        return at_n_min(system, classes, cosine)
    except UsageError as error:
        return str(error)


def rows_of(limits: Limits, systems: Iterable[str] | None = None) -> list[Row]:
    """One row per system that holds the classes; `outside` those beyond the largest cosine or the largest n."""
    names = listed() if systems is None else systems
    found = [facts_at_n_min(name, limits.classes, limits.cosine) for name in names]
    return [row_of(known, limits) for known in found if not isinstance(known, str)]


def row_of(known: VectorSystem, limits: Limits) -> Row:
    """The row of a system whose facts are known."""
    near = known.used_neighbours(limits.classes)
    beyond = not known.max_cosine <= limits.cosine + 1e-12 or known.n > limits.most or known.count < limits.classes
    return Row(known, limits.classes, near, beyond, sure_below(known, limits.loss), limits.bytes * known.n)


def sure_below(known: VectorSystem, loss: str) -> float:
    """The loss of one image under which its label is right, for centres of length 1 and no cluster radius.

    At half the smallest angle a: 1 - cos a; exp(sin a) - 1, sin a being the least distance from there to the centre
    ((7) of arXiv:2510.04090); or their sum. NaN where the angle is not known.
    """
    half = math.radians(known.min_angle_deg) / 2
    cosine, distance = known.guaranteed_below, math.expm1(math.sin(half))
    return {"cosine": cosine, "distance": distance}.get(loss, cosine + distance)


_KEYS: dict[str, Callable[[Row], tuple[object, ...]]] = {
    "system": lambda r: (r.system,),
    "n": lambda r: (r.n,),
    "vectors": lambda r: (r.known.count,),
    "used": lambda r: (r.used,),
    "cos": lambda r: (r.known.max_cosine,),
    "crowd": lambda r: (False, r.crowding[0]) if r.crowding and r.crowding[0] >= 0 else (True, 0.0),
    "angle": lambda r: (r.known.min_angle_deg,),
    "near": lambda r: (r.near is None, r.near[1] if r.near else 0.0),
    "sure": lambda r: (r.sure,),
    "rank": lambda r: (r.known.rank,),
    "bytes": lambda r: (r.size,),
    "database": lambda r: (r.database,),
}


def ordered(rows: Sequence[Row], column: str, inverted: bool) -> list[Row]:
    """Those within the limits, then those outside, each by the column."""
    out = sorted(rows, key=lambda r: (_KEYS[column](r), r.n, r.system), reverse=inverted)
    return sorted(out, key=lambda r: r.outside)


def none_within(rows: Sequence[Row], limits: Limits) -> str:
    """The sentence where no system is within the limits, "" where one is."""
    if not rows or any(not row.outside for row in rows):
        return ""
    best = min(rows, key=lambda r: (r.known.max_cosine, r.n))
    n = f" and n <= {limits.most}" if best.known.max_cosine <= limits.cosine + 1e-12 else ""
    return (
        f"No system holds {grouped(limits.classes)} classes at cosine <= {limits.cosine:g}{n}. "
        f"The closest: {best.system}, {best.known.max_cosine:.3g} at n = {best.n}"
    )


def wanted(words: str) -> tuple[str, ...]:
    """The systems of a filter: the listed ones whose name holds a word, and any other system that is named whole,
    unless its facts do not follow from its name (a plugin's, a table's)."""
    parts = words.split()
    if not parts:
        return listed()
    found = [system for system in listed() if any(part.lower() in system.lower() for part in parts)]
    for part in parts:
        family = family_of(part) if is_known(part) else None
        found += [part] if family is not None and not family.is_table else []
    return tuple(dict.fromkeys(found))


def table_csv(rows: Sequence[Row], limits: Limits) -> str:
    """The table as CSV, exact numbers."""
    head = "system n count in_use max_cosine crowding min_angle_deg near_least near_most sure_below_{} rank "
    head += "bytes_per_vector database_bytes label source within_limits"
    lines: list[list[object]] = [[*head.format(limits.loss).split()]]
    for row in rows:
        known, (low, high) = row.known, row.near or ("", "")
        cells = [row.system, row.n, known.count, f"{row.used:.6g}", f"{known.max_cosine:.9g}"]
        cells.append("" if row.crowding is None else f"{row.crowding[0]:.6g}")
        cells += [f"{known.min_angle_deg:.6g}", low, high, f"{row.sure:.6g}", known.rank, row.size, row.database]
        lines.append([*cells, known.decode, known.source, str(not row.outside).lower()])
    return csv_text(lines)


def read_file(name: str) -> VectorSystem | str:
    """What `lsc-engine vectors file:PATH` says of a file: its facts, or the sentence why not."""
    try:
        path = user_path(name.removeprefix("file:")).absolute()
        count, n = table_shape(path)
        options = ("--n", str(n), "--scale", str(SCALE), "--json")
        argv = python_command("-m", "lsc_engine", "vectors", f"file:{path}", *options)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=FILE_SECONDS, stdin=subprocess.DEVNULL)
        if done.returncode:
            words = (done.stderr.strip().splitlines() or [f"{path}: not read"])[-1]
            return clean(words).removeprefix("error: ").replace(f"{path}", path.name)
        found = json.loads(done.stdout)
        CROWDING[name, n, count] = (found["crowding"], found["crowding_sampled"])
        # Of the rounded numbers the angle is the more exact one.
        return Table(name, n, count, math.cos(math.radians(found["min_angle_deg"])))
    except subprocess.TimeoutExpired:
        return f"{Path(name).name}: not read within {FILE_SECONDS:.0f} s"
    except (ValueError, KeyError, OSError, UsageError) as error:
        return clean(error)
