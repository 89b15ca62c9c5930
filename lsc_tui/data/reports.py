"""Studies of the kinds that make a report without training (`vectors`, `data`, `bench`): what they make, what is there.

They have no runs: a study is its preset in `.studies/` and what lies in its folder. Reading is the collector's affair.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsc_engine.common.formatting import grouped
from lsc_engine.common.ids import NAME
from lsc_engine.common.safe_io import UnreadableError, read_toml
from lsc_engine.common.settings import Table, flatten
from lsc_engine.runs.folder.layout import stays_inside
from lsc_engine.runs.read.studies import STUDIES

PAGE = "report.md"
MOST_REPORTS = 300
KINDS = {"vectors": "vector systems", "data": "data sets", "bench": "benchmarks"}


@dataclass(frozen=True)
class Report:
    """A study that has a report and no runs. `made`: when the page was written, None if it is not written yet."""

    key: str
    root: int
    folder: Path
    study: str
    kind: str
    title: str = ""
    claim: str = ""
    source: str = ""
    makes: tuple[tuple[str, str], ...] = ()
    made: float | None = None
    begun: float = 0.0
    files: tuple[str, ...] = ()
    read_only: bool = False

    @property
    def page(self) -> Path:
        return self.folder / self.study / "report" / PAGE

    @property
    def preset(self) -> Path:
        return self.folder / STUDIES / f"{self.study}.toml"


def made_words(raw: Table) -> tuple[tuple[str, str], ...]:
    """What a preset of such a kind makes, as (setting, words); of its table as it is written, checked or not."""
    kind = str(raw.get("kind"))
    table = raw.get("datasets" if kind == "data" else kind)
    flat = flatten(table) if isinstance(table, dict) else {}
    return tuple((key, _listed(value)) for key, value in flat.items() if key != "claims")


def _listed(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    whole = all(isinstance(v, int) for v in value)
    return ", ".join(map(grouped, value)) if whole else " ".join(map(str, value))


class ReportReader:
    """Reads the studies without runs of the runs folders; a preset is parsed again only when its file changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, dict[str, Any]]] = {}

    def scan(self, root: int, folder: Path, with_runs: Collection[str], read_only: bool) -> list[Report]:
        """Those of one runs folder; a file that cannot be read is left out."""
        out: list[Report] = []
        base = folder / STUDIES
        for pattern in ("*.toml", "*/*.toml"):
            for file in base.glob(pattern):
                study = str(file.relative_to(base).with_suffix(""))
                if study in with_runs or not all(NAME.fullmatch(part) for part in study.split("/")):
                    continue
                raw = self._read(folder, file)
                if raw.get("kind") in KINDS:
                    out.append(_report(root, folder, study, raw, read_only))
        return sorted(out, key=lambda report: -report.begun)[:MOST_REPORTS]

    def _read(self, folder: Path, file: Path) -> dict[str, Any]:
        try:
            changed = file.stat().st_mtime_ns
            known = self._known.get(file)
            if known is None or known[0] != changed:
                raw = read_toml(file) if stays_inside(folder, file) else {}
                known = self._known[file] = (changed, raw)
        except (OSError, UnreadableError):
            return {}
        return known[1]


def _report(root: int, folder: Path, study: str, raw: dict[str, Any], read_only: bool) -> Report:
    made, files, begun = None, list[str](), 0.0
    with suppress(OSError):
        begun = (folder / STUDIES / f"{study}.toml").stat().st_mtime
        below = folder / study / "report"
        files = sorted(path.name for path in below.iterdir())[:200] if below.is_dir() else []
        made = (below / PAGE).stat().st_mtime if PAGE in files else None
    kind, title, claim, source = (str(raw.get(name, "")) for name in ("kind", "title", "claim", "source"))
    own = (f"report:{root}:{study}", root, folder, study, kind, title, claim, source)
    return Report(*own, made_words(raw), made, begun, tuple(files), read_only)
