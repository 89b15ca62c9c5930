"""Databases and file stores of other trackers: live, damaged and hostile, and never changed by reading."""

import csv
import json
import os
import random
import shutil
import sqlite3
import threading

import numpy as np
import pytest

from lsc_engine.common.errors import UsageError
from lsc_engine.runs.read.foreign.find import foreign_runs
from lsc_engine.runs.read.run import ForeignRun, list_runs, open_run
from tests.foreign import engine, only, values

pytestmark = pytest.mark.slow

FUZZED = int(os.environ.get("LSC_FUZZ_FILES", "2000")) // 4

TRACKIO = """pragma page_size = 512; pragma journal_mode = {journal};
create table metrics (id integer primary key autoincrement, run_id text, timestamp text, run_name text, step integer,
    metrics text);
create index by_run on metrics (run_id, step);
create table configs (run_id text, config text);"""
MLFLOW = """pragma page_size = 512; pragma journal_mode = {journal};
create table experiments (experiment_id integer primary key, name text);
create table runs (run_uuid text primary key, name text, status text, start_time bigint, lifecycle_stage text,
    experiment_id integer);
create table metrics (key text, value float, timestamp bigint, run_uuid text, step bigint, is_nan boolean);
create table params (key text, value text, run_uuid text);
insert into experiments values (1, 'exp');"""


class Writer:
    """Writes as the two trackers do."""

    def __init__(self, path, tool, journal="wal"):
        self.tool = tool
        self.connection = sqlite3.connect(path, check_same_thread=False)
        self.connection.executescript((TRACKIO if tool == "trackio" else MLFLOW).format(journal=journal))
        self.start("r1", "bob")

    def start(self, run, name):
        if self.tool == "mlflow":
            self.connection.execute("insert into runs values (?, ?, 'RUNNING', 5000, 'active', 1)", (run, name))
            self.connection.execute("insert into params values ('lr', '0.5', ?)", (run,))
        else:
            self.connection.execute("insert into configs values (?, ?)", (run, '{"lr": 0.5, "_Group": null}'))
        self.connection.commit()

    def log(self, step, run="r1", name="bob", **values):
        if self.tool == "mlflow":
            for key, value in values.items():
                self.connection.execute(
                    "insert into metrics values (?, ?, ?, ?, ?, 0)", (key, value, 5000 + 1000 * step, run, step)
                )
        else:
            time = f"2026-01-01T00:{step // 60:02}:{step % 60:02}+00:00"
            self.connection.execute(
                "insert into metrics (run_id, timestamp, run_name, step, metrics) values (?, ?, ?, ?, ?)",
                (run, time, name, step, json.dumps(values)),
            )
        self.connection.commit()

    def close(self):
        self.connection.close()


TOOLS = pytest.mark.parametrize("tool", ["trackio", "mlflow"])
JOURNALS = pytest.mark.parametrize("journal", ["wal", "delete"])


@TOOLS
@JOURNALS
def test_new_values_appear_and_nothing_is_created(tmp_path, tool, journal):
    writer = Writer(tmp_path / "p.db", tool, journal)
    writer.log(0, loss=1.0)
    files = sorted(os.listdir(tmp_path))
    run = only(tmp_path)
    assert run.origin == tool
    for step in range(1, 8):
        writer.log(step, loss=1 / (step + 1), other=step)
        assert values(run, "train/loss") == {i: 1 / (i + 1) for i in range(step + 1)}
        assert run.axes("other")[3].tolist() == list(range(1, step + 1))
    assert (run.tail.generation, run.tail.problem, run.config) == (0, None, {"lr": 0.5})
    assert sorted(os.listdir(tmp_path)) == files
    writer.close()
    files = sorted(os.listdir(tmp_path))
    assert values(run, "other") == {i: i for i in range(1, 8)}
    assert values(only(tmp_path), "other") == {i: i for i in range(1, 8)}
    assert sorted(os.listdir(tmp_path)) == files


@TOOLS
def test_runs_side_by_side_in_one_database(tmp_path, tool):
    writer = Writer(tmp_path / "p.db", tool)
    writer.log(0, loss=1.0)
    (before,) = list_runs([tmp_path], foreign=True)
    writer.start("r2-abcdefgh", "bob")
    for step in range(1, 300):
        writer.log(step, loss=1.0)
        writer.log(step, "r2-abcdefgh", "bob", loss=2.0)
    runs = {run.id: run for run in list_runs([tmp_path], foreign=True)}
    assert before.id in runs
    assert len(runs) == 2
    (other,) = (run for name, run in runs.items() if name != before.id)
    while other.poll(1000):
        pass
    assert values(other, "train/loss") == dict.fromkeys(range(1, 300), 2.0)
    assert values(before, "train/loss") == dict.fromkeys(range(300), 1.0)
    assert open_run(other.id, [tmp_path], foreign=True).status().step == 299
    with pytest.raises(UsageError, match=f"{tool} log of another tool"):
        open_run(other.id, [tmp_path])


def test_the_state_that_mlflow_records(tmp_path):
    writer = Writer(tmp_path / "p.db", "mlflow")
    writer.log(0, loss=1.0)
    run = only(tmp_path)
    shown = {}
    for state in ("FINISHED", "FAILED", "KILLED"):
        writer.connection.execute("update runs set status = ?", (state,))
        writer.connection.commit()
        shown[state] = run.status().shown_state
    assert shown == {"FINISHED": "finished", "FAILED": "failed", "KILLED": "failed"}
    writer.connection.execute("update runs set lifecycle_stage = 'deleted'")
    writer.connection.commit()
    assert list_runs([tmp_path], foreign=True) == []


@TOOLS
def test_a_database_that_is_replaced_or_emptied_is_read_again(tmp_path, tool):
    (tmp_path / "runs").mkdir()
    path = tmp_path / "runs" / "p.db"
    first = Writer(path, tool, "delete")
    for step in range(9):
        first.log(step, other=step)
    run = only(tmp_path / "runs")
    assert len(values(run, "other")) == 9
    first.connection.execute("delete from metrics where step > 3")
    first.connection.commit()
    assert list(values(run, "other")) == [0, 1, 2, 3]
    assert run.tail.generation == 1
    first.close()
    second = Writer(tmp_path / "new", tool, "delete")
    second.log(7, other=7)
    second.close()
    os.replace(tmp_path / "new", path)
    assert values(run, "other") == {7: 7}


@TOOLS
@pytest.mark.parametrize("every", [37, pytest.param(1, marks=pytest.mark.slow)])
def test_torn_files_and_logs_of_changes(tmp_path, tool, every):
    source = tmp_path / "source"
    source.mkdir()
    writer = Writer(source / "p.db", tool)
    writer.connection.execute("pragma wal_checkpoint(truncate)")
    for step in range(6):
        writer.log(step, other=step)
    whole = {step: step for step in range(6)}
    database, changes = (source / "p.db").read_bytes(), (source / "p.db-wal").read_bytes()
    folder = tmp_path / "torn"
    folder.mkdir()
    counts = set()
    for end in [*range(0, len(changes), every), len(changes)]:
        (folder / "p.db").write_bytes(database)
        (folder / "p.db-wal").write_bytes(changes[:end])
        for run in list_runs([folder], foreign=True):
            found = values(run, "other")
            assert list(found.items()) == list(whole.items())[: len(found)]
            counts.add(len(found))
        assert sorted(os.listdir(folder)) == ["p.db", "p.db-wal"]
    assert max(counts) == 6
    assert len(counts) == 6 + (tool == "mlflow")
    writer.connection.execute("pragma wal_checkpoint(truncate)")
    database = (source / "p.db").read_bytes()
    (folder / "p.db-wal").unlink()
    for end in range(0, len(database), every):
        (folder / "p.db").write_bytes(database[:end])
        for run in list_runs([folder], foreign=True):
            assert values(run, "other").items() <= whole.items()


@TOOLS
def test_commands_read_a_run_of_a_database(tmp_path, tool):
    root = tmp_path / "runs"
    root.mkdir()
    writer = Writer(root / "p.db", tool)
    writer.start("r2", "eve")
    for step in range(5):
        writer.log(step, loss=1 / (step + 1), other=step)
        writer.log(step, "r2", "eve", loss=2 / (step + 1))
    writer.close()
    before = sorted(os.listdir(root))
    rows = {row["id"]: row for row in json.loads(engine(root, "list", "--json").stdout)}
    bob, eve = sorted(rows, key=lambda name: "eve" in name)
    assert {(row["origin"], row["read_only"], row["step"]) for row in rows.values()} == {(tool, True, 4)}
    shown = json.loads(engine(root, "show", bob, "--json").stdout)
    assert shown["history"]["other"] == [[step, float(step)] for step in range(5)]
    for wanted in ("csv", "latex"):
        out = tmp_path / f"out.{wanted}"
        assert engine(root, "export", bob, eve, "--to", wanted, "--out", out).returncode == 0
    lines = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    found = {(line["run"], int(line["step"])): float(line["train/loss"]) for line in lines}
    assert found == {(run, step): top / (step + 1) for run, top in ((bob, 1), (eve, 2)) for step in range(5)}
    compared = engine(root, "compare", bob, eve, "--json")
    assert compared.returncode == 0
    # These tools keep no text of the process.
    logged = engine(root, "log", bob)
    assert (logged.returncode, logged.stdout) == (2, "")
    sentence = (
        f"{bob} is a {tool} log of another tool, without what its process printed; show and export have its metrics"
    )
    assert sentence in logged.stderr
    missing = engine(root, "show", "nobody")
    assert (missing.returncode, "names no run" in missing.stderr) == (2, True)
    assert sorted(os.listdir(root)) == before


@TOOLS
def test_fuzzed_databases_raise_nothing(tmp_path, tool):
    writer = Writer(tmp_path / "source", tool, "delete")
    for step in range(20):
        writer.log(step, other=step, text=0.5)
    writer.close()
    original = (tmp_path / "source").read_bytes()
    rng = random.Random(7)
    folder = tmp_path / "fuzzed"
    folder.mkdir()
    for _ in range(FUZZED):
        data = bytearray(original)
        for _ in range(rng.choice((1, 3, 20))):
            at = rng.randrange(len(data) - 8)
            if rng.random() < 0.7:
                data[at] = rng.randrange(256)
            else:
                data[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7, rng.randbytes(8)))
        (folder / "p.db").write_bytes(data)
        for found in foreign_runs(folder):
            run = ForeignRun(*found)
            for metric in run.metric_names():
                step, numbers = run.history(metric)
                assert len(step) == len(numbers)
                assert (np.diff(step) > 0).all()
            assert run.status().state in ("running", "finished", "failed")
            assert isinstance(run.config, dict)


def test_hostile_tables(tmp_path):
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n)"
    statements = {
        "view": f"""create view metrics as {endless}
            select i as id, 'r' as run_id, '' as timestamp, 'a' as run_name, i as step, '{{}}' as metrics from n""",
        "types": """create table metrics (id text, run_id, timestamp, run_name, step, metrics);
            insert into metrics values ('x', 1, x'00', null, 'y', x'ff'), (null, null, null, null, null, null),
            ('x', 'r', '2026-01-01', 'a', 9223372036854775807, '{"other": 1e999, "b": [1]}')""",
        "large": """create table metrics (id integer primary key, run_id, timestamp, run_name, step, metrics);
            insert into metrics values (1, 'r', '', 'a', 1, zeroblob(9000000))""",
        "other": "create table metrics (name, value)",
    }
    for name, statement in statements.items():
        connection = sqlite3.connect(tmp_path / f"{name}.db")
        connection.executescript(statement)
        connection.commit()
        connection.close()
    (tmp_path / "empty.db").touch()
    (tmp_path / "pipe.db").symlink_to("/dev/zero")
    for run in list_runs([tmp_path], foreign=True):
        assert run.status().metrics == {}


def test_reading_beside_a_process_that_writes(tmp_path):
    writer = Writer(tmp_path / "p.db", "trackio")
    writer.log(0, other=0)
    run = only(tmp_path)
    done = threading.Event()

    def write():
        for step in range(1, 400):
            writer.log(step, other=step)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    before = 0
    while not done.is_set():
        found = values(run, "other")
        assert found == {step: step for step in range(len(found))}
        assert len(found) >= before
        before = len(found)
        assert run.tail.problem is None
    thread.join()
    assert len(values(run, "other")) == 400
    assert run.tail.generation == 0


@pytest.fixture
def store(tmp_path):
    run = tmp_path / "mlruns" / "17" / "0123456789abcdef"
    for name in ("metrics/val", "params", "artifacts"):
        (run / name).mkdir(parents=True)
    (tmp_path / "mlruns" / "17" / "meta.yaml").write_text("experiment_id: '17'\nname: my exp\n")
    (run / "meta.yaml").write_text("run_id: 0123456789abcdef\nrun_name: bob\nstart_time: 5000\nstatus: 1\n")
    (run / "params" / "depth").write_text("3")
    return run


def test_the_file_store_of_mlflow_while_it_grows(tmp_path, store):
    data = {"loss": b"5000 1.0 0\n6500 0.5 1\n7000 nan 2\n", "val/acc": b"6500 0.25 1\n"}
    (store / "metrics" / "loss").touch()
    run = only(tmp_path)
    assert (run.id, run.origin, run.config) == ("mlruns/my exp/bob-01234567", "mlflow", {"depth": 3})
    for name, content in data.items():
        for end in range(len(content)):
            with (store / "metrics" / name).open("ab") as out:
                out.write(content[end : end + 1])
            rows = [line for line in content[: end + 1].splitlines(keepends=True) if line.endswith(b"\n")]
            assert len(run.history({"loss": "train/loss", "val/acc": "val/accuracy"}[name])[0]) == len(rows)
    step, loss, _, seconds = run.axes("train/loss")
    assert step.tolist() == [0, 1, 2]
    assert loss.tolist()[:2] == [1.0, 0.5]
    assert np.isnan(loss[2])
    assert seconds.tolist() == [0.0, 1.5, 2.0]
    assert values(run, "val/accuracy") == {1: 0.25}
    assert run.tail.problem is None
    (store / "meta.yaml").write_text("run_id: 0123456789abcdef\nrun_name: bob\nstart_time: 5000\nstatus: 4\n")
    assert run.status().shown_state == "failed"
    shutil.rmtree(store)
    assert run.status().step == 2


def test_a_file_of_the_store_that_cannot_be_read_hides_no_other(tmp_path, store):
    for name in ("a", "z"):
        (store / "metrics" / name).write_bytes(b"5000 1.0 0\n6500 0.5 1\n")
    (store / "metrics" / "m").symlink_to(store / "meta.yaml")
    run = only(tmp_path)
    assert run.status().message == "m is a link"
    assert values(run, "a") == values(run, "z") == {0: 1.0, 1: 0.5}
