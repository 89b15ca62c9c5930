"""The objects a preset becomes: Preset (a whole file), Variant, and RunConfig (one variant, one seed).

Their sections, with every single setting, are in sections.py and can be imported from here as well.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import Field

from lsc_engine.common.ids import run_id
from lsc_engine.config.reporting import Reporting
from lsc_engine.config.sections import Checkpoint as Checkpoint
from lsc_engine.config.sections import Compare as Compare
from lsc_engine.config.sections import Data as Data
from lsc_engine.config.sections import Eval as Eval
from lsc_engine.config.sections import Log as Log
from lsc_engine.config.sections import Model as Model
from lsc_engine.config.sections import Optimizer as Optimizer
from lsc_engine.config.sections import Section as Section
from lsc_engine.config.sections import Target as Target
from lsc_engine.config.sections import Train as Train
from lsc_engine.config.sections import Tune as Tune
from lsc_engine.errors import UsageError
from lsc_engine.textfiles import decoded


class Settings(Section):
    """Everything that decides a run except its seed, resolved: no setting is left to a default."""

    data: Data
    model: Model
    target: Target
    optimizer: Optimizer
    train: Train
    eval: Eval
    log: Log
    checkpoint: Checkpoint
    start_from: str | None = None

    def flat(self) -> dict[str, Any]:
        """Dotted key -> value of every setting that has one."""
        return flatten(self.model_dump(mode="python", exclude_none=True))


class Variant(Section):
    """One variant of a preset, resolved."""

    name: str
    label: str
    needs: tuple[str, ...] = ()
    settings: Settings


class Preset(Section):
    """A whole, valid preset. `variants` is empty where `kind` is not "train"."""

    name: str
    path: str
    title: str
    source: str = ""
    claim: str = ""
    kind: str = "train"
    seeds: tuple[int, ...] = (0,)
    compare: Compare = Compare()
    provenance: dict[str, str] = Field(default_factory=dict)
    tune: Tune | None = None
    reporting: Reporting = Reporting()
    variants: tuple[Variant, ...] = ()
    warnings: tuple[str, ...] = ()
    text: str = ""

    def variant(self, name: str) -> Variant:
        """The variant called `name`. KeyError without one."""
        return {v.name: v for v in self.variants}[name]


class RunConfig(Settings):
    """The resolved settings of one run: a preset of one variant and one seed, with the name of what it came from."""

    study: str
    variant: str
    label: str
    seed: int
    title: str
    source: str = ""
    claim: str = ""
    compare: Compare = Compare()
    provenance: dict[str, str] = Field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """`study/variant/seed-0`."""
        return run_id(self.study, self.variant, self.seed)

    def settings(self) -> dict[str, Any]:
        """Dotted key -> value of all that decides what the run computes, its seed included; names, words and
        levels are left out. Two runs with equal settings do the same."""
        words = {"study", "variant", "label", "title", "source", "claim", "compare", "provenance"}
        return flatten(self.model_dump(mode="python", exclude_none=True, exclude=words))

    def to_toml(self) -> str:
        """The run's preset.toml: complete, resolved, and itself a preset without variants."""
        whole = self.model_dump(mode="json", exclude_none=True)
        for key in ("source", "claim", "provenance"):
            if not whole[key]:
                del whole[key]
        if not whole["compare"].get("levels"):
            whole["compare"].pop("levels", None)
        identity = {key: whole.pop(key) for key in ("study", "variant", "label")}
        words: dict[str, Any] = {
            key: whole.pop(key) for key in ("title", "source", "claim", "seed", "start_from") if key in whole
        }
        return tomli_w.dumps({**words, "run": identity, **whole})

    @classmethod
    def from_toml(cls, path: str | Path) -> RunConfig:
        """Read a run's preset.toml back. UsageError with all faults where it is none."""
        from lsc_engine.config.load import parse_run

        return parse_run(Path(path))


def flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys; model.args and other free tables are flattened too."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def differences(old: RunConfig, new: RunConfig) -> list[tuple[str, Any, Any]]:
    """(key, old value, new value) of every setting in which two runs differ; None where one has none."""
    a, b = old.settings(), new.settings()
    return [(key, a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Text and tables of a TOML file. UsageError where it cannot be read, with the line of a syntax error."""
    try:
        text = decoded(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return text, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
