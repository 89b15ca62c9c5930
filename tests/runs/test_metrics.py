"""The metrics file: columns, attempts, torn lines, replaced files, garbage, and how much work a long file is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsc_engine.common.safe_io import UnreadableError
from lsc_engine.runs.folder.writer import MetricsLog
from lsc_engine.runs.metrics import reader
from lsc_engine.runs.metrics.parsing import format_line
from lsc_engine.runs.metrics.reader import MetricsTable, MetricsTail, read_last
from tests.counting import bytes_read
from tests.runs.conftest import read_metrics


def lines(count: int, start: int = 1, attempt: int = 1, seed: int = 0) -> bytes:
    """Training lines with an evaluation line every seventh."""
    rng = np.random.default_rng(seed)
    text = []
    for step in range(start, start + count):
        values = {"train/loss": float(rng.random()), "lr": float(10.0 ** -rng.integers(1, 9)), "top1/a": float(step)}
        text.append(format_line(step * 50, step * 0.37, step * 0.11, attempt, values))
        if step % 7 == 0:
            accuracy = {"train/accuracy": float(rng.random()), "top5/a": float(-step)}
            text.append(format_line(step * 50, step * 0.37, step * 0.11, attempt, accuracy))
    return b"".join(text)


def by_json(data: bytes, name: str) -> dict[int, float]:
    """What the rule "latest attempt wins, then the last line" gives, by plain reading."""
    found: dict[int, tuple[int, float]] = {}
    for line in data.splitlines():
        row = json.loads(line)
        if name in row and row["attempt"] >= found.get(row["step"], (0, 0.0))[0]:
            found[row["step"]] = (row["attempt"], row[name])
    return {step: found[step][1] for step in sorted(found)}


def test_large_blocks_give_exactly_what_plain_reading_gives() -> None:
    data = lines(6000) + lines(3000, start=4000, attempt=2, seed=1) + lines(500, start=100, attempt=1, seed=2)
    table = MetricsTable()
    table.add(data)
    for name in ("train/loss", "lr", "train/accuracy", "top1/a", "top5/a"):
        steps, values = table.series(name)
        expected = by_json(data, name)
        assert list(steps) == list(expected)
        assert list(values) == list(expected.values())
    steps, (_, epoch, seconds) = table.columns("train/accuracy", "epoch", "time")
    assert list(epoch) == list({s: e for s, e in by_json(data, "epoch").items() if s in set(steps)}.values())
    assert np.isfinite(seconds).all()
    assert table.garbage == 0
    assert set(table.names) == {"train/loss", "lr", "train/accuracy", "top1/a", "top5/a"}


@pytest.mark.parametrize(
    "bad",
    [
        b'{"step":1 2,"epoch":1,"time":1,"attempt":1,"x":1}',
        b'{"step":12,"epoch":1,"time":1,"attempt":1,"x":}',
        b'{"step":12,"epoch":1.2.3,"time":,"attempt":1,"x":1}',
        b'{"step":-12,"epoch":1,"time":1,"attempt":1,"x":1}',
        b'{"step":1.5,"epoch":1,"time":1,"attempt":1,"x":1}',
        b'{"step":99999999999999999999,"epoch":1,"time":1,"attempt":1,"x":1}',
        b'{5"step":1,"epoch":1,"time":1,"attempt":1,"x":1}',
        b'{"step":1,"epoch":1,"time":1,"attempt":1,"x":1}7',
        b"[]",
        b"\xff\x00\x01",
        b"[" * 100_000,
        b'{"step":' + b"9" * 9000 + b"}",
        b"null",
    ],
    ids=range(13),
)
@pytest.mark.parametrize("position", [0, 3000, 6000])
def test_one_bad_line_among_many_costs_that_line_only(bad: bytes, position: int) -> None:
    good = [format_line(s, s / 7, s / 3, 1, {"x": s / 9}) for s in range(6000)]
    mixed = MetricsTable()
    mixed.add(b"".join([*good[:position], bad + b"\n", *good[position:]]))
    assert (len(mixed), mixed.garbage) == (6000, 1)
    np.testing.assert_array_equal(mixed.series("x")[1], np.arange(6000) / 9)


def test_odd_values_are_left_out_and_the_rest_kept() -> None:
    table = MetricsTable()
    table.add(
        b'{"step":1,"attempt":"x","a":"text","b":true,"c":[1],"d":2,"e":null,"nonfinite":{"e":"inf"},"f":1e999}\n'
    )
    assert table.series("d")[1].tolist() == [2.0]
    assert table.series("e")[1].tolist() == [np.inf]
    assert set(table.names) == {"d", "e", "f"}


def test_swapped_and_colliding_keys_are_not_mixed_up() -> None:
    """Keys that differ in digits only have one form; lines may also hold them in another order."""
    text = [
        b'{"step":%d,"a1":%d,"a2":%d}\n' % ((s, 1, 2) if s % 2 else (s, 3, 4))
        if s % 3
        else b'{"step":%d,"a2":2,"a1":1}\n' % s
        for s in range(20_000)
    ]
    table = MetricsTable()
    table.add(b"".join(text))
    expected = [json.loads(line) for line in text]
    assert table.series("a1")[1].tolist() == [row["a1"] for row in expected]
    assert table.series("a2")[1].tolist() == [row["a2"] for row in expected]


def test_tail_sees_each_row_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    assert tail.poll() == 0
    assert tail.problem == "metrics.jsonl is not there"
    data = lines(50)
    written = 0
    for cut in (10, 11, 200, 201, 1000, 1001, len(data)):
        with open(path, "ab") as file:
            file.write(data[written:cut])
        written = cut
        tail.poll()
        whole = data[:cut].count(b"\n")
        assert len(tail.table) == whole
    assert tail.poll() == 0
    assert (tail.generation, tail.table.garbage, tail.problem) == (0, 0, None)


def test_tail_notices_truncation_replacement_and_rewriting(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(50))
    tail = MetricsTail(path)
    tail.poll()
    path.write_bytes(lines(20, seed=5))
    tail.poll()
    assert (tail.generation, len(tail.table)) == (1, 22)
    other = tmp_path / "other"
    other.write_bytes(lines(80))
    os.replace(other, path)
    tail.poll()
    assert (tail.generation, len(tail.table)) == (2, 91)
    with open(path, "r+b") as file:
        file.write(lines(300, seed=9))
    tail.poll()
    assert (tail.generation, len(tail.table)) == (3, 342)


def test_a_whole_last_line_without_newline_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step":1,"x":1}\n{"step":2,"x":2}')
    tail = MetricsTail(path)
    assert tail.poll() == 2
    with open(path, "ab") as file:
        file.write(b'\n{"step":3,"x":3}\n')
    assert tail.poll() == 1
    assert tail.table.series("x")[0].tolist() == [1, 2, 3]
    assert tail.table.garbage == 0


def test_a_last_line_without_newline_that_is_rewritten_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step":1,"x":1}\n{"step":2,"x":2}')
    tail = MetricsTail(path)
    assert tail.poll() == 2
    path.write_bytes(b'{"step":1,"x":1}\n{"step":9,"x":2}\n')
    tail.poll()
    assert tail.generation == 1
    assert tail.table.series("x")[0].tolist() == [1, 9]


def test_lines_longer_than_ours_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step":1,"x":1}\n' + b"y" * (9 << 20) + b'\n{"step":2,"x":2}\n')
    table = read_metrics(path)
    assert table.series("x")[0].tolist() == [1, 2]
    assert table.garbage == 1
    path.write_bytes(b"z" * (3 << 20))
    assert len(read_metrics(path)) == 0


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to("/dev/zero")
    for path, sentence in ((fifo, "not a regular file"), (link, "is a link"), (tmp_path, "not a regular file")):
        with pytest.raises(UnreadableError, match=sentence):
            read_metrics(path)


def test_last_takes_the_newest_attempt(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step":9,"attempt":1,"x":1,"y":5}\n{"step":4,"attempt":2,"x":2,"epoch":3}\n{"torn')
    assert read_last(path) == {"x": 2.0, "y": 5.0}


def test_log_on_a_full_device_keeps_lines(tmp_path: Path) -> None:
    log = MetricsLog(Path("/dev/full"))
    assert not log.append(b"{}\n")
    assert log.error == "full: No space left on device"
    log._path, log._descriptor = tmp_path / "m", None
    assert log.append(b"[]\n")
    assert (tmp_path / "m").read_bytes() == b"{}\n[]\n"
    log.close()


WRITER = """
import sys
from pathlib import Path
from lsc_engine.runs.folder.writer import MetricsLog
from lsc_engine.runs.metrics.parsing import format_line
log = MetricsLog(Path(sys.argv[1]))
for step in range(1, 20001):
    log.append(format_line(step, 0.1, 0.2, 1, {"x": step * 0.5}))
"""


def test_reading_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    tail = MetricsTail(path)
    polls = 0
    while child.poll() is None:
        tail.poll()
        polls += 1
        steps, values = tail.table.series("x")
        assert np.array_equal(values, steps * 0.5)
        assert np.array_equal(steps, np.arange(1, len(steps) + 1))
    tail.poll()
    assert child.returncode == 0
    assert len(tail.table) == 20000
    assert tail.table.garbage == 0
    assert polls > 3


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from([b"\n", b'{"step":3,"x":1}\n', b'{"step":', b'{"step":1e3,"x":null}\n', b"}\n"]),
        ),
        max_size=30,
    )
)
def test_any_bytes_in_any_pieces_never_raise_and_agree(tmp_path: Path, pieces: list[bytes]) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"")
    tail = MetricsTail(path)
    for piece in pieces:
        with open(path, "ab") as file:
            file.write(piece)
        tail.poll()
    whole = read_metrics(path)
    assert tail.generation == 0
    for name in {*whole.names, *tail.table.names}:
        assert tail.table.series(name)[0].tolist() == whole.series(name)[0].tolist()
        np.testing.assert_array_equal(tail.table.series(name)[1], whole.series(name)[1])


def test_a_long_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks, whose lines do not go through the parser of single lines."""
    path, count = tmp_path / "metrics.jsonl", 200_000
    loss = np.random.default_rng(0).random(count)
    with open(path, "wb") as file:
        for step in range(count):
            file.write(format_line(step * 50, step * 0.0123, step * 0.51, 1, {"train/loss": loss[step], "lr": 1e-4}))
    parsed = []
    monkeypatch.setattr(reader, "parse_line", parsed.append)
    before = bytes_read()
    tail = MetricsTail(path)
    tail.poll()
    steps, values = tail.table.series("train/loss")
    assert bytes_read() - before < 1.1 * path.stat().st_size
    np.testing.assert_array_equal(values, loss)
    assert steps[-1] == (count - 1) * 50
    assert parsed == []
