"""Schedules and seeds are pure functions; what devices are called."""

from __future__ import annotations

import copy
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lsc_engine.registry import MODELS
from lsc_engine.training import devices
from lsc_engine.training.schedule import derive_seed, is_time, learning_rate


def rate(step: int, **changes: Any) -> float:
    return learning_rate(step, **{"base": 1.0, "schedule": "constant", "total": 100, "gamma": 0.1, **changes})


def test_constant_with_warm_up() -> None:
    assert [rate(s, warmup=4) for s in (0, 1, 3, 4, 99)] == [0.25, 0.5, 1.0, 1.0, 1.0]


def test_cosine_falls_from_base_to_zero() -> None:
    assert rate(0, schedule="cosine") == 1.0
    assert rate(50, schedule="cosine") == pytest.approx(0.5)
    assert rate(100, schedule="cosine") == pytest.approx(0.0)
    assert rate(10, schedule="cosine", warmup=10) == 1.0


def test_steps_multiply_at_each_milestone() -> None:
    values = [rate(s, schedule="steps", milestones=(10, 20)) for s in (9, 10, 19, 20)]
    assert values == pytest.approx([1, 0.1, 0.1, 0.01])


def test_is_time_every_so_often_and_at_the_end() -> None:
    assert [s for s in range(1, 11) if is_time(s, 4, 10)] == [4, 8, 10]
    assert [s for s in range(1, 11) if is_time(s, None, 10)] == [10]


def test_seeds_differ_by_purpose_and_number_and_are_fixed_for_ever() -> None:
    seeds = {derive_seed(0, "a"), derive_seed(0, "b"), derive_seed(1, "a"), derive_seed(0, "a", 1)}
    assert len(seeds) == 4
    assert all(0 <= s < 2**63 for s in seeds)
    assert derive_seed(0, "model") == 5775648510612639413


@pytest.mark.parametrize(
    ("name", "width", "size", "batch", "classes", "threads"),
    [
        ("mlp", 1.0, 28, 128, 10, 1),
        ("encoder", 0.25, 8, 64, 10, 1),
        ("encoder", 1.0, 32, 8, 10, 3),
        ("encoder", 1.0, 32, 64, 10, 4),
        ("mlp", 1.0, 28, 128, 10**6, 4),
    ],
)
def test_threads_follow_the_operations_and_counting_them_changes_nothing(
    name: str, width: float, size: int, batch: int, classes: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "THREADS", 4)
    model = MODELS.built_in[name]().build(1, size, 16, width).train()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = devices.cpu_threads(batch * devices.operations(model, 1, size, 17 * classes, torch.device("cpu")))
    assert found == threads
    assert all(module.training for module in model.modules())
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(old, new) for old, new in zip(before.values(), model.state_dict().values(), strict=True))


def test_a_gpu_is_named_with_its_number_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker of --gpus sees it, which is given the fourth GPU alone; and where no driver answers."""
    assert devices.device_name(torch.device("cpu")) == "cpu"
    if torch.cuda.is_available():
        assert re.fullmatch(r".+ \(cuda:\d+\)", devices.device_name(torch.device("cuda")))
    driver = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID={"GPU-5a": "handle of the fourth"}.__getitem__,
        nvmlDeviceGetIndex={"handle of the fourth": 3}.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="5a"))
    assert devices.device_name(torch.device("cuda")) == "NVIDIA H100 (cuda:3)"
    driver.nvmlDeviceGetIndex = {}.__getitem__
    assert devices.device_name(torch.device("cuda")) == "NVIDIA H100 (cuda:0)"
    assert devices.device_name(torch.device("cuda:1")) == "NVIDIA H100 (cuda:1)"
