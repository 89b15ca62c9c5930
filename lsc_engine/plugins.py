"""Own backbones, systems, losses and data sets, brought by `--plugin FILE.py` on the command line.

A plugin is code, so it is only ever named by the user who starts a run: never by a preset or a run folder. It registers
what it brings by calling `register(kind, name, factory)`; installed packages do the same by entry points
`lsc_engine.models`, `.systems`, `.losses` and `.datasets`. What a factory of each kind is called with and makes:

    models    (channels, size, dim, width, **model.args) -> nn.Module: images [B, C, H, W] in [-1, 1] -> [B, dim]
    systems   (n, classes) -> lsc_engine.vectors.VectorSystem
    losses    (system) -> callable or nn.Module: embeddings [B, n] float32, vector indices [B] int64 -> losses [B]
    datasets  (split, unique, count, size, path, data_dir, device) -> lsc_engine.data.ImageSource, or None where there
              are no validation images; its attribute `facts` is a lsc_engine.config.datasets.Facts, which tells the
              images of each class (`class_images`, `class_val_images`) where classes differ in size.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from lsc_engine.errors import UsageError

KINDS = ("models", "systems", "losses", "datasets")
_registered: dict[tuple[str, str], Callable[..., Any]] = {}
# Names read from files that are not run, and whether this process runs no plugin at all: a viewer.
_announced: set[tuple[str, str]] = set()
_looking: list[bool] = []


def register(kind: str, name: str, factory: Callable[..., Any]) -> None:
    """Make `factory` known as `name` among `kind` (models, systems, losses, datasets) in this process."""
    if kind not in KINDS:
        raise UsageError(f'register: "{kind}" is not a kind. Allowed: {", ".join(KINDS)}')
    _registered[kind, name] = factory


def look_only(files: Iterable[Path]) -> None:
    """For viewers: from now on no plugin is run in this process. What `files` register by `register("kind", "name",`
    is known by name alone. UsageError for a file that is missing or no Python."""
    _looking[:] = [True]
    for file in files:
        try:
            tree = ast.parse(file.read_bytes(), str(file))
        except (OSError, SyntaxError, ValueError) as error:
            raise UsageError(f"--plugin: {file}: {getattr(error, 'strerror', None) or error}") from None
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            given = [arg.value for arg in call.args[:2] if isinstance(arg, ast.Constant)]
            if called == "register" and len(given) == 2 and given[0] in KINDS and isinstance(given[1], str):
                _announced.add((given[0], given[1]))


def names(kind: str) -> list[str]:
    """The names brought for `kind`, by plugins and by installed packages; nothing is imported."""
    installed = {point.name for point in entry_points(group=f"lsc_engine.{kind}")}
    return sorted(installed | {name for k, name in {*_registered, *_announced} if k == kind})


def find(kind: str, name: str) -> Callable[..., Any] | None:
    """The factory of that name, or None."""
    if (kind, name) in _registered:
        return _registered[kind, name]
    for point in entry_points(group=f"lsc_engine.{kind}"):
        if point.name == name:
            factory: Callable[..., Any] = point.load()
            return factory
    return None


def load(kind: str, name: str, key: str) -> Callable[..., Any]:
    """The factory of that name, imported now. UsageError, at preset key `key`, where it fails or there is none."""
    if _looking and name in names(kind):
        raise UsageError(f'{key}: "{name}" comes from a plugin, and viewers run none; start it with lsc-engine run')
    try:
        factory = find(kind, name)
    except Exception as error:  # a plugin may fail in any way; the sentence says which one and how
        raise UsageError(f'{key}: plugin "{name}" does not load: {type(error).__name__}: {error}') from error
    if factory is None:
        raise UsageError(f'{key}: no plugin offers "{name}"')
    return factory


def load_plugins(files: Iterable[Path]) -> None:
    """Run each file. UsageError for one that is missing or fails."""
    for file in files:
        if not file.is_file():
            raise UsageError(f"--plugin: {file} is not a file")
        spec = importlib.util.spec_from_file_location(f"lsc_plugin_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise UsageError(f"--plugin: {file}: {type(error).__name__}: {error}") from error
