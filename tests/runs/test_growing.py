"""Columns that grow with the file: at every moment what a fresh reading gives, and nothing handed out changes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from lsc_engine.runs.metrics import reader
from lsc_engine.runs.metrics.parsing import format_line
from lsc_engine.runs.metrics.reader import MetricsTable, MetricsTail
from tests.runs.conftest import read_metrics

NAMES = ("train/loss", "val/loss")


def lines(first: int, last: int, attempt: int, seed: int) -> bytes:
    """Log points; every fifth with a validation value besides, every 400th not finite."""
    rng = np.random.default_rng(seed)
    text = []
    for step in range(first, last):
        values = {"train/loss": float("nan") if step % 400 == 7 else round(float(rng.normal()), int(rng.integers(9)))}
        if step % 5 == 0:
            values["val/loss"] = float(rng.normal())
        text.append(format_line(step, step / 16, step * 0.5, attempt, values))
    return b"".join(text)


def assert_same(tail: MetricsTail) -> None:
    whole = read_metrics(tail.path)
    assert set(tail.table.names) == set(whole.names)
    assert tail.table.attempt_starts() == whole.attempt_starts()
    for name in NAMES:
        step, columns = tail.table.columns(name, "epoch", "time")
        expected, others = whole.columns(name, "epoch", "time")
        np.testing.assert_array_equal(step, expected)
        for column, other in zip(columns, others, strict=True):
            np.testing.assert_array_equal(column, other)


@pytest.mark.parametrize("points", [40, 6000], ids=["by line", "by block"])
def test_each_moment_equals_a_fresh_reading(tmp_path: Path, points: int) -> None:
    """Torn lines, a resume that repeats steps, an attempt that logs between older steps, a late line of the first."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"")
    tail = MetricsTail(path)
    half = points // 2
    data = [
        lines(0, points, 1, 0), lines(points, 2 * points, 1, 1), lines(half, points, 2, 2),
        lines(points, 3 * points, 2, 3), lines(3, 9, 1, 4), lines(0, half, 3, 5), lines(3 * points, 4 * points, 3, 6),
    ]  # fmt: skip
    for number, block in enumerate(data):
        cut = len(block) - 9 if number % 2 else len(block) // 3
        for piece in (block[:cut], block[cut:]):
            with path.open("ab") as file:
                file.write(piece)
            tail.poll(1 << 20)
            assert_same(tail)
    assert (tail.generation, tail.table.garbage) == (0, 0)


def test_after_truncation_and_replacement(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(0, 5000, 1, 0))
    tail = MetricsTail(path)
    for generation, block in enumerate([lines(0, 5000, 1, 0), lines(0, 300, 1, 1), lines(0, 9000, 2, 2)]):
        if generation == 2:
            (tmp_path / "other").write_bytes(block)
            os.replace(tmp_path / "other", path)
        else:
            path.write_bytes(block)
        tail.poll()
        assert tail.generation == generation
        assert_same(tail)


def test_what_was_handed_out_stays_as_it_is() -> None:
    table = MetricsTable()
    kept = []
    for number, (first, last, attempt) in enumerate([(0, 900, 1), (900, 1900, 1), (1900, 1910, 1), (500, 2500, 2)]):
        table.add(lines(first, last, attempt, number))
        step, (values,) = table.columns("train/loss")
        kept.append((step, values, step.copy(), values.copy()))
    for step, values, steps, numbers in kept:
        np.testing.assert_array_equal(step, steps)
        np.testing.assert_array_equal(values, numbers)


def test_finished_rows_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look after one more block takes in that block's rows only."""
    table = MetricsTable()
    taken: list[int] = []
    put = reader.ordered

    def counted(columns: list[np.ndarray]) -> list[np.ndarray]:  # type: ignore[type-arg]
        taken.append(len(columns[0]))
        return put(columns)

    monkeypatch.setattr(reader, "ordered", counted)
    for number in range(6):
        table.add(lines(4000 * number, 4000 * (number + 1), 1, number))
        assert len(table.series("train/loss")[0]) == 4000 * (number + 1)
        table.series("train/loss")
    # The rows themselves, and these behind those that were known.
    assert taken == [4000] * 12


def test_a_file_that_is_followed_line_by_line_has_few_parts() -> None:
    table = MetricsTable()
    for number in range(400):
        table.add(lines(number, number + 1, 1, number))
    assert len(table) == 400
    assert len(table._found["train/loss"].parts) < 10
    assert table.series("train/loss")[0].tolist() == list(range(400))


def test_numbers_are_those_of_float() -> None:
    rng = np.random.default_rng(0)
    text = [f"{rng.normal() * 10.0 ** rng.integers(-6, 7):.{places}f}" for places in range(14) for _ in range(400)]
    text += ["0", "-0", "-0.0", "0.1", "999999999999999", "0.00000000000001", "1e-05", "2.5E+3"]
    text += [repr(float(x)) for x in rng.normal(size=300)]
    table = MetricsTable()
    table.add("".join(f'{{"step":{step},"x":{number}}}\n' for step, number in enumerate(text)).encode())
    found = table.series("x")[1]
    assert found.tobytes() == np.array([float(json.loads(x)) for x in text]).tobytes()
