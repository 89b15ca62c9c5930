"""Files of vectors (`target.system = "file:PATH"`): `check` and `run` take and refuse the same ones."""

from __future__ import annotations

import codecs
import io
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from lsc_engine.common.errors import UsageError
from lsc_engine.config.load import load_run_config
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies.plan import plan_study
from lsc_engine.training.run_images import changed_vectors
from lsc_engine.vectors import system
from tests.processes import call
from tests.training.folders import broken_off

ROWS = np.random.default_rng(0).normal(size=(12, 6))
PRESET = """
[data]
dataset = "digits"
labels = "unique"
classes = 12
[model]
name = "encoder"
[target]
method = "lsc"
system = 'file:{path}'
[train]
duration = "1 epochs"
batch_size = 4
"""


def npy(rows: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, rows, **options)
    return out.getvalue()


def npz(rows: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, rows)
    return out.getvalue()


def csv(rows: Any = ROWS, *, first: str = "", comma: str = ",", end: str = "\n") -> bytes:
    lines = [first] * bool(first) + [comma.join(f"{x:.9g}" for x in row) for row in rows]
    return "".join(line + end for line in lines).encode()


def tensors(**arrays: Any) -> bytes:
    return save({name: torch.as_tensor(array).clone() for name, array in arrays.items()})


def changed(row: int, value: Any, column: int | slice = 3) -> Any:
    rows = ROWS.copy()
    rows[row, column] = value
    return rows


GOOD = {
    "float64.npy": npy(ROWS),
    "float16.npy": npy(ROWS.astype(np.float16)),
    "big-endian.npy": npy(ROWS.astype(">f4")),
    "long double.npy": npy(ROWS.astype(np.longdouble)),
    "columns first.npy": npy(np.asfortranarray(ROWS)),
    "whole numbers.npy": npy((100 * ROWS).astype(np.int16)),
    "plain.csv": csv(),
    "UPPER.CSV": csv(),
    "mark.csv": codecs.BOM_UTF8 + csv(),
    "windows.csv": csv(end="\r\n"),
    "old mac.csv": csv(end="\r"),
    "blank lines.csv": csv(end="\n\n"),
    "spaces.csv": csv(comma=", "),
    "comments.csv": csv(first="# a, b", end="  # c, d\n"),
    "one.safetensors": tensors(any=ROWS),
    "float16.safetensors": tensors(any=ROWS.astype(np.float16)),
    "class means.safetensors": tensors(class_means=ROWS, other=ROWS[:5], half=np.ones(3)),
    "embed.safetensors": tensors(embeddings=ROWS, labels=np.arange(12)),
}
BAD = {
    "none.npy": (None, "cannot be read: No such file"),
    "none.csv": (None, "cannot be read: No such file"),
    "none.safetensors": (None, "cannot be read: No such file"),
    "text.txt": (csv(), "is none of .npy, .safetensors and .csv"),
    "no ending": (csv(), "is none of .npy, .safetensors and .csv"),
    "empty.npy": (b"", "is no .npy file"),
    "empty.csv": (b"", "has shape .0, 1."),
    "empty.safetensors": (b"", "is no .safetensors file"),
    "cut.npy": (npy(ROWS)[:300], "is no .npy file"),
    "cut.safetensors": (tensors(any=ROWS)[:200], "is no .safetensors file"),
    "words.npy": (b"hello, world" * 20, "is no .npy file"),
    "archive.npy": (npz(ROWS), "is no .npy file"),
    "pickle.npy": (pickle.dumps(ROWS), "is no .npy file"),
    "objects.npy": (npy(ROWS.astype(object), allow_pickle=True), "is no .npy file"),
    "no rows.npy": (npy(ROWS[:0]), r"has shape \(0, 6\)"),
    "no columns.npy": (npy(ROWS[:, :0]), r"has shape \(12, 0\)"),
    "number.npy": (npy(3.0), r"has shape \(\)"),
    "one row.npy": (npy(ROWS[0]), r"has shape \(6,\)"),
    "cube.npy": (npy(ROWS[None]), r"has shape \(1, 12, 6\)"),
    "yes or no.npy": (npy(ROWS > 0), "holds bool"),
    "complex.npy": (npy(ROWS.astype(complex)), "holds complex128"),
    "words in rows.npy": (npy(ROWS.astype(str)), "holds <U"),
    "nan.npy": (npy(changed(2, np.nan)), "row 2 holds a number that is not finite"),
    "beyond float32.npy": (npy(changed(2, 1e300)), "row 2 holds a number that is not finite"),
    "zero.npy": (npy(changed(2, 0, slice(None))), "row 2 is zero"),
    "below float32.npy": (npy(changed(2, 1e-300, slice(None))), "row 2 is zero"),
    "equal.npy": (npy(changed(7, 4 * ROWS[4], slice(None))), "rows 4 and 7 of .* are equal"),
    "signs of zero.npy": (npy([[1.0, *[0.0] * 5], [1.0, *[-0.0] * 5]] * 6), "rows 0 and 1 of .* are equal"),
    "header.csv": (csv(first="a,b,c,d,e,f"), "'a'.*without a header"),
    "semicolons.csv": (csv(comma=";"), "commas between them"),
    "tabs.csv": (csv(comma="\t"), "commas between them"),
    "quotes.csv": (csv().replace(b"0", b'"0"', 1), "is no .csv file"),
    "word.csv": (csv() + b"1,2,3,4,5,x\n", "'x'"),
    "hole.csv": (csv() + b"1,2,3,4,5,\n", "is no .csv file"),
    "short line.csv": (csv() + b"1,2,3,4,5\n", "columns changed from 6 to 5"),
    "long line.csv": (csv() + b"1,2,3,4,5,6,7\n", "columns changed from 6 to 7"),
    "comma at the end.csv": (csv(end=",\n"), "is no .csv file"),
    "infinite.csv": (csv(changed(2, np.inf)), "row 2 holds a number that is not finite"),
    "utf-16.csv": (csv().decode().encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
    "latin-1.csv": ("# Größe\n".encode("latin-1") + csv(), "is not UTF-8 text .* save it as UTF-8"),
    "two.safetensors": (tensors(a=ROWS, b=ROWS), "holds 2 matrices; one is needed, or one with the name class_means"),
    "no matrix.safetensors": (tensors(a=ROWS[0]), "holds 0 matrices"),
    "bfloat16.safetensors": (tensors(a=torch.tensor(ROWS).bfloat16()), "holds BF16; save it as float32"),
    "flat means.safetensors": (tensors(class_means=ROWS[0], b=ROWS), r"has shape \(6,\)"),
}


def preset(path: Path) -> Path:
    file = path.parent / "own.toml"
    file.write_text(PRESET.format(path=path))
    return file


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", GOOD)
def test_files_that_check_and_run_take(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(GOOD[name])
    (run,) = plan_study(preset(path), seeds=[0]).runs
    assert run.config.model.dim == 6
    assert system(f"file:{path}", 6, classes=12).count == 12


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", BAD)
def test_files_that_check_and_run_refuse(tmp_path: Path, name: str) -> None:
    path, (content, sentence) = tmp_path / name, BAD[name]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=sentence) as checked:
        plan_study(preset(path))
    with pytest.raises(UsageError, match=sentence) as read:
        system(f"file:{path}", 6, classes=12)
    assert str(checked.value) == f"{tmp_path / 'own.toml'}: target.system: {read.value}"
    assert str(path) in str(read.value)
    assert len(str(read.value).splitlines()) == 1


@pytest.mark.parametrize("ending", [".npy", ".csv", ".safetensors"])
def test_what_is_no_file_is_refused(tmp_path: Path, ending: str) -> None:
    folder, pipe, lost = (tmp_path / f"{name}{ending}" for name in ("folder", "pipe", "link"))
    folder.mkdir()
    os.mkfifo(pipe)
    lost.symlink_to(tmp_path / "nowhere")
    for path, why in ((folder, "is not a file"), (pipe, "is not a file"), (lost, "cannot be read: No such file")):
        for read in (lambda path=path: plan_study(preset(path)), lambda path=path: system(f"file:{path}", 6)):
            with pytest.raises(UsageError, match=why):
                read()


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "rows.npy"
    np.save(path, ROWS)
    assert plan_study(preset(path)).runs[0].config.model.dim == 6
    np.save(path, ROWS[:, :5])
    assert plan_study(preset(path)).runs[0].config.model.dim == 5


def test_the_class_means_of_a_run_among_other_tensors_serve_every_command(tmp_path: Path) -> None:
    path, runs = tmp_path / "means.safetensors", tmp_path / "runs"
    path.write_bytes(GOOD["class means.safetensors"])
    file = preset(path)
    checked = call("check", str(file), "--json", code=0)
    shown = call("vectors", f"file:~/{path.name}", "--n", "6", "--json", env={"HOME": str(tmp_path)}, code=0)
    assert json.loads(shown.stdout)["count"] == json.loads(checked.stdout)["variants"]["default"]["classes"] == 12
    call("run", str(file), "--runs-dir", str(runs), "--device", "cpu", "--seeds", "0", code=0)
    # The run stays readable whatever becomes of the file.
    path.write_bytes(b"")
    assert load_run_config(runs / "own/default/seed-0/preset.toml").model.dim == 6


def test_a_run_with_a_table_that_cannot_serve_makes_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "nan.npy"
    path.write_bytes(BAD["nan.npy"][0] or b"")
    for words in (("check",), ("run", "--runs-dir", str(tmp_path / "runs"), "--device", "cpu")):
        done = call(*words, str(preset(path)), code=2)
        assert f"target.system: {path}: row 2 holds a number that is not finite" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_run_is_used_with_the_vectors_of_its_training_alone(tmp_path: Path) -> None:
    path, runs, name = tmp_path / "rows.npy", ("--runs-dir", str(tmp_path / "runs")), "own/default/seed-0"
    np.save(path, ROWS)
    more = ("--seeds", "0", "--device", "cpu", "--set", 'checkpoint.also_at=["1 steps"]')
    call("run", str(preset(path)), *runs, *more, code=0)
    run = broken_off(open_run(tmp_path / "runs" / name), 1)
    np.save(path, ROWS[::-1])
    for words in (("resume", name), ("embed", name, "--out", str(tmp_path / "e.npy"))):
        done = call(*words, *runs, "--device", "cpu", code=2)
        assert f"file:{path} holds other vectors now" in done.stderr
    # The same rows in another form are the same vectors.
    np.save(path, np.asfortranarray(ROWS.astype(np.float32)))
    call("resume", name, *runs, "--device", "cpu", code=0)
    assert run.status().state == "finished"
    call("embed", name, *runs, "--out", str(tmp_path / "e.npy"), code=0)


def test_checkpoints_of_earlier_versions_know_no_hash_of_their_vectors() -> None:
    head = {"system": "file:x.npy", "vectors_sha256": "a"}
    assert changed_vectors({"head": {"system": "file:x.npy"}}, head) == []
    assert changed_vectors({"head": head}, head) == []
    assert changed_vectors({"head": head | {"vectors_sha256": "b"}}, head) != []
