"""Own backbones, systems, losses and data sets from `--plugin FILE.py` on the command line.

A plugin is code, so only the user who starts a run names it: never a preset or a run folder. It calls
`register(kind, name, factory)`; installed packages use the entry points `lsc_engine.models`, `.systems`, `.losses` and
`.datasets`. Arguments and result of a factory of each kind:

    models    (channels, size, dim, width, **model.args) -> nn.Module: images [B, C, H, W] in [-1, 1] -> [B, dim]
    systems   (n, classes) -> lsc_engine.vectors.VectorSystem
    losses    (system) -> callable or nn.Module: embeddings [B, n] float32, vector indices [B] int64 -> losses [B]
    datasets  (split, unique, count, size, path, data_dir, device) -> lsc_engine.data.source.ImageSource, or None if
              there are no validation images; its attribute `facts` is a lsc_engine.data.dataset.Facts with the number
              of images of each class (`class_images`, `class_val_images`) if classes differ in size.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable
from pathlib import Path

from lsc_engine.common.errors import UsageError
from lsc_engine.registry import REGISTRIES, Factory, Registry


def register(kind: str, name: str, factory: Factory) -> None:
    """Add `factory` as `name` to `kind` (models, systems, losses, datasets) in this process."""
    if kind not in REGISTRIES:
        raise UsageError(f'register: "{kind}" is not a kind. Allowed: {", ".join(REGISTRIES)}')
    REGISTRIES[kind].factories[name] = factory


def look_only(files: Iterable[Path]) -> None:
    """For viewers: read the names that `files` register by `register("kind", "name", …)`, and run no plugin in this
    process. UsageError for a file that is missing or not Python."""
    Registry.names_only = True
    for file in files:
        try:
            tree = ast.parse(file.read_bytes(), str(file))
        except (OSError, SyntaxError, ValueError) as error:
            raise UsageError(f"--plugin: {file}: {getattr(error, 'strerror', None) or error}") from None
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            match [argument.value for argument in call.args[:2] if isinstance(argument, ast.Constant)]:
                case [str(kind), str(name)] if function == "register" and kind in REGISTRIES:
                    REGISTRIES[kind].announced.add(name)


def load_plugins(files: Iterable[Path]) -> None:
    """Run each file. UsageError for one that is missing or fails."""
    for file in files:
        if not file.is_file():
            raise UsageError(f"--plugin: {file} is not a file")
        spec = importlib.util.spec_from_file_location(f"lsc_plugin_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise UsageError(f"--plugin: {file} is not a Python file, whose name ends in .py")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise UsageError(f"--plugin: {file}: {type(error).__name__}: {error}") from error
