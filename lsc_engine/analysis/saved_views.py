"""Saved views of a comparison: which runs, against which baseline, at which levels, looked at how. A view is a small
TOML file in `.views` of a runs folder; whoever can read the runs can open it again."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import tomli_w

from lsc_engine.common.errors import LscError
from lsc_engine.common.safe_io import UnreadableError, number_of, read_toml, replace_file, writing
from lsc_engine.runs.folder import layout

VIEWS = ".views"
_MOST = 200


@dataclass(frozen=True)
class SavedView:
    """`runs`: ids; `study`: all runs of a study as well, if set; `levels` empty: those of the presets."""

    name: str
    study: str = ""
    runs: tuple[str, ...] = ()
    baseline: str = ""
    levels: dict[str, list[float]] = field(default_factory=dict)
    metric: str = "train/accuracy"
    axis: str = "epoch"
    log_x: bool = False
    log_y: bool = True
    smoothing: float = 0.0
    band: bool = True


def save_view(root: Path, view: SavedView) -> Path:
    """Write a view into the runs folder `root`, in one step; the file. LscError when it cannot be written."""
    path = root / VIEWS / f"{layout.check_name(view.name, 'view')}.toml"
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        if path.parent.is_symlink():
            raise LscError(f"{path.parent} is a link and is not written through")
        replace_file(path, tomli_w.dumps({**asdict(view), "runs": list(view.runs)}).encode(), durable=False)
    return path


def read_view(path: Path) -> SavedView:
    """The view in a file; what is missing or of a wrong type is as in a new one. UnreadableError."""
    document = read_toml(path)
    values: dict[str, Any] = {
        one.name: document[one.name] for one in fields(SavedView) if type(document.get(one.name)) is type(one.default)
    }
    runs, levels = document.get("runs"), document.get("levels")
    values["runs"] = tuple(run for run in runs if isinstance(run, str)) if isinstance(runs, list) else ()
    values["levels"] = {
        metric: [level for one in numbers if (level := number_of(one)) is not None]
        for metric, numbers in (levels.items() if isinstance(levels, dict) else ())
        if isinstance(numbers, list)
    }
    return SavedView(**values | {"name": path.stem})


def list_views(root: Path) -> list[SavedView]:
    """The readable views of a runs folder, by name."""
    found = []
    with contextlib.suppress(OSError):
        for path in sorted((root / VIEWS).glob("*.toml"))[:_MOST]:
            with contextlib.suppress(UnreadableError):
                found.append(read_view(path))
    return found
