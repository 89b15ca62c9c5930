"""Schedules and seeds are pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from lsc_engine.training import devices
from lsc_engine.training.schedule import is_time, learning_rate
from lsc_engine.training.seeds import derive_seed


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


def test_small_batches_of_small_images_take_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "THREADS", 4)
    assert [devices.cpu_threads(batch, size) for batch, size in ((32, 8), (128, 28), (16, 32), (64, 32))] == [
        1,
        4,
        2,
        4,
    ]
