"""Studies: the same command goes on, other settings are refused, and nothing is created when something is wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from lsc_engine.common.errors import UsageError
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.runs.settings import differing, settings_of
from lsc_engine.studies.prepare import create_study, plan_actions

from .conftest import Settings


@dataclass(frozen=True)
class Planned:
    """A run of a plan."""

    config: Settings
    needs: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.config.study}/{self.config.variant}/seed-{self.config.seed}"


@dataclass(frozen=True)
class PlanOf:
    """A plan of a study."""

    study: str
    runs: tuple[Planned, ...]


def plan(*seeds: int, variants: tuple[str, ...] = ("a", "b"), **changes: object) -> PlanOf:
    base = replace(Settings(study="s"), **changes)  # type: ignore[arg-type]
    runs = tuple(Planned(replace(base, variant=v, seed=seed)) for v in variants for seed in seeds)
    return PlanOf("s", runs)


def end(folder: Path, state: str) -> None:
    RunWriter.open(folder, device="cpu", total_steps=1, echo=False).finish(state, 0)


def test_the_same_command_goes_on(tmp_path: Path) -> None:
    assert [r.action for r in plan_actions(plan(0, 1), tmp_path)] == ["new"] * 4
    assert list(tmp_path.iterdir()) == []
    runs = create_study(plan(0, 1), tmp_path, {"command": "x"})
    end(runs[0].folder, "finished")
    end(runs[1].folder, "stopped")
    end(runs[2].folder, "diverged")
    assert [r.action for r in create_study(plan(0, 1), tmp_path, {})] == ["done", "resume", "done", "resume"]
    with RunWriter.open(runs[3].folder, device="cpu", total_steps=1, echo=False) as writer:
        assert plan_actions(plan(0, 1), tmp_path)[3].action == "busy"
        writer.finish("finished", 0)
    assert [r.action for r in create_study(plan(0, 1, 2, variants=("a",)), tmp_path, {})] == ["done", "resume", "new"]


def test_other_settings_are_refused_with_the_difference_and_a_name(tmp_path: Path) -> None:
    create_study(plan(0), tmp_path, {})
    (tmp_path / "s-2").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=r"optimizer\.lr is 0\.001 there, 0\.01 here.*--name s-3") as caught:
        create_study(plan(0, variants=("c", "a"), lr=1e-2), tmp_path, {})
    assert len(caught.value.faults) == 1
    with pytest.raises(UsageError, match=r"model\.dim is 10 there, 12 here"):
        create_study(plan(7, dim=12), tmp_path, {})
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "s/a/seed-0/preset.toml").write_text("")
    with pytest.raises(UsageError, match=r"s/a/seed-0: preset\.toml is empty; delete this run, or give another --name"):
        plan_actions(plan(0), tmp_path)


def test_foreign_folders_and_names_that_climb_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s/a/seed-0").mkdir(parents=True)
    (tmp_path / "s/a/seed-0/photo.jpg").write_text("mine")
    with pytest.raises(UsageError, match="is not a run"):
        create_study(plan(0), tmp_path, {})
    assert not (tmp_path / "s/b").exists()
    for study in ("../out", "/abs", "a/b/c", "x\x1b[2J", ".hidden", ""):
        bad = PlanOf(study, (Planned(Settings(study=study)),))
        with pytest.raises(UsageError):
            create_study(bad, tmp_path / "runs", {})
    assert not (tmp_path / "runs").exists()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "s2").symlink_to(tmp_path.parent)
    with pytest.raises(UsageError, match="through a link"):
        plan_actions(PlanOf("s2", (Planned(Settings(study="s2")),)), tmp_path)


def test_differing_settings_only() -> None:
    one = settings_of({"title": "x", "seed": 1, "model": {"dim": 3, "name": "mlp"}, "flag": True})
    two = settings_of({"title": "y", "seed": 2, "model": {"dim": 3.0, "name": "vit"}, "flag": 1})
    assert differing([one, two]) == {"model.name": ["mlp", "vit"], "flag": [True, 1]}
