"""Backbones, vector systems, losses and data sets by name.

A built-in one is a class in a file of its own, registered where it is defined:

    @MODELS.register("mlp")
    class MLP(Backbone): ...

It is found because its file lies in the folder of its registry; the file imports torch inside methods only, since
viewers and the command line list registries. Plugin files (plugins.py) and the entry points of installed packages
(`lsc_engine.models`, `.systems`, `.losses`, `.datasets`) add factories to the same registries.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from importlib import metadata
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from lsc_engine.common.errors import UsageError

T = TypeVar("T")
Factory = Callable[..., Any]


@cache
def entry_points(group: str) -> tuple[metadata.EntryPoint, ...]:
    """Those of installed packages. Looking reads a file of each, and each check of a preset looks several times."""
    return tuple(metadata.entry_points(group=group))


class Registry(Generic[T]):
    """The built-in classes of one kind, from the files of the package `folder`, and the factories added by plugins."""

    # Set in viewers, which never run a plugin.
    names_only = False

    def __init__(self, kind: str, folder: str) -> None:
        self.kind, self._folder = kind, folder
        self._classes: dict[str, T] = {}
        self.factories: dict[str, Factory] = {}
        """Those of plugin files."""
        self.announced: set[str] = set()
        """Names in plugin files that were not run."""

    def register(self, *names: str) -> Callable[[T], T]:
        """Decorator: a built-in class under one or several names."""

        def add(built_in: T) -> T:
            self._classes |= dict.fromkeys(names, built_in)
            return built_in

        return add

    @cached_property
    def built_in(self) -> Mapping[str, T]:
        """The built-in classes by name, in the order of their files."""
        for module in pkgutil.iter_modules(importlib.import_module(self._folder).__path__):
            importlib.import_module(f"{self._folder}.{module.name}")
        # A file that another one imports is no earlier in the list for it.
        return MappingProxyType(dict(sorted(self._classes.items(), key=lambda named: named[1].__module__)))

    def plugin_names(self) -> list[str]:
        """The names added by plugin files and by installed packages; nothing is imported."""
        installed = {point.name for point in entry_points(group=f"lsc_engine.{self.kind}")}
        return sorted(installed | self.announced | self.factories.keys())

    def load_plugin(self, name: str, key: str) -> Factory:
        """The factory of a plugin, imported now. UsageError, at preset key `key`, where it fails or is missing."""
        if self.names_only and name in self.plugin_names():
            raise UsageError(f'{key}: "{name}" comes from a plugin, and viewers run none; start it with lsc-engine run')
        try:
            points = (point for point in entry_points(group=f"lsc_engine.{self.kind}") if point.name == name)
            factory: Factory | None = self.factories.get(name) or next((point.load() for point in points), None)
        except Exception as error:  # a plugin may fail in any way; the sentence says which one and how
            raise UsageError(f'{key}: plugin "{name}" does not load: {type(error).__name__}: {error}') from error
        if factory is None:
            raise UsageError(f'{key}: no plugin offers "{name}"')
        return factory


MODELS: Registry[Any] = Registry("models", "lsc_engine.models.backbones")
SYSTEMS: Registry[Any] = Registry("systems", "lsc_engine.vectors.families")
LOSSES: Registry[Any] = Registry("losses", "lsc_engine.heads.losses")
DATASETS: Registry[Any] = Registry("datasets", "lsc_engine.data.datasets")
REGISTRIES = {registry.kind: registry for registry in (MODELS, SYSTEMS, LOSSES, DATASETS)}
