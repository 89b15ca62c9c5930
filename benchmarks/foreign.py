"""Foreign: logs of other tools with a million records, opened in lsc-tui, and read without it beside our own metrics.

Every format gets the same curve. The viewer is measured from outside, as `bench tui` does: seconds from Enter to the
curve over the whole run in Monitor, a key's answer while the rest is read, seconds until all of it is, and the most
memory the process took. Beside it stands the reader alone, as a ratio to our own reader on as many lines.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import statistics
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np

from lsc_engine.bench import Check, Result, Rows, Table
from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.formatting import grouped
from lsc_engine.runs.read.foreign.tensorboard import crc32c
from lsc_engine.runs.read.run import list_runs

from .runs import long_run
from .terminal import Terminal

# Seconds since 1970.
BEGAN = 1_700_000_000
LAST = 0.125
_BLOCK = 32768


def points(records: int) -> Iterator[tuple[int, float]]:
    """Steps and losses of the curve that every log holds; the last value is found nowhere else."""
    return ((step, 0.2 + 0.8 / (1 + step) if step < records - 1 else LAST) for step in range(records))


def write_csv(folder: Path, records: int) -> None:
    """The columns of Lightning's metrics.csv."""
    with (folder / "metrics.csv").open("w") as out:
        out.write("epoch,lr,step,train_loss\n")
        out.writelines(f"{step // 1000},0.001,{step},{loss}\n" for step, loss in points(records))


def write_jsonl(folder: Path, records: int) -> None:
    """Rows of json.dumps."""
    with (folder / "log.jsonl").open("w") as out:
        out.writelines(json.dumps({"step": step, "loss": loss, "lr": 0.001}) + "\n" for step, loss in points(records))


def _varint(number: int) -> bytes:
    low = number & 127
    return bytes([low]) if number < 128 else bytes([low | 128]) + _varint(number >> 7)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _checks(rows: list[bytes]) -> list[bytes]:
    """The checksums of rows of one length, as TensorBoard stores them."""
    crc = crc32c(np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1))
    stored = (crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)
    return [check.tobytes() for check in stored.astype("<u4")]


def write_tensorboard(folder: Path, records: int) -> None:
    """One scalar an event, as SummaryWriter writes them."""
    with (folder / "events.out.tfevents.1700000000.host").open("wb") as out:
        curve = points(records)
        while portion := list(islice(curve, 10_000)):
            events = [
                b"\x09" + struct.pack("<d", BEGAN + step / 50) + b"\x10" + _varint(step)
                + _field(5, _field(1, _field(1, b"train/loss") + b"\x15" + struct.pack("<f", loss)))
                for step, loss in portion
            ]  # fmt: skip
            # Steps rise, and with them lengths.
            for length in sorted({len(event) for event in events}):
                chosen = [event for event in events if len(event) == length]
                head = struct.pack("<Q", length)
                start = head + _checks([head])[0]
                out.writelines(start + event + check for event, check in zip(chosen, _checks(chosen), strict=True))


def write_wandb(folder: Path, records: int) -> None:
    """One record of the history a step."""
    at = 7
    with (folder / "run-abcdefgh.wandb").open("wb") as out:
        out.write(b":W&B" + struct.pack("<HB", 0xBEE1, 0))
        for step, loss in points(records):
            row = {"_runtime": step / 50, "_step": step, "_timestamp": BEGAN + step / 50, "train/loss": loss}
            items = b"".join(
                _field(1, _field(2, name.encode()) + _field(16, repr(n).encode())) for name, n in row.items()
            )
            record = _field(2, items + _field(2, b"\x08" + _varint(step)))
            kind = 1
            while record or kind == 2:
                room = _BLOCK - at % _BLOCK
                if room < 7:
                    out.write(bytes(room))
                    at, room = at + room, _BLOCK
                part, record = record[: room - 7], record[room - 7 :]
                # Whole, or first, middle and last part.
                kind = (2 if kind == 1 else 3) if record else (1 if kind == 1 else 4)
                body = bytes([kind]) + part
                out.write(struct.pack("<IH", zlib.crc32(body), len(part)) + body)
                at += 7 + len(part)


def write_mlflow_files(folder: Path, records: int) -> None:
    """A store with one metric."""
    run = folder / "mlruns" / "1" / ("ab" * 16)
    (run / "metrics" / "train").mkdir(parents=True)
    (run.parent / "meta.yaml").write_text("experiment_id: '1'\nname: exp\n")
    (run / "meta.yaml").write_text(f"run_id: {run.name}\nrun_name: bob\nstart_time: {BEGAN * 1000}\nstatus: 3\n")
    with (run / "metrics" / "train" / "loss").open("w") as out:
        out.writelines(f"{BEGAN * 1000 + 20 * step} {loss} {step}\n" for step, loss in points(records))


MLFLOW = """create table experiments (experiment_id integer primary key, name text);
create table runs (run_uuid text primary key, name text, status text, start_time bigint, lifecycle_stage text,
    experiment_id integer);
create table params (key text, value text, run_uuid text);
create table metrics (key varchar(250) not null, value float not null, timestamp bigint not null,
    run_uuid varchar(32) not null, step bigint not null, is_nan boolean not null,
    primary key (key, timestamp, step, run_uuid, value, is_nan));
create index index_metrics_run_uuid on metrics (run_uuid);
insert into experiments values (1, 'exp');
insert into runs values ('abababab', 'bob', 'FINISHED', 1700000000000, 'active', 1);"""


def write_mlflow(folder: Path, records: int) -> None:
    """The tables of MLflow's SQLite store."""
    rows = (("train/loss", loss, BEGAN * 1000 + 20 * step, "abababab", step, 0) for step, loss in points(records))
    _database(folder / "mlflow.db", MLFLOW, "insert into metrics values (?, ?, ?, ?, ?, ?)", rows)


TRACKIO = """create table metrics (id integer primary key autoincrement, run_id text not null, timestamp text not null,
    run_name text not null, step integer not null, metrics text not null);
create index idx_metrics_run_step on metrics (run_id, step);
create index idx_metrics_run_timestamp on metrics (run_id, timestamp);
create table configs (run_id text, config text);"""


def write_trackio(folder: Path, records: int) -> None:
    """A project of trackio."""
    insert = "insert into metrics (run_id, timestamp, run_name, step, metrics) values (?, ?, ?, ?, ?)"
    times = (datetime.fromtimestamp(BEGAN + step / 50, UTC).isoformat() for step in range(records))
    rows = (
        ("ab12", when, "bob", step, json.dumps({"train/loss": loss}))
        for when, (step, loss) in zip(times, points(records), strict=True)
    )
    _database(folder / "project.db", TRACKIO, insert, rows)


def _database(path: Path, tables: str, insert: str, rows: Iterator[tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(path)) as made:
        made.executescript(f"pragma journal_mode = wal; {tables}")
        with made:
            made.executemany(insert, rows)


FORMATS: dict[str, Callable[[Path, int], None]] = {
    "tensorboard": write_tensorboard,
    "wandb": write_wandb,
    "csv": write_csv,
    "jsonl": write_jsonl,
    "mlflow files": write_mlflow_files,
    "mlflow sqlite": write_mlflow,
    "trackio": write_trackio,
}


def run(*, quick: bool = False, records: int = 1_000_000, only: str = "") -> Result:
    """`records` in each log; `only`: one of the formats."""
    records = 2_000 if quick else records
    if only and only not in FORMATS:
        raise UsageError(f'bench foreign: there is no format "{only}"; {did_you_mean(only, FORMATS)}')
    rows = Rows()
    with tempfile.TemporaryDirectory() as scratch:
        own = Path(scratch) / "own"
        long_run(own, records)
        ours = _read(own)
        for name, write in FORMATS.items():
            if only in ("", name):
                home = Path(scratch) / name
                folder = home / "runs" / "log"
                folder.mkdir(parents=True)
                write(folder, records)
                size = sum(path.stat().st_size for path in folder.rglob("*"))
                opened, keys, whole, memory = _viewer(home, 1 if quick else 5)
                alone = _read(home / "runs")
                rows.append(
                    {"log": name, "MB": size / 1e6, "first curve, s": opened, "key meanwhile, ms": 1000 * keys,
                     "whole curve, s": whole, "memory of the viewer, MB": memory / 1e6,
                     "read without the viewer, s": alone, "times our own metrics": alone / ours}
                )  # fmt: skip
                shutil.rmtree(home)
    count = grouped(records)
    checks = []
    for key, bar, unit in (("first curve", 1.5, "s"), ("key meanwhile", 100, "ms")):
        worst = max(rows, key=lambda row: float(row[f"{key}, {unit}"]))
        figure = float(worst[f"{key}, {unit}"])
        found = f"{figure:.3g} {unit} ({worst['log']})"
        name = f"{count} records, {key}, slowest format"
        checks.append(Check(name, found, f"at most {bar} {unit}", None if quick else figure <= bar))
    notes = [
        f"Our own metrics.jsonl of {count} lines takes {ours:.2f} s. A key's answer is the whole help page, the median "
        "of several. The first curve of a long log is drawn from places all over it."
    ]
    return Result("foreign", checks, [Table("Every format", rows)], notes)


def _viewer(home: Path, keys: int) -> tuple[float, float, float, int]:
    """Seconds from Enter to the first curve, of a key's answer meanwhile, from Enter to the whole curve; bytes."""
    terminal = Terminal.viewer(home / "runs", home)
    try:
        terminal.until("1 run")
        terminal.keys("g\x1b[B")
        terminal.read(0.05)
        terminal.keys("\r")
        began = time.perf_counter()
        terminal.until("a sample, reading on", f"loss {LAST:.4f}".replace("0.", "."))
        opened = time.perf_counter() - began
        taken = statistics.median(terminal.help_page() for _ in range(keys))
        # The last value stands at the very end of the log.
        terminal.until(f"loss {LAST:.4f}".replace("0.", "."), seconds=120)
        return opened, taken, time.perf_counter() - began, terminal.peak_memory()
    finally:
        terminal.close()


def _read(folder: Path) -> float:
    """Seconds to find the one run of a folder and to read its loss."""
    began = time.perf_counter()
    (found,) = list_runs([folder], foreign=True)
    found.history("train/loss")
    return time.perf_counter() - began
