"""The way of a study from `lsc-engine run PRESET` to the first step of its optimizer: how many files it passes, and how
often it turns back up, followed through a real run."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from lsc_engine.cli.commands.train import run
from lsc_engine.cli.options import StudyOptions, TrainingOptions
from lsc_engine.config.preset import Preset, PresetFile
from lsc_engine.config.schema import Settings
from lsc_engine.studies.plan import RunPlan, StudyPlan
from lsc_engine.studies.prepare import StudyRun
from lsc_engine.training.context import RunContext
from lsc_engine.training.step import AdamW
from tests.tiny import tiny

ROOT = Path(__file__).resolve().parents[2]
# What a study is on its way: never a part of its settings alone.
STUDY = (StudyOptions, PresetFile, Preset, Settings, StudyPlan, RunPlan, StudyRun, RunContext)


class FirstStepError(BaseException):
    """The optimizer is about to step."""


@dataclass
class Way:
    """Follows the calls of this thread. `files`: those with a function that was called with the study, or with the
    preset's name, in the order in which they got it; the ground floor `common` knows no study. A climb is a call into a
    file of a higher floor, or the return of the study from a lower floor to a file that it had left."""

    preset: str
    floors: dict[str, int]
    files: list[str] = field(default_factory=list)
    climbs: list[tuple[str, str]] = field(default_factory=list)
    at: str = ""

    def follow(self, frame: FrameType, event: str, _: Any) -> None:
        name = self.own(frame)
        if event != "call" or name is None:
            return
        caller = next((found for found in map(self.own, outer(frame)) if found is not None), None)
        if caller is not None and self.floor(caller) < self.floor(name):
            self.climbs.append((caller, name))
        if name != caller and self.floor(name) and any(map(self.is_study, arguments(frame))):
            if self.at and name in self.files and self.floor(self.at) < self.floor(name):
                self.climbs.append((self.at, name))
            self.files += [name] if name not in self.files else []
            self.at = name

    def own(self, frame: FrameType) -> str | None:
        """The file of a function of the engine, below its folder."""
        path, root = frame.f_code.co_filename, f"{ROOT}/lsc_engine/"
        return path.removeprefix(root) if path.startswith(root) and frame.f_code.co_name != "<module>" else None

    def floor(self, name: str) -> int:
        """The floor of a file; 0 for those that may be imported from all of them."""
        return self.floors.get(name.removesuffix(".py").split("/")[0], 0)

    def is_study(self, value: object) -> bool:
        first = value[0] if isinstance(value, list | tuple) and value else value
        return isinstance(first, STUDY) or (isinstance(value, str | Path) and str(value) == self.preset)


def outer(frame: FrameType) -> Iterator[FrameType]:
    """The frames that led to this one, the nearest first; none for what an import calls."""
    found = []
    while (back := frame.f_back) is not None:
        if "importlib" in back.f_code.co_filename:
            return
        found.append(back)
        frame = back
    yield from found


def arguments(frame: FrameType) -> Sequence[object]:
    """What a function was called with, but for the object whose method it is."""
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return [frame.f_locals.get(name) for name in names if name != "self"]


def test_a_study_reaches_its_first_step_by_a_short_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = contracts[0]["layers"][::-1]
    floors = {part.strip().removeprefix("lsc_engine."): i for i, row in enumerate(rows) for part in row.split("|")}
    (preset := tmp_path / "tiny.toml").write_text(tiny())
    way = Way(str(preset), floors)

    def end(*_: object) -> None:
        sys.setprofile(None)
        raise FirstStepError

    monkeypatch.setattr(AdamW, "step", end)
    before = sys.getprofile()
    sys.setprofile(way.follow)
    try:
        with pytest.raises(FirstStepError):
            run(StudyOptions(str(preset)), TrainingOptions(runs_dir=tmp_path / "runs", device="cpu"))
    finally:
        sys.setprofile(before)
    assert way.files[0] == "cli/commands/train.py"
    assert "training/trainer.py" in way.files
    assert len(way.files) <= 20, way.files
    assert len(way.climbs) <= 6, way.climbs
