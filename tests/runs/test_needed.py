"""Runs that others build on: what is missing is named before anything is created, with the command that makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.studies.checks import missing_prerequisites
from lsc_engine.studies.plan import RunPlan, plan_study

BASE = """
[data]
dataset = "digits"
[model]
name = "encoder"
dim = 5
[target]
method = "ce"
[train]
duration = "2 epochs"
"""


def plan(root: Path, *lines: str, name: str = "own") -> RunPlan:
    file = root / f"{name}.toml"
    file.write_text(BASE + '[[variants]]\nname = "x"\n' + "\n".join(lines))
    return plan_study(file).runs[0]


def sentences(root: Path, *lines: str) -> list[str]:
    return missing_prerequisites([plan(root, *lines)], root / "runs")


@pytest.fixture
def teacher(tmp_path: Path) -> RunPlan:
    """A finished run without class means."""
    made = plan(tmp_path, name="taught")
    folder = create_run(tmp_path / "runs" / made.id, made.config, {})
    writer = RunWriter.open(folder, device="cpu", total_steps=1)
    writer.finish("finished", 0, "")
    return made


LSC = ('target.method = "lsc"', 'target.system = "V21"')


@pytest.mark.parametrize(
    ("lines", "key", "command"),
    [
        (('target.teacher = "t/ce/seed-3"',), "target.teacher", "run PRESET --name t --variant ce --seeds 3"),
        (('start_from = "demo/CE-384/seed-0"',), "start_from", "run demo --variant CE-384 --seeds 0"),
        ((*LSC, 'target.order = "nearest:t/ssl/seed-0"'), "target.order", "--seeds 0 --set eval.class_means=true"),
        (('target.method = "lsc"', 'target.system = "embeddings:t/a/seed-0"'), "target.system", "class_means=true"),
        (('start_from = "nobody"',), "start_from", "lsc-engine list"),
    ],
)  # fmt: skip
def test_a_run_that_is_not_there_is_named_with_its_command(
    tmp_path: Path, lines: tuple[str, ...], key: str, command: str
) -> None:
    (sentence,) = sentences(tmp_path, *lines)
    assert sentence.startswith(f"{key}: ")
    assert command in sentence


def test_a_planned_run_is_not_looked_for_and_one_that_has_begun_needs_no_weights(tmp_path: Path) -> None:
    run = plan(tmp_path, 'start_from = "t/ce/seed-0"')
    assert missing_prerequisites([run, RunPlan("t/ce/seed-0", run.config)], tmp_path / "runs") == []
    assert missing_prerequisites([run], tmp_path / "runs", begun=[run.id]) == []


def test_what_an_existing_run_lacks_is_reported(tmp_path: Path, teacher: RunPlan) -> None:
    assert sentences(tmp_path, f'target.teacher = "{teacher.id}"') == []
    (sentence,) = sentences(tmp_path, *LSC, f'target.order = "nearest:{teacher.id}"')
    assert "has no class_means.safetensors" in sentence
    assert "--set eval.class_means=true" in sentence
    (sentence,) = sentences(tmp_path, f'target.teacher = "{teacher.id}"', "data.classes = 4")
    assert "tells 10 classes apart, 4 are needed" in sentence
    (sentence,) = sentences(tmp_path, f'start_from = "{teacher.id}"', 'model.name = "mlp"')
    assert "do not fit mlp" in sentence


def test_a_run_that_is_not_finished_is_named_with_its_command(tmp_path: Path) -> None:
    made = plan(tmp_path, name="taught")
    create_run(tmp_path / "runs" / made.id, made.config, {})
    (sentence,) = sentences(tmp_path, f'target.teacher = "{made.id}"')
    assert f"is queued; finish it first: lsc-engine resume {made.id}" in sentence
