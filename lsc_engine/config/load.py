"""Finding and reading presets: files, own presets ($LSC_PRESETS, else ./presets), and those that ship.

A name is matched on the paths alone, so that one file is parsed; `list_presets` reads them all.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.formatting import quoted
from lsc_engine.common.safe_io import parse_toml, read_preset_toml
from lsc_engine.common.settings import Table, lookup
from lsc_engine.common.userpaths import user_path
from lsc_engine.config.expand import build
from lsc_engine.config.preset import Preset, PresetFile
from lsc_engine.config.schema import RunConfig
from lsc_engine.config.validation_errors import PresetError, ValidationIssue

LARGEST_FILE = 1 << 20
# Preset -> measured minutes, written by benchmarks/papers.py.
TIMES = "times.json"


@dataclass(frozen=True)
class PresetPath:
    """Where one preset lies, and its names: `name` is that of its study, `folder` of a shipped one its paper's."""

    name: str
    folder: str
    stem: str
    path: Path
    own: bool


@dataclass(frozen=True)
class PresetInfo(PresetPath):
    """One preset of a list, read but not checked. `fault` says why its file cannot be read; `minutes` how long its
    training took where it was measured (times.json beside the presets)."""

    title: str
    source: str
    claim: str
    dataset: str
    kind: str
    fault: str
    minutes: float | None
    text: str = ""
    raw: Table = field(default_factory=dict)


def load_preset(ref: str | Path) -> Preset:
    """A preset by file or by shipped name, checked. UsageError with all mistakes in the whole file at once."""
    return _checked(read_preset(ref))


def _checked(file: PresetFile, *, record: bool = False) -> Preset:
    preset, issues, _ = build(file, record=record)
    if preset is None:
        raise PresetError(str(file.path), issues)
    return preset


def check_text(
    text: str, name: str = "preset"
) -> tuple[Preset | None, tuple[ValidationIssue, ...], tuple[ValidationIssue, ...]]:
    """Preset (None if it has mistakes), mistakes and warnings of TOML text that is not in a file yet."""
    try:
        raw = parse_toml(text)
    except ValueError as error:
        return None, (ValidationIssue("", str(error)),), ()
    return build(PresetFile(Path(f"{name}.toml"), name, text, raw))


def read_preset(ref: str | Path) -> PresetFile:
    """Find and read a preset without checking it. UsageError if it is missing or not TOML."""
    path, name = find_preset(ref)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"{path}: is larger than 1 MB, no preset is")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    text, raw = read_preset_toml(path)
    return PresetFile(path, name, text, raw)


def find_preset(ref: str | Path) -> tuple[Path, str]:
    """File and study name of a preset. UsageError with the nearest names if no preset matches."""
    text = str(ref)
    where = f"PRESET {quoted(text)}"
    if not text or "\0" in text:
        raise UsageError(f"{where}: a file or the name of a preset is needed")
    path = user_path(text)
    with suppress(OSError):
        if path.is_file():
            known = path.resolve()
            shipped = (one for one in shipped_paths() if one.path.name == known.name and one.path.resolve() == known)
            return path, next((one.name for one in shipped), path.stem)
    listed = [*shipped_paths(), *own_paths()]
    hits = [preset for preset in listed if text in (preset.name, f"{preset.folder}/{preset.stem}")]
    hits = hits or [preset for preset in listed if text == preset.stem]
    own = [preset for preset in hits if preset.own]
    hits = own if len(own) == 1 else hits
    if len(hits) == 1:
        return hits[0].path, hits[0].name
    if hits:
        raise UsageError(f"{where}: {len(hits)} presets have this name: {', '.join(p.name for p in hits)}")
    if os.path.isdir(path):
        raise UsageError(f"{where}: is a folder, not a file")
    if path.suffix == ".toml" or len(path.parts) > 2:
        raise UsageError(f"{where}: there is no such file")
    near = did_you_mean(text, sorted({p.name for p in listed} | {p.stem for p in listed}))
    raise UsageError(f"{where}: neither a file nor the name of a preset; {near}")


def list_presets() -> tuple[PresetInfo, ...]:
    """Shipped presets, then one's own, each file read."""
    return (*shipped_presets(), *(_info(preset, None) for preset in own_paths()))


def shipped_presets() -> tuple[PresetInfo, ...]:
    """The presets that come with the package, by folder and name."""
    try:
        times = json.loads(((shipped_folder() or Path()) / TIMES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        times = {}
    return tuple(_info(preset, times.get(preset.name)) for preset in shipped_paths())


def shipped_paths() -> list[PresetPath]:
    """Where the presets are that come with the package."""
    return [] if (folder := shipped_folder()) is None else _paths(folder, own=False)


def own_paths() -> list[PresetPath]:
    """Where one's own presets are."""
    folder, shipped = own_folder(), shipped_folder()
    same = shipped is not None and folder.is_dir() and folder.resolve() == shipped.resolve()
    return [] if same else _paths(folder, own=True)


def own_folder() -> Path:
    """Where one's own presets live."""
    return user_path(os.environ.get("LSC_PRESETS") or "presets")


def shipped_folder() -> Path | None:
    """`lsc_engine/presets` of an installed wheel, else `presets` beside the package in a source tree."""
    package = Path(__file__).resolve().parents[1]
    source = package.parent / "presets" if (package.parent / "pyproject.toml").exists() else None
    return next((folder for folder in (package / "presets", source) if folder and folder.is_dir()), None)


def _paths(folder: Path, *, own: bool) -> list[PresetPath]:
    try:
        files = sorted([*folder.glob("*.toml"), *folder.glob("*/*.toml")], key=lambda p: (p.parent != folder, str(p)))
    except OSError:
        return []
    found = []
    for path in (path for path in files if path.is_file() and not path.name.startswith(".")):
        inside = "" if path.parent == folder else path.parent.name
        found.append(
            PresetPath(path.stem if own or not inside else f"{inside}/{path.stem}", inside, path.stem, path, own)
        )
    return found


def _info(preset: PresetPath, minutes: Any) -> PresetInfo:
    raw, whole, fault = dict[str, Any](), "", ""
    try:
        whole, raw = read_preset_toml(preset.path)
    except UsageError as error:
        fault = str(error)

    def text(key: str, default: str = "", table: Any = raw) -> str:
        value = lookup(table, key) if isinstance(table, dict) else None
        return value if isinstance(value, str) else default

    several = raw.get("variants")
    datasets = [text("data.dataset", table=table) for table in (raw, *(several if isinstance(several, list) else ()))]
    return PresetInfo(
        **vars(preset),
        title=text("title", preset.stem),
        source=text("source"),
        claim=text("claim"),
        dataset=next(filter(None, datasets), ""),
        kind=text("kind", "train"),
        fault=fault,
        minutes=float(minutes) if isinstance(minutes, int | float) else None,
        text=whole,
        raw=raw,
    )


def load_run_config(path: Path) -> RunConfig:
    """The RunConfig of a run's preset.toml, with or without its data. PresetError with all mistakes."""
    text, raw = read_preset_toml(path)
    if "run" not in raw:
        what = "this is a preset, not the record of a run" if raw else "the file is empty; delete this run"
        missing = ValidationIssue("run", f"is missing: {what}")
        raise PresetError(str(path), [missing])
    preset = _checked(PresetFile(path, path.stem, text, raw), record=True)
    assert preset.record is not None
    return preset.run_config(preset.variants[0].settings, preset.seeds[0], **vars(preset.record))
