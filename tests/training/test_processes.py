"""One run on several processes: its parts, the same weights on any number of them, and ends of all kinds."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor, nn

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.mirrors.follow import place_of
from lsc_engine.mirrors.supervise import states
from lsc_engine.runs.folder import requests
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies.plan import plan_study
from lsc_engine.training.mesh import ALONE, Mesh, PartedGradient, _srun_environment
from lsc_engine.training.step import MicroBatches
from tests import processes
from tests.leftovers import end_processes_in
from tests.mirrored import assert_same, logged, read_back
from tests.waiting import wait_until

PRESET = """
[data]
dataset = "digits"
labels = "unique"
classes = 200
augment = "light1"
{data}
[model]
{model}
dim = "min"
[target]
method = "lsc"
system = "V21"
[optimizer]
lr = 3e-4
[train]
duration = "24 steps"
batch_size = 16
parts = 4
deterministic = true
[log]
every = "4 steps"
[eval]
every = "12 steps"
embeddings = "off"
[checkpoint]
every = "5 steps"
"""
MODELS = {
    "encoder": ('name = "encoder"\nwidth = 0.25', ""),
    "mlp": ('name = "mlp"', ""),
    "vit": (
        'name = "timm:vit_tiny_patch16_224"\nargs = { patch_size = 8, embed_dim = 48, depth = 2, num_heads = 2, '
        "drop_rate = 0.2, drop_path_rate = 0.2 }",
        "image_size = 16",
    ),
}
RUN = "t/default/seed-0"


def preset(folder: Path, kind: str) -> Path:
    model, data = MODELS[kind]
    file = folder / "t.toml"
    file.write_text(PRESET.format(model=model, data=data))
    return file


def start(folder: Path, runs: str, count: int) -> subprocess.Popen[bytes]:
    words = ["run", "t.toml", "--runs-dir", runs, "--device", "cpu", "--gpus-per-run", str(count)]
    with open(folder / f"{runs}.log", "ab") as log:
        return processes.start(*words, cwd=folder, stdout=log, stderr=log)


@pytest.mark.slow
def test_processes_of_one_run_have_one_mirror(tmp_path: Path) -> None:
    """`log.also` on two processes: one process writes the mirror, each step once."""
    file = preset(tmp_path, "mlp")
    file.write_text(file.read_text().replace("[log]", '[log]\nalso = ["tensorboard"]'))
    try:
        assert start(tmp_path, "runs", 2).wait() == 0, (tmp_path / "runs.log").read_text()
        run = open_run(tmp_path / "runs" / RUN)
        wait_until(lambda: [(s.behind, s.active) for s in states(run.path)] == [(0, False)])
        place = place_of(run.path, "tensorboard")
        assert len(list(place.glob("*tfevents*"))) == 1
        assert_same(read_back("tensorboard", place), logged(run, "tensorboard"), "tensorboard")
    finally:
        end_processes_in(tmp_path)


def result(folder: Path, runs: str) -> tuple[str, list[dict[str, Any]]]:
    """The hash of the last weights, and the metrics without what depends on the clock."""
    run = folder / runs / RUN
    weights = hashlib.sha256((run / "checkpoints/step-00000024/model.safetensors").read_bytes()).hexdigest()
    lines = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        found = {key: value for key, value in json.loads(line).items() if not key.startswith("speed/")}
        # A step that was trained again stands twice.
        lines[found["step"], tuple(sorted(set(found) - {"time", "attempt"}))] = found | {"time": 0, "attempt": 0}
    return weights, [lines[key] for key in sorted(lines)]


def workers(process: psutil.Process) -> list[psutil.Process]:
    """The processes of the run that have begun to train, by rank."""
    found = {}
    for child in process.children(recursive=True):
        try:
            environment = child.environ()
            if "RANK" in environment and "torch.distributed.run" not in child.cmdline():
                found[int(environment["RANK"])] = child
        except psutil.Error:
            continue
    return [found[rank] for rank in sorted(found)]


def wait_for_step(folder: Path, runs: str, step: int) -> None:
    log = folder / runs / RUN / "metrics.jsonl"

    def reached() -> bool:
        return log.is_file() and any(json.loads(line)["step"] >= step for line in log.read_text().splitlines())

    wait_until(reached, (folder / f"{runs}.log").read_text, every=0.02)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def squares(net: Net) -> Any:
    def loss(images: Tensor, target: Tensor) -> Tensor:
        return ((net.net(images) - target) ** 2).mean()

    return loss


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_gradient_and_statistics_are_means_over_the_parts(deterministic: bool) -> None:
    net, images, target = Net(), torch.randn(12, 6), torch.randn(12, 3)
    parted = PartedGradient(net, MicroBatches(net, 3, torch.device("cpu")), ALONE, 4, deterministic)
    seen: list[int] = []
    loss = parted.backward(squares(net), images, target, seen.append, lambda _: None, False)

    other = Net()
    losses, means, variances = [], [], []
    for part in range(4):
        rows = slice(3 * part, 3 * part + 3)
        losses.append(squares(other)(images[rows], target[rows]))
        hidden = other.net[0](images[rows])
        means.append(hidden.mean(0))
        variances.append(hidden.var(0))
    torch.stack(losses).mean().backward()
    assert seen == [0, 1, 2, 3]
    torch.testing.assert_close(loss, torch.stack(losses).mean().detach())
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)
    norm = net.net[1]
    torch.testing.assert_close(norm.running_mean, 0.1 * torch.stack(means).mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * torch.stack(variances).mean(0))
    assert int(norm.num_batches_tracked) == 1


def test_a_failed_part_leaves_everything_as_it_was() -> None:
    net, calls = Net(), []
    before = {name: value.clone() for name, value in net.state_dict().items()}

    def loss(images: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise ValueError("broken")
        return squares(net)(images, target)

    parted = PartedGradient(net, MicroBatches(net, 3, torch.device("cpu")), ALONE, 4, True)
    with pytest.raises(ValueError, match="broken"):
        parted.backward(loss, torch.randn(12, 6), torch.randn(12, 3), lambda _: None, lambda _: None, False)
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Pair(Mesh):
    """The first of two processes; the other one needs four micro-batches."""

    def gather(self, value: Any) -> list[Any]:
        return [value, 4]

    def sum(self, rows: Sequence[Tensor], deterministic: bool) -> Tensor:
        return rows[0]


def test_processes_agree_on_micro_batches_and_stop_where_memory_runs_out_later() -> None:
    net, largest, sentences = Net(), 8, list[str]()

    def loss(images: Tensor, target: Tensor) -> Tensor:
        if len(images) > largest:
            raise torch.OutOfMemoryError("full")
        return squares(net)(images, target)

    micro = MicroBatches(net, 16, torch.device("cpu"))
    parted = PartedGradient(net, micro, Pair(0, 2), 2, True)
    batch = torch.randn(16, 6), torch.randn(16, 3)
    parted.backward(loss, *batch, lambda _: None, sentences.append, False)
    assert (micro.parts, len(sentences)) == (4, 1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    largest = 2
    with pytest.raises(LscError, match="not in the middle of a step of several processes: resume the run"):
        parted.backward(loss, *batch, lambda _: None, sentences.append, False)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 6, 7])
def test_the_tree_is_one_binary_tree_over_the_parts(parts: int) -> None:
    torch.manual_seed(parts)
    rows = list(torch.randn(parts, 50) * 10.0 ** torch.randint(-3, 4, (parts, 1)))

    def tree(level: list[Tensor]) -> Tensor:
        if len(level) == 1:
            return level[0]
        pairs = [level[i] + level[i + 1] for i in range(0, len(level) - 1, 2)]
        return tree(pairs + level[len(level) // 2 * 2 :])

    assert torch.equal(ALONE.sum([row.clone() for row in rows], True), tree(rows))
    torch.testing.assert_close(ALONE.sum([row.clone() for row in rows], False), sum(rows), rtol=1e-4, atol=1e-3)


def test_parts_rows_and_batches_are_dealt_out_once() -> None:
    meshes = [Mesh(rank, 3) for rank in range(3)]
    assert [part for mesh in meshes for part in mesh.own_parts(6)] == list(range(6))
    assert [row for mesh in meshes for row in mesh.own_rows(12)] == list(range(12))


def test_srun_names_the_first_host(monkeypatch: pytest.MonkeyPatch) -> None:
    step = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "77"}
    for name, value in step.items():
        monkeypatch.setenv(name, value)
    for nodes, first in (("gpu[03-05,9],x1", "gpu03"), ("alone", "alone"), ("a,b", "a"), ("n[7]", "n7")):
        monkeypatch.setenv("SLURM_STEP_NODELIST", nodes)
        found = _srun_environment()
        assert (found["MASTER_ADDR"], found["RANK"], found["WORLD_SIZE"], found["LOCAL_RANK"]) == (first, "3", "8", "1")
        assert 20_000 <= int(found["MASTER_PORT"]) < 32_000


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("train.parts=5", "train.parts: 5 does not divide train.batch_size = 16; 4 does"),
        ("train.compile=graphs", 'train.compile: "graphs" replays whole batches'),
        ("train.parts=0", "train.parts"),
        ("target.loss=batch-softmax", "train.parts: batch-softmax compares the images of a batch with each other"),
    ],
)
def test_impossible_parts_are_refused(tmp_path: Path, change: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        plan_study(preset(tmp_path, "mlp"), sets=[change])
    assert any(sentence in fault for fault in refused.value.faults)


@pytest.mark.parametrize("change", ["share=0.5", "center_weight=0.1", "system=running-means"])
def test_class_layers_that_follow_whole_batches_have_no_parts(tmp_path: Path, change: str) -> None:
    file = preset(tmp_path, "mlp")
    file.write_text(
        file.read_text().replace('method = "lsc"\nsystem = "V21"', 'method = "ce"').replace('dim = "min"', "")
    )
    assert plan_study(file).runs[0].config.train.parts == 4
    with pytest.raises(UsageError, match=r"train\.parts: target\.\w+ follows whole batches"):
        plan_study(file, sets=[f"target.{change}"])


def test_parts_of_one_are_no_parts(tmp_path: Path) -> None:
    file = preset(tmp_path, "mlp")
    one = plan_study(file, sets=["train.parts=1", "train.deterministic=false"]).runs[0].config
    file.write_text(file.read_text().replace("parts = 4\ndeterministic = true\n", ""))
    assert one == plan_study(file).runs[0].config


def test_processes_must_divide_the_parts(tmp_path: Path) -> None:
    preset(tmp_path, "mlp")
    process = start(tmp_path, "r", 3)
    assert process.wait() == 2
    text = (tmp_path / "r.log").read_text()
    assert "--gpus-per-run: 3 does not divide train.parts = 4 of t/default/seed-0; take 1, 2, 4" in text
    assert not (tmp_path / "r" / "t").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_weights_and_metrics_are_the_same_on_1_2_and_4_processes(tmp_path: Path, kind: str) -> None:
    preset(tmp_path, kind)
    results = []
    for count in (1, 2, 4):
        assert start(tmp_path, f"r{count}", count).wait() == 0, (tmp_path / f"r{count}.log").read_text()
        results.append(result(tmp_path, f"r{count}"))
    assert results[0] == results[1] == results[2]


@pytest.mark.slow
def test_killed_on_4_and_resumed_on_2_and_1(tmp_path: Path) -> None:
    preset(tmp_path, "encoder")
    assert start(tmp_path, "straight", 1).wait() == 0
    straight = result(tmp_path, "straight")
    moment = random.Random(20261127)
    for number in range(int(os.environ.get("LSC_MESH_KILLS", "2"))):
        runs = f"killed{number}"
        process = start(tmp_path, runs, 4)
        wait_for_step(tmp_path, runs, moment.choice([4, 8, 12, 16]))
        time.sleep(moment.random() / 4)
        victims = workers(psutil.Process(process.pid))
        for victim in moment.sample(victims, moment.randint(1, max(1, len(victims)))):
            victim.kill()
        process.wait()
        processes = 2 - number % 2
        # What the dead left behind may still end for a moment.
        codes = []
        while len(codes) < 5 and 0 not in codes:
            codes.append(start(tmp_path, runs, processes).wait())
        assert 0 in codes, (tmp_path / f"{runs}.log").read_text()
        assert result(tmp_path, runs) == straight


@pytest.mark.slow
def test_a_stop_and_a_lost_process_leave_a_checkpoint_of_the_last_step(tmp_path: Path) -> None:
    file = preset(tmp_path, "encoder")
    file.write_text(file.read_text().replace("24 steps", "100000 steps").replace("5 steps", "60 minutes"))
    for runs, victim, code in (("stopped", None, 143), ("lost", 1, 143)):
        process = start(tmp_path, runs, 2)
        wait_for_step(tmp_path, runs, 4)
        if victim is None:
            requests.request(tmp_path / runs / RUN, "checkpoint")
            wait_until(lambda f=tmp_path / runs / RUN: list(f.glob("checkpoints/step-*/model.safetensors")))
            process.send_signal(signal.SIGTERM)
        else:
            workers(psutil.Process(process.pid))[victim].kill()
        assert process.wait() == code, (tmp_path / f"{runs}.log").read_text()
        status = json.loads((tmp_path / runs / RUN / "status.json").read_text())
        assert status["state"] == "stopped"
        assert status["step"] >= 4
        assert (tmp_path / runs / RUN / f"checkpoints/step-{status['step']:08}").is_dir()
        lost = "another process of this run ended before its time; last good checkpoint step"
        assert status["message"].startswith("stopped at step" if victim is None else lost)
