"""export, embed and predict: results leave in the formats of other tools, and nothing is overwritten unasked."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_studies import call, make_study
from typer.testing import CliRunner

from lsc_engine.analysis.compare import spread_text
from lsc_engine.cli import build_app
from lsc_engine.common.errors import UsageError
from lsc_engine.report.exports import best_step
from lsc_engine.report.page import tabular
from lsc_engine.runs.metrics.parsing import format_line
from lsc_engine.runs.read.run import open_run


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs folder with a study, and an empty working folder."""
    make_study(tmp_path / "runs")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("LSC_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_csv_holds_every_logged_value(made: Path) -> None:
    run = open_run("fig9/n_min/seed-1", [made])
    with open(run.path / "metrics.jsonl", "ab") as file:
        file.write(format_line(77, 11.0, 5.5, 1, {"train/loss": float("inf"), "train/nc1": float("nan")}))
    document = json.loads(call("export", "fig9", "--to", "csv", "--json"))
    assert document["files"] == ["paper-fig9.csv"]
    assert len(document["runs"]) == 9
    rows = list(csv.DictReader(Path("paper-fig9.csv").read_text().splitlines()))
    assert len(rows) == 9 * 10 + 1
    own = [row for row in rows if row["run"] == run.id]
    steps, values = run.history("train/accuracy")
    assert [(int(r["step"]), float(r["train/accuracy"])) for r in own[:-1]] == list(
        zip(steps.tolist(), values.tolist(), strict=True)
    )
    assert (own[-1]["train/loss"], own[-1]["train/nc1"], own[-1]["train/accuracy"]) == ("inf", "nan", "")
    assert (own[-1]["epoch"], own[-1]["time"]) == ("11.0", "5.5")


def test_nothing_is_overwritten_unasked(made: Path) -> None:
    Path("mine.csv").write_text("mine")
    with pytest.raises(UsageError, match="not overwritten"):
        call("export", "fig9", "--to", "csv", "--out", "mine.csv")
    assert Path("mine.csv").read_text() == "mine"
    call("export", "fig9", "--to", "csv", "--out", "mine.csv", "--force")
    assert Path("mine.csv").read_text().startswith("run,step")


def test_latex_is_the_comparison(made: Path) -> None:
    call("export", "fig9", "--to", "latex")
    text = Path("paper-fig9.tex").read_text()
    assert text.startswith(r"\begin{tabular}{lrrrrrrrrr}")
    assert r"n min & 3 & 100.0 $\pm$ 0.0 & 0.1 $\pm$ 0 c & 28 & $\times$1.8 (1.8-2.0) & 35 & $\times$2.0" in text
    assert text.count(r"\\") == 1 + 3
    assert spread_text((math.nan, 0.0, 1), kind="e") == "diverged"
    assert tabular(["a_b"], [["50 % {x}\x1b"]], "l").count("\x1b") == 0


def test_figures(made: Path) -> None:
    files = call("export", "fig9", "--to", "svg").split()
    assert sorted(files) == [
        "paper-fig9-train-accuracy.svg",
        "paper-fig9-train-loss-c.svg",
        "paper-fig9-train-loss-e.svg",
    ]
    assert "n min (3 seeds)" in Path(files[0]).read_text()
    call("export", "fig9", "--to", "pdf", "--metric", "train/accuracy", "--out", "one.pdf")
    assert Path("one.pdf").read_bytes().startswith(b"%PDF")
    call("export", "n_min/seed-0", "--to", "png", "--metric", "speed/images_per_second", "--out", ".")
    assert Path("paper-fig9-n_min-seed-0-speed-images-per-second.png").is_file()
    with pytest.raises(UsageError, match="train/accuracy"):
        call("export", "fig9", "--to", "svg", "--metric", "train/acuracy")
    with pytest.raises(UsageError, match=r"some\.svg is a file; 3 figures need a folder as --out"):
        call("export", "fig9", "--to", "svg", "--out", "some.svg")
    assert not Path("some.svg").exists()


@pytest.mark.parametrize(("to", "extra"), [("parquet", "pyarrow"), ("tensorboard", "tensorboard")])
def test_what_an_optional_package_writes(made: Path, to: str, extra: str) -> None:
    if importlib.util.find_spec(extra) is None:
        with pytest.raises(UsageError, match=f"needs {extra}, which is not installed"):
            call("export", "fig9", "--to", to)
        assert list(Path().iterdir()) == []
    else:
        (made_file, *_) = call("export", "fig9", "--to", to).split("\n")
        assert Path(made_file).exists()


def test_parquet_holds_what_the_csv_holds(made: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    call("export", "fig9", "--to", "parquet", "--out", "all.parquet")
    call("export", "fig9", "--to", "csv", "--out", "all.csv")
    columns = parquet.read_table("all.parquet").to_pydict()
    rows = list(csv.DictReader(Path("all.csv").read_text().splitlines()))
    assert list(columns) == list(rows[0])
    assert columns["run"] == [row["run"] for row in rows]
    for name in [name for name in columns if name != "run"]:
        assert columns[name] == [float(row[name]) if row[name] else None for row in rows]


def test_wrong_options_are_refused(made: Path) -> None:
    with pytest.raises(UsageError, match='did you mean "csv"'):
        call("export", "fig9", "--to", "cvs")
    with pytest.raises(UsageError, match="--metric does not go with --to csv"):
        call("export", "fig9", "--to", "csv", "--metric", "train/loss")
    for option, word in (("--split", "val"), ("--dataset", "nosuch"), ("--limit", "3")):
        with pytest.raises(UsageError, match=f"{option} chooses what is embedded, and goes only with --codes"):
            call("export", "fig9", "--to", "csv", option, word)
    with pytest.raises(UsageError, match="checkpoints are missing or damaged"):
        call("export", "n_min/seed-0", "--to", "safetensors")


# --- embed and predict, of a trained run ------------------------------------------------------------------------------


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LSC_RUNS", str(trained))
    return tmp_path


def test_weights_are_those_of_the_best_checkpoint(here: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.numpy import load_file

    run = open_run("means/A/seed-0", [trained])
    assert best_step(run) == run.checkpoints()[-1].step
    (file,) = call("export", run.id, "--to", "safetensors").split()
    assert any(name.startswith("model.") for name in load_file(file))
    with pytest.raises(UsageError, match="no good checkpoint of step 5; it has: 69"):
        call("export", run.id, "--to", "safetensors", "--at", "5")
    with monkeypatch.context() as damaged:
        damaged.setattr("lsc_engine.runs.folder.checkpoints.MANIFEST", "none.json")
        for command in (("export", "--to", "safetensors"), ("predict", "--split", "val"), ("evaluate",)):
            with pytest.raises(UsageError, match="is finished, but its checkpoints are missing or damaged; lsc-engine"):
                call(command[0], run.id, *command[1:], *(["--out", "x"] if command[0] == "export" else []))


def test_embeddings_give_the_accuracy_that_was_measured(here: Path, trained: Path) -> None:
    from safetensors import safe_open

    run = open_run("means/A/seed-0", [trained])
    told: dict[str, Any] = json.loads(call("embed", run.id, "--split", "val", "--json"))
    assert (told["images"], told["n"], told["embedding_bytes"], told["bytes"]) == (300, 3, 12, 3600)
    with safe_open(told["files"][0], "numpy") as file:
        z, labels, facts = file.get_tensor("embeddings"), file.get_tensor("labels"), file.metadata()
    assert z.shape == (300, 3)
    assert z.dtype == np.float32
    assert facts["run"] == run.id
    found = json.loads(call("predict", run.id, "--split", "val", "--json"))
    assert [row["true"] for row in found["labels"]] == labels.tolist()
    assert found["accuracy"] == pytest.approx(run.last()["val/accuracy"])
    with pytest.raises(UsageError, match="not overwritten"):
        call("embed", run.id, "--split", "val")
    data = ("--split", "val", "--force")
    done = CliRunner().invoke(build_app(), ["embed", run.id, *data])
    assert "300 embeddings of 3 float32, 12 bytes each, 3 600 in all" in done.stderr
    done = CliRunner().invoke(build_app(), ["export", run.id, "--to", "npy", "--codes", "sign", *data])
    assert "300 embeddings of 1 byte each, 12 as float32" in done.stderr
    call("embed", run.id, "--split", "val", "--out", "z.npy", "--limit", "7")
    assert np.load("z.npy").shape == (7, 3)
    assert np.load("z.labels.npy").tolist() == labels[:7].tolist()
    assert np.allclose(np.load("z.npy"), z[:7], atol=1e-5)


def test_images_get_labels_and_unused_vectors_are_new_classes(here: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number in (0, 1):
        pixels = (digits.images[number] * 255 / 16).round().astype(np.uint8)
        Image.fromarray(pixels).save(f"{number}.png")
    told = json.loads(call("predict", "A/seed-0", "0.png", "1.png", "--json"))
    assert [row["image"] for row in told["labels"]] == ["0.png", "1.png"]
    assert [row["nearest"] for row in told["labels"]] == [0, 1]
    assert all(0.5 < row["cosine"] <= 1 for row in told["labels"])
    # A_3 has 12 vectors for 10 classes: whatever decodes to one of the two others is new.
    whole = json.loads(call("predict", "A/seed-0", "--split", "train", "--json"))
    for row in whole["labels"]:
        assert row["new_class"] == (row["label"] is None)
        assert row["new_class"] or row["label"] == row["nearest"]
    assert whole["new_classes"] == sum(row["new_class"] for row in whole["labels"])
    call("predict", "A/seed-0", "--split", "val", "--csv", "labels.csv")
    assert len(list(csv.DictReader(Path("labels.csv").read_text().splitlines()))) == 300
    assert "cosine" in call("predict", "ce/seed-0", "0.png")


def test_bad_uses_are_refused_with_what_would_do(here: Path) -> None:
    with pytest.raises(UsageError, match="one of both"):
        call("predict", "A/seed-0")
    with pytest.raises(UsageError, match=r"x\.png: there is no such file"):
        call("predict", "A/seed-0", "x.png")
    with pytest.raises(UsageError, match=r"must end in \.safetensors or \.npy"):
        call("embed", "A/seed-0", "--out", "z.csv")
    with pytest.raises(UsageError, match='did you mean "val"'):
        call("embed", "A/seed-0", "--split", "vali")
    for words, option in (
        (("evaluate", "A/seed-0", "--on"), "--on"),
        (("embed", "A/seed-0", "--dataset"), "--dataset"),
    ):
        with pytest.raises(UsageError, match=f'{option}: "digts" is not a data set; did you mean "digits"'):
            call(*words, "digts")
    with pytest.raises(UsageError, match="3 channels, this network takes 1"):
        call("embed", "A/seed-0", "--dataset", "spectrum", "--classes", "10")
    assert list(here.iterdir()) == []
