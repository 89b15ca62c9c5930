"""Logs of other tools: read with the values their own writers wrote, and never an exception on what is damaged."""

import csv
import json
import math
import os
import random
import struct
import time
import zlib

import numpy as np
import pytest

from lsc_engine.analysis.levels import place_text
from lsc_engine.common.errors import UsageError
from lsc_engine.runs.folder.layout import PRESET
from lsc_engine.runs.read.foreign.find import foreign_runs
from lsc_engine.runs.read.foreign.log import Names
from lsc_engine.runs.read.foreign.tensorboard import TensorBoard, crc32c
from lsc_engine.runs.read.run import ForeignRun, list_runs, open_run, write_csv
from tests.foreign import engine, only, values

FUZZED = int(os.environ.get("LSC_FUZZ_FILES", "2000"))


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def simple(number, value):
    return varint(number << 3 | 5) + struct.pack("<f", value)


def check(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(event):
    length = struct.pack("<Q", len(event))
    return length + check(length) + event + check(event)


def scalars(step, wall=1000.0, **values):
    summary = b"".join(field(1, field(1, tag.encode()) + simple(2, value)) for tag, value in values.items())
    return record(field(1, wall) + (field(2, step) if step else b"") + field(5, summary))


def events(count, first=0):
    return record(field(1, 1000.0) + field(3, b"brain.Event:2")) + b"".join(
        scalars(step, 1000.0 + step, loss=1 / (step + 1), other=float(step)) for step in range(first, first + count)
    )


def test_crc32c_of_the_standard():
    assert (
        crc32c(np.frombuffer(b"123456789", np.uint8)[None])[0] == 0xE3069283
    )  # RFC 3720, B.4 has the polynomial; this is its usual check value
    assert crc32c(np.zeros((2, 32), np.uint8)).tolist() == [0x8A9136AA] * 2  # RFC 3720, B.4


def test_events_read_as_they_were_written(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "events.out.tfevents.1.h").write_bytes(events(20))
    run = only(tmp_path)
    assert (run.id, run.origin, run.status().step) == ("a", "tensorboard", 19)
    assert values(run, "train/loss") == {step: float(np.float32(1 / (step + 1))) for step in range(20)}
    step, _, epoch, seconds = run.axes("other")
    assert seconds.tolist() == step.tolist()
    assert np.isnan(epoch).all()


def test_events_of_the_packages_own_writer(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard", exc_type=ImportError)
    with tensorboard.SummaryWriter(str(tmp_path / "x")) as writer:
        for step in range(50):
            writer.add_scalar("Loss/train", 2.0 / (step + 1), step)
            writer.add_scalar("new", step * 0.5, step, new_style=True)
            writer.add_histogram("weights", np.arange(100.0), step)
    run = only(tmp_path)
    assert values(run, "train/loss") == {step: float(np.float32(2.0 / (step + 1))) for step in range(50)}
    assert values(run, "new") == {step: step * 0.5 for step in range(50)}
    assert "weights" not in run.metric_names()


def test_scalars_kept_as_tensors(tmp_path):
    tensors = {
        "float": (field(1, 1) + field(2, b"") + field(4, struct.pack("<f", 1.5)), 1.5),
        "packed": (field(1, 1) + field(5, struct.pack("<f", 2.5)), 2.5),
        "double": (field(1, 2) + field(4, struct.pack("<d", 3.25)), 3.25),
        "integer": (field(1, 9) + field(10, 7), 7.0),
    }
    shaped = field(1, 1) + field(2, field(2, field(1, 2))) + field(4, struct.pack("<2f", 1, 2))
    summary = b"".join(field(1, field(1, tag.encode()) + field(8, one)) for tag, (one, _) in tensors.items())
    summary += field(1, field(1, b"matrix") + field(8, shaped))
    (tmp_path / "tfevents").write_bytes(record(field(2, 3) + field(5, summary)))
    run = only(tmp_path)
    assert run.last() == {tag: value for tag, (_, value) in tensors.items()}


def test_pictures_are_passed_over_and_never_held(tmp_path):
    length = struct.pack("<Q", 9 << 20)
    picture = length + check(length) + bytes((9 << 20) + 4)
    (tmp_path / "tfevents").write_bytes(events(3) + picture + scalars(9, loss=0.5))
    run = only(tmp_path)
    assert list(values(run, "train/loss")) == [0, 1, 2, 9]
    assert run.tail.problem is None


def test_later_files_are_later_attempts(tmp_path):
    (tmp_path / "events.out.tfevents.1").write_bytes(events(10))
    (tmp_path / "events.out.tfevents.2").write_bytes(b"".join(scalars(s, other=-1.0) for s in range(5, 8)))
    run = only(tmp_path)
    assert values(run, "other") == {**{s: float(s) for s in range(10)}, 5: -1.0, 6: -1.0, 7: -1.0}
    assert run.table.attempt_starts() == [0, 5]


FILES = {
    "tfevents": lambda: (events(6), "other"),
    "run-x.wandb": lambda: (fragments([history(i, other=i) for i in range(6)]), "other"),
    "results.csv": lambda: (b"epoch, other ,x\n" + b"".join(b"%d, %d,1\n" % (i, i) for i in range(6)), "other"),
    "log.jsonl": lambda: (b"".join(b'{"step": %d, "other": %d}\n' % (i, i) for i in range(6)), "other"),
}


@pytest.mark.parametrize("name", FILES)
def test_torn_at_every_byte_and_growing(tmp_path, name):
    data, metric = FILES[name]()
    path = tmp_path / name
    path.write_bytes(data)
    run = only(tmp_path)
    whole = values(run, metric)
    assert whole == {i: float(i) for i in range(6)}
    followed = None
    for end in range(len(data) + 1):
        with path.open("wb" if followed is None else "ab") as out:
            out.write(data[:end] if followed is None else data[end - 1 : end])
        fresh = list_runs([tmp_path], foreign=True)
        found = values(fresh[0], metric) if fresh else {}
        assert list(found.items()) == list(whole.items())[: len(found)]
        if followed is None and fresh:
            followed = fresh[0]
        if followed is not None:
            assert values(followed, metric) == found
            assert followed.tail.problem is None
    assert values(followed, metric) == whole
    assert followed.tail.generation == 0


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_replaced_is_read_again(tmp_path, name):
    data, metric = FILES[name]()
    path = tmp_path / name
    path.write_bytes(data)
    run = only(tmp_path)
    run.poll()
    (tmp_path / "new").write_bytes(data[: len(data) // 2])
    os.replace(tmp_path / "new", path)
    assert 0 < len(values(run, metric)) < 6
    assert run.tail.generation == 1


def test_nothing_behind_a_wrong_checksum_counts(tmp_path):
    begin = events(4)
    for spoiled in (scalars(4, loss=0.1)[:-1] + b"\0", b"\xff" * 8 + check(b"x") + scalars(4, loss=0.1)):
        (tmp_path / "tfevents").write_bytes(begin + spoiled + scalars(5, loss=0.2))
        run = only(tmp_path)
        assert list(values(run, "train/loss")) == [0, 1, 2, 3]
        assert f"damaged behind byte {len(begin)}" in run.tail.problem


def test_a_hostile_length_reads_nothing(tmp_path):
    for length in (2**64 - 1, 2**63, 2**40, 2**31):
        packed = struct.pack("<Q", length)
        (tmp_path / "tfevents").write_bytes(events(2) + packed + check(packed) + b"x" * 100)
        assert list(values(only(tmp_path), "train/loss")) == [0, 1]


def test_fuzzed_files_raise_nothing(tmp_path):
    rng = random.Random(5)
    originals = {name: make()[0] for name, make in FILES.items()}
    for number in range(FUZZED):
        name = rng.choice(list(originals))
        data = bytearray(originals[name])
        for _ in range(rng.choice((1, 1, 3, 20))):
            at = rng.randrange(len(data))
            action = rng.randrange(4)
            if action == 0:
                data[at] = rng.randrange(256)
            elif action == 1:
                del data[at : at + rng.randrange(1, 40)]
            elif action == 2:
                data[at:at] = rng.randbytes(rng.randrange(1, 20))
            else:
                data[at : at + 8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**63, 2**64 - 1)))
            data = data or bytearray(b"\n")
        folder = tmp_path / str(number % 50)
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        (folder / name).write_bytes(data)
        for found in foreign_runs(folder):
            run = ForeignRun(*found)
            for metric in run.metric_names():
                step, found = run.history(metric)
                assert len(step) == len(found)
                assert (np.diff(step) > 0).all()
            assert run.status().state == "running"


def test_a_fuzzed_body_with_right_checksums(tmp_path):
    rng = random.Random(6)
    body = field(1, 1000.0) + field(2, 5) + field(5, field(1, field(1, b"other") + simple(2, 0.5)) * 3)
    for _ in range(FUZZED // 4):
        spoiled = bytearray(body)
        for _ in range(rng.randrange(1, 6)):
            spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
        (tmp_path / "tfevents").write_bytes(record(bytes(spoiled)) + scalars(7, other=0.25))
        run = ForeignRun(TensorBoard(tmp_path), "x")
        assert values(run, "other")[7] == 0.25


def test_names_of_loss_and_accuracy():
    expected = {
        "loss": "train/loss", "train_loss": "train/loss", "Loss/train": "train/loss", "train/loss": "train/loss",
        "training.loss": "train/loss", "val_loss": "val/loss", "eval_loss": "val/loss", "validation/loss": "val/loss",
        "accuracy": "train/accuracy", "acc": "train/accuracy", "val_acc": "val/accuracy", "test_acc1": "val/accuracy",
        "Accuracy/test": "val/accuracy", "eval_top1": "val/accuracy", "epoch_loss": "train/loss",
        "train_loss_step": "train_loss_step", "floss": "floss", "metrics/mAP50(B)": "metrics/mAP50(B)", "lr": "lr",
    }  # fmt: skip
    assert {raw: Names().of(raw)[0] for raw in expected} == expected
    names = Names()
    assert [names.of(raw)[0] for raw in ("val_acc", "test_acc", "val_acc")] == [
        "val/accuracy",
        "test_acc",
        "val/accuracy",
    ]


def test_accuracy_in_per_cent_becomes_a_fraction(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text("epoch,val_acc\n0,0.5\n")
    run = only(tmp_path)
    assert values(run, "val/accuracy") == {0: 0.5}
    with path.open("a") as out:
        out.write("1,40.0\n2,80\n")
    assert values(run, "val/accuracy") == {0: 0.005, 1: 0.4, 2: 0.8}


def test_tables_of_well_known_loggers(tmp_path):
    texts = {
        "lightning/version_0/metrics.csv": "val_loss,epoch,step,train_loss\n,0,9,2.0\n1.5,0,9,\n,1,19,1.0\n",
        "yolo/results.csv": "            epoch,         time,   train/box_loss\n  1,  12.5,  0.9\n  2, 25,  0.8\n",
        "timm/summary.csv": "epoch,train_loss,eval_loss,eval_top1\n0,6.9,6.8,0.4\n1,6.5,6.0,2.5\n",
        "deit/log.txt": '{"train_lr": 1e-6, "train_loss": 6.9, "test_acc1": 0.5, "epoch": 0, "n_parameters": 5}\n',
        "mm/vis_data/scalars.json": '{"lr": 0.1, "loss": 2.0, "iter": 50, "step": 50}\n',
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    for name in ("data.csv", "labels.csv"):
        (tmp_path / name).write_text("image,label,step\na.png,3,1\n")
    (tmp_path / "notes.jsonl").write_text('{"text": "no step"}\n')
    runs = {run.id: run for run in list_runs([tmp_path], foreign=True)}
    assert sorted(runs) == ["deit", "lightning/version_0", "mm/vis_data", "timm", "yolo"]
    assert values(runs["lightning/version_0"], "val/loss") == {9: 1.5}
    assert runs["lightning/version_0"].axes("train/loss")[2].tolist() == [0, 1]
    assert runs["yolo"].axes("train/box_loss")[3].tolist() == [12.5, 25]
    assert values(runs["timm"], "val/accuracy") == {0: 0.004, 1: 0.025}
    assert runs["deit"].last()["val/accuracy"] == 0.005
    assert runs["deit"].origin == "jsonl"
    assert runs["mm/vis_data"].last() == {"lr": 0.1, "train/loss": 2.0}


def test_several_tables_in_a_folder_are_runs_of_their_own(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("step,loss\n1,2\n")
    assert [run.id for run in list_runs([tmp_path], foreign=True)] == ["a.csv", "b.csv"]
    assert open_run("a.csv", [tmp_path], foreign=True).last() == {"train/loss": 2.0}


def test_running_while_it_grows(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("step,loss\n1,2\n")
    assert only(tmp_path).status().shown_state == "running"
    os.utime(path, (time.time() - 601,) * 2)
    assert only(tmp_path).status().shown_state == "finished"


def test_what_is_ours_is_not_foreign(tmp_path):
    ours = tmp_path / "study" / "variant" / "seed-0"
    (ours / "tensorboard").mkdir(parents=True)
    (ours / PRESET).write_text("")
    (ours / "tensorboard" / "tfevents").write_bytes(events(2))
    (ours / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n')
    theirs = tmp_path / "study" / "variant" / "seed-1"
    theirs.mkdir()
    (theirs / "tfevents").write_bytes(events(2))
    (tmp_path / "loop").symlink_to(tmp_path)
    runs = list_runs([tmp_path], foreign=True)
    assert [(run.id, run.origin) for run in runs] == [
        ("study/variant/seed-0", "lsc"),
        ("study/variant/seed-1", "tensorboard"),
    ]
    assert len(list_runs([tmp_path])) == 2


def test_commands_read_it_and_refuse_to_act(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "exp" / name).mkdir(parents=True)
        (tmp_path / "exp" / name / "tfevents").write_bytes(events(5))
    before = sorted(tmp_path.rglob("*"))

    rows = json.loads(engine(tmp_path, "list", "--json").stdout)
    assert [(r["id"], r["origin"], r["read_only"], r["state"], r["seed"], r["step"]) for r in rows] == [
        (f"exp/{name}", "tensorboard", True, "running", None, 4) for name in ("a", "b")
    ]
    shown = json.loads(engine(tmp_path, "show", "exp/a", "--json").stdout)
    assert shown["history"]["other"] == [[step, float(step)] for step in range(5)]
    compared = engine(tmp_path, "compare", "exp/a", "exp/b", "--json")
    assert compared.returncode == 0
    assert "exp/a" not in compared.stderr
    out = tmp_path / "out" / "values.csv"
    out.parent.mkdir()
    exported = engine(tmp_path, "export", "exp/a", "--to", "csv", "--out", str(out))
    assert exported.returncode == 0, exported.stderr
    lines = list(csv.DictReader(out.read_text().splitlines()))
    assert [float(line["other"]) for line in lines] == list(range(5))
    out.unlink()
    out.parent.rmdir()
    sentence = "exp/a is a tensorboard log of another tool, which is only read here"
    for words in (["tag", "exp/a", "x"], ["stop", "exp/a"], ["delete", "exp/a", "--yes"], ["resume", "exp/a"]):
        refused = engine(tmp_path, *words)
        assert (refused.returncode, sentence in refused.stderr) == (2, True), words
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(UsageError, match="only read"):
        open_run("exp/a", [tmp_path])


def test_exported_rows_are_those_of_the_log(tmp_path):
    (tmp_path / "x.csv").write_text("step,loss,extra\n1,2,3\n2,,5\n")
    write_csv([only(tmp_path)], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "run,step,epoch,time,train/loss,extra\n.,1,,,2.0,3.0\n.,2,,,,5.0\n"


def fragments(records):
    out = b":W&B\xe1\xbe\x00"
    for data in records:
        kind, first = 0, True
        while first or data:
            room = 32768 - len(out) % 32768
            if room < 7:
                out, room = out + bytes(room), 32768
            part, data = data[: room - 7], data[room - 7 :]
            kind = (1 if first else 4) if not data else (2 if first else 3)
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
    return out


def history(step, nested=False, **values):
    items = {"_step": step, "_runtime": step * 2.0, **values}
    message = b"".join(
        field(1, field(2 if nested else 1, name.encode()) + field(16, json.dumps(value).encode()))
        for name, value in items.items()
    )
    return field(2, message + field(2, field(1, step)))


def test_wandb_files_torn_at_every_byte_and_growing(tmp_path):
    path = tmp_path / "run-x.wandb"
    records = [field(17, b""), *(history(i, nested=i % 2 == 0, loss=1 / (i + 1), other=i) for i in range(5))]
    data = fragments(records)
    path.write_bytes(b"")
    run = only(tmp_path)
    whole = {i: float(i) for i in range(5)}
    for end in range(len(data)):
        with path.open("ab") as out:
            out.write(data[end : end + 1])
        found = values(run, "other")
        assert list(found.items()) == list(whole.items())[: len(found)]
        assert run.tail.problem is None
    assert (values(run, "other"), run.origin, run.tail.generation) == (whole, "wandb", 0)
    assert values(run, "train/loss") == {i: 1 / (i + 1) for i in range(5)}
    assert run.axes("other")[3].tolist() == [0, 2, 4, 6, 8]


def test_wandb_records_over_several_blocks(tmp_path):
    records = [history(i, other=i, note="x" * size) for i, size in enumerate((10, 40_000, 32_000, 700, 100_000, 3))]
    (tmp_path / "run-x.wandb").write_bytes(fragments(records))
    assert values(only(tmp_path), "other") == {i: float(i) for i in range(6)}


def test_wandb_files_end_where_a_checksum_is_wrong(tmp_path):
    good = fragments([history(i, other=i) for i in range(3)])
    data = bytearray(fragments([history(i, other=i) for i in range(6)]))
    data[len(good) + 20] ^= 1
    (tmp_path / "run-x.wandb").write_bytes(data)
    run = only(tmp_path)
    assert list(values(run, "other")) == [0, 1, 2]
    assert f"damaged behind byte {len(good)}" in run.tail.problem


@pytest.mark.parametrize("name", FILES)
def test_samples_are_rows_of_the_whole(tmp_path, name):
    count = 4000
    data = {
        "tfevents": lambda: events(count),
        "run-x.wandb": lambda: fragments([history(i, other=i) for i in range(count)]),
        "results.csv": lambda: b"epoch,other,x\n" + b"".join(b"%d,%d,1\n" % (i, i) for i in range(count)),
        "log.jsonl": lambda: b"".join(b'{"step": %d, "other": %d}\n' % (i, i) for i in range(count)),
    }[name]()
    (tmp_path / name).write_bytes(data)
    run = only(tmp_path)
    step, found = run.tail.sample(5).series("other")
    assert step.tolist() == found.tolist()
    assert 0.1 * count / 5 < len(step) < count
    assert step[-1] > count / 2
    assert values(run, "other") == {i: i for i in range(count)}


def rows_of_several_kinds(count):
    """Step -> values: two kinds in turn, now and then one that is not finite."""
    rng = random.Random(3)
    rows = {}
    for step in range(count):
        rows[step] = {"acc": rng.random()} if step % 5 == 0 else {"loss": rng.random(), "other": step / 7 or 1e30}
        if step % 37 == 1:
            rows[step]["other"] = math.nan
    return rows


def rows_of_one_kind(count):
    return {step: {"loss": 1 / (step + 1), "other": step / 7} for step in range(count)}


def logged(name, rows):
    """The rows in one of the formats, with a time of step / 4; of JSON lines some with words or a table beside them."""
    if name == "results.csv":
        names = sorted({key for row in rows.values() for key in row})
        lines = (f"{step},{step / 4}," + ",".join(str(row.get(key, "")) for key in names) for step, row in rows.items())
        return "\n".join(["step,time," + ",".join(names), *lines, ""]).encode()
    if name == "log.jsonl":
        odd = {step: {"words": "a, b", "deep": {"text": "c"}} if step % 41 == 0 else {} for step in rows}
        kept = ({"step": step, "time": step / 4, **row, **odd[step]} for step, row in rows.items())
        return "".join(json.dumps(row) + "\n" for row in kept).encode()
    if name == "tfevents":
        begin = record(field(1, 1000.0) + field(3, b"brain.Event:2"))
        return begin + b"".join(scalars(step, 1000.0 + step / 4, **row) for step, row in rows.items())
    return fragments([history(step, **{"_runtime": step / 4, **row}) for step, row in rows.items()])


@pytest.mark.parametrize("rows", [rows_of_several_kinds(500), rows_of_one_kind(500)], ids=["several", "one"])
@pytest.mark.parametrize("name", FILES)
def test_rows_of_one_and_of_several_kinds_have_what_was_logged(tmp_path, name, rows):
    (tmp_path / name).write_bytes(logged(name, rows))
    run = only(tmp_path)
    names = {"loss": "train/loss", "acc": "train/accuracy", "other": "other"}
    kind = np.float32 if name == "tfevents" else float
    wanted = {}
    for step, row in rows.items():
        for key, value in row.items():
            wanted.setdefault(names[key], {})[step] = float(kind(value))
    found = {metric: values(run, metric) for metric in run.metric_names()}
    assert found.keys() == wanted.keys()
    for metric, points in wanted.items():
        np.testing.assert_equal(found[metric], points)
    for metric in wanted:
        step, _, _, seconds = run.axes(metric)
        assert seconds.tolist() == (step / 4).tolist()


@pytest.mark.parametrize(
    "cells", ["3,,1", "3,x,1", "3,nan,1e400", "3", "3,1,2,9", "-1,2,2", "3.5,2,2", '"3",2,2', "1_0,2,2", " 3 , 2,  "]
)
def test_odd_lines_of_a_table_spoil_no_others(tmp_path, cells):
    lines = ["epoch,other,x", *(f"{i},{i},1" for i in range(3)), cells, "9,9,9"]
    (tmp_path / "results.csv").write_text("\n".join(lines) + "\n")
    run = only(tmp_path)
    found = values(run, "other")
    assert {step: found[step] for step in (0, 1, 2, 9)} == {0: 0, 1: 1, 2: 2, 9: 9}
    row = dict(zip(("epoch", "other", "x"), cells.split(","), strict=False))
    if cells in ("3,,1", "3,x,1", "3", "-1,2,2", "3.5,2,2", "1_0,2,2"):
        assert len(found) == 4, row
    assert run.tail.problem is None


def test_a_level_reached_on_an_axis_that_was_not_logged():
    assert (place_text(float("nan")), place_text(46.61), place_text(3.0)) == ("-", "46.6", "3")
