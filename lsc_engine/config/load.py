"""Finding and reading presets: files, own presets ($LSC_PRESETS, else ./presets), and those that ship."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsc_engine.common.formatting import quoted
from lsc_engine.config.build import build, sections_of
from lsc_engine.config.faults import Fault, PresetError
from lsc_engine.config.head import check_head
from lsc_engine.config.merge import Table, lookup
from lsc_engine.config.schema import Preset, RunConfig, read_toml
from lsc_engine.errors import UsageError, did_you_mean
from lsc_engine.userpaths import user_path

LARGEST_FILE = 1 << 20
# Preset -> measured minutes, written by benchmarks/papers.py.
TIMES = "times.json"


@dataclass(frozen=True)
class PresetInfo:
    """One preset of a list, read but not checked. `fault` says why its file cannot be read."""

    name: str
    folder: str
    stem: str
    path: Path
    title: str
    source: str
    claim: str
    dataset: str
    kind: str
    own: bool = False
    fault: str = ""
    minutes: float | None = None
    """How long it took where it was measured (times.json beside the presets)."""


@dataclass(frozen=True)
class Document:
    """A preset file as read: where it is, the study name it stands for, its text and tables."""

    path: Path
    name: str
    text: str
    raw: dict[str, Any]


def load_preset(ref: str | Path) -> Preset:
    """A preset by file or by shipped name, checked. UsageError with all faults of the whole file at once."""
    document = read_document(ref)
    return checked(document.raw, document)


def checked(raw: Table, document: Document, only: Collection[str] | None = None, record: bool = False) -> Preset:
    """The preset of tables that came from `document`. PresetError with all faults. `only`, `record`: see build."""
    built = build(raw, file=str(document.path), name=document.name, text=document.text, only=only, record=record)
    if built.preset is None:
        raise PresetError(str(document.path), built.faults)
    return built.preset


def check_text(text: str, name: str = "preset") -> tuple[Preset | None, tuple[Fault, ...], tuple[Fault, ...]]:
    """Preset (None where there are faults), faults and warnings of TOML text that is not in a file yet."""
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        return None, (Fault("", f"not TOML: {error}"),), ()
    built = build(raw, file=f"{name}.toml", name=name, text=text)
    return built.preset, tuple(built.faults), tuple(built.warnings)


def read_document(ref: str | Path) -> Document:
    """Find and read a preset without checking it. UsageError where there is none, or no TOML."""
    path, name = find_preset(ref)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"{path}: is larger than 1 MB, no preset is")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    text, raw = read_toml(path)
    return Document(path, name, text, raw)


def find_preset(ref: str | Path) -> tuple[Path, str]:
    """File and study name of a preset. UsageError with the nearest names where there is none."""
    text = str(ref)
    shown = quoted(text)
    if not text or "\0" in text:
        raise UsageError(f"PRESET {shown}: a file or the name of a preset is needed")
    path = user_path(text)
    try:
        is_file = path.is_file()
    except OSError:
        is_file = False
    if is_file:
        shipped = next((info for info in shipped_presets() if info.path.resolve() == path.resolve()), None)
        return path, shipped.name if shipped else path.stem
    listed = list_presets()
    hits = [info for info in listed if text in (info.name, f"{info.folder}/{info.stem}")]
    hits = hits or [info for info in listed if text == info.stem]
    own = [info for info in hits if info.own]
    hits = own if len(own) == 1 else hits
    if len(hits) == 1:
        return hits[0].path, hits[0].name
    if hits:
        raise UsageError(f"PRESET {shown}: {len(hits)} presets have this name: {', '.join(i.name for i in hits)}")
    if path.suffix == ".toml" or len(path.parts) > 2:
        raise UsageError(f"PRESET {shown}: there is no such file")
    near = did_you_mean(text, sorted({i.name for i in listed} | {i.stem for i in listed}))
    raise UsageError(f"PRESET {shown}: neither a file nor the name of a preset; {near or 'see lsc-engine presets'}")


def list_presets() -> tuple[PresetInfo, ...]:
    """Shipped presets, then one's own."""
    shipped = shipped_presets()
    return (*shipped, *own_presets())


def shipped_presets() -> tuple[PresetInfo, ...]:
    """The presets that come with the package, by folder and name."""
    folder = shipped_folder()
    return _listed(folder, own=False) if folder else ()


def own_presets() -> tuple[PresetInfo, ...]:
    """The presets in $LSC_PRESETS, else ./presets; none where that is the shipped folder."""
    folder, shipped = own_folder(), shipped_folder()
    if shipped is not None and folder.is_dir() and folder.resolve() == shipped.resolve():
        return ()
    return _listed(folder, own=True)


def own_folder() -> Path:
    """Where one's own presets live."""
    return user_path(os.environ.get("LSC_PRESETS") or "presets")


def shipped_folder() -> Path | None:
    """`lsc_engine/presets` of an installed wheel, else `presets` beside the package in a source tree."""
    package = Path(__file__).resolve().parents[1]
    for folder, mark in (
        (package / "presets", package),
        (package.parent / "presets", package.parent / "pyproject.toml"),
    ):
        if folder.is_dir() and mark.exists():
            return folder
    return None


def _listed(folder: Path, *, own: bool) -> tuple[PresetInfo, ...]:
    try:
        files = sorted([*folder.glob("*.toml"), *folder.glob("*/*.toml")], key=lambda p: (p.parent != folder, str(p)))
    except OSError:
        return ()
    times = {} if own else _times(folder)
    return tuple(_info(path, folder, own, times) for path in files if path.is_file() and not path.name.startswith("."))


def _times(folder: Path) -> dict[str, Any]:
    try:
        read = json.loads((folder / TIMES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _info(path: Path, folder: Path, own: bool, times: dict[str, Any]) -> PresetInfo:
    inside = "" if path.parent == folder else path.parent.name
    name = f"{inside}/{path.stem}" if inside and not own else path.stem
    raw: dict[str, Any] = {}
    fault = ""
    try:
        _, raw = read_toml(path)
    except UsageError as error:
        fault = str(error)

    def word(key: str, default: str = "") -> str:
        value = lookup(raw, key)
        return value if isinstance(value, str) else default

    return PresetInfo(
        name=name,
        folder=inside,
        stem=path.stem,
        path=path,
        title=word("title", path.stem),
        source=word("source"),
        claim=word("claim"),
        dataset=word("data.dataset") or _first_dataset(raw),
        kind=word("kind", "train"),
        own=own,
        fault=fault,
        minutes=float(times[name]) if isinstance(times.get(name), int | float) else None,
    )


def _first_dataset(raw: Table) -> str:
    variants = raw.get("variants")
    found = [lookup(v, "data.dataset") for v in variants if isinstance(v, dict)] if isinstance(variants, list) else []
    return next((name for name in found if isinstance(name, str)), "")


def parse_run(path: Path) -> RunConfig:
    """The RunConfig of a run's preset.toml, with or without its data. PresetError with all faults where it is none."""
    text, raw = read_toml(path)
    head = check_head(raw)
    if head.record is None:
        faults = head.faults or [Fault("run", "is missing: this is a preset, not the record of a run")]
        raise PresetError(str(path), faults)
    preset = checked(raw, Document(path, path.stem, text, raw), record=True)
    settings = preset.variants[0].settings
    return RunConfig(
        **{name: getattr(settings, name) for name in (*sections_of(settings.model_dump()), "start_from")},
        study=head.record.study,
        variant=head.record.variant,
        label=head.record.label,
        seed=preset.seeds[0],
        title=preset.title,
        source=preset.source,
        claim=preset.claim,
        compare=preset.compare,
        provenance=preset.provenance,
    )
