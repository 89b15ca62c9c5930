"""`lsc-engine presets`, `check` and `new` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lsc_engine.cli import main
from lsc_engine.config.load import shipped_presets


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["lsc-engine", *words])
    try:
        main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture
def lsc(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", "100")
    return lambda *words: run(capsys, monkeypatch, *words)


def test_presets_lists_all(lsc) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = lsc("presets")
    assert code == 0
    assert all(info.name in out and info.claim.split()[0] in out for info in shipped_presets())
    code, out, err = lsc("presets", "--json")
    assert (code, err) == (0, "")
    rows = {row["name"]: row for row in json.loads(out)}
    assert set(rows) == {info.name for info in shipped_presets()}
    assert rows["demo"]["data_found"] is True
    assert rows["demo"]["dataset"] == "digits"


def test_presets_filters(lsc) -> None:  # type: ignore[no-untyped-def]
    _, out, _ = lsc("presets", "fashion")
    assert "fashion-v21" in out
    assert "demo" not in out
    code, _, err = lsc("presets", "nothing-like-this")
    assert code == 0
    assert "no preset matches" in err


def test_check_shows_the_numbers(lsc) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = lsc("check", "demo")
    assert code == 0
    assert "study   demo: 5 runs, seed 0\n" in out
    for part in ("147 840, 1.2% used", "28 090 752, 6.4e-05 used", "45.00°", "48.19°", "0.0871"):
        assert part in out
    # What all variants share stands once, and no cell is broken, whatever their number.
    assert out.count("steps an epoch") == 1
    _, out, _ = lsc("check", "etf-2024/mlp")
    assert out.count("fashion-mnist") == 1
    assert all(label in out for label in ("ETF last layer", "ETF last four", "Adaptive-ETF"))
    code, out, err = lsc("check", "demo", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["runs"] == [f"demo/{v}/seed-0" for v in ("A-384", "V21-384", "V21-min", "V21-init", "CE-384")]
    least = document["variants"]["V21-min"]
    assert (least["n"], least["count"], least["classes"]) == (17, 2040, 1797)
    assert least["head_parameters"] == 0
    ce = document["variants"]["CE-384"]
    assert ce["head_parameters"] == 385 * 1797
    assert ce["memory_bytes"] > least["memory_bytes"]


def test_check_counts_the_memory_of_a_teacher(lsc) -> None:  # type: ignore[no-untyped-def]
    variants = json.loads(lsc("check", "lsc-2025/sec6.5-mini", "--seeds", "0", "--json")[1])["variants"]
    taught, alone, teacher = (variants[name] for name in ("student-logits", "student-alone", "teacher"))
    assert (alone["teacher_bytes"], teacher["teacher_bytes"]) == (0, 0)
    assert taught["teacher_bytes"] > 4 * teacher["parameters"]
    assert taught["memory_bytes"] == alone["memory_bytes"] + taught["teacher_bytes"]


def test_check_names_the_content_of_a_vector_file(lsc, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from lsc_engine.vectors.families.tables import Table, load_table

    rows = np.random.default_rng(0).normal(size=(12, 6))
    np.save(tmp_path / "my.npy", rows)
    preset = tmp_path / "own.toml"
    preset.write_text(
        '[data]\ndataset = "digits"\nlabels = "unique"\nclasses = 12\n[model]\nname = "encoder"\n'
        f'[target]\nmethod = "lsc"\nsystem = "file:{tmp_path / "my.npy"}"\n'
        '[train]\nduration = "1 epochs"\nbatch_size = 4\n'
    )
    code, out, _ = lsc("check", str(preset), "--json")
    assert code == 0
    found = json.loads(out)["variants"]["default"]
    table = Table.with_rows("my", load_table(tmp_path / "my.npy"))
    assert found["table_sha256"] == table.sha256
    assert found["max_cosine"] == pytest.approx(table.max_cosine)
    rows[3] = 2 * rows[7]
    np.save(tmp_path / "my.npy", rows)
    code, _, err = lsc("check", str(preset), "--json")
    assert code == 2
    assert "rows 3 and 7" in err
    assert "are equal" in err


def test_check_with_options(lsc) -> None:  # type: ignore[no-untyped-def]
    _, out, _ = lsc("check", "demo", "--variant", "V21-min", "--set", "data.classes=500", "--seeds", "3,4", "--json")
    document = json.loads(out)
    assert document["runs"] == ["demo/V21-min/seed-3", "demo/V21-min/seed-4"]
    assert document["variants"]["V21-min"]["n"] == 12


def test_check_names_missing_data(lsc, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "cinic.toml"
    file.write_text(
        '[data]\ndataset = "cinic10"\n[model]\nname = "mlp"\n[target]\nmethod = "ce"\n[train]\nduration = "1 epochs"\n'
    )
    code, _, err = lsc("check", str(file), "--data-dir", str(tmp_path))
    assert code == 0
    assert f"cinic10 is not in {tmp_path}/cinic10: unpack CINIC-10.tar.gz" in err
    assert json.loads(lsc("check", str(file), "--data-dir", str(tmp_path), "--json")[1])["data_found"] is False


def test_check_lists_every_fault(lsc, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "bad.toml"
    file.write_text('[data]\ndataset = "digts"\n[model]\nname = "mlpp"\n[target]\nmethod = "ce"\n')
    code, out, err = lsc("check", str(file), "--json")
    assert (code, out) == (2, "")
    assert err.count("\n") == 3
    for key in ("data.dataset", "model.name", "train.duration"):
        assert key in err
    assert [p.name for p in tmp_path.iterdir()] == ["bad.toml"]


def test_check_bad_usage(lsc) -> None:  # type: ignore[no-untyped-def]
    code, _, err = lsc("check", "dmeo")
    assert code == 2
    assert 'did you mean "demo"' in err
    assert lsc("check", "demo", "--seeds", "a,b")[0] == 2


def test_check_refuses_a_folder_of_images_that_is_not_there(lsc, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    absent = tmp_path / "none"
    data = ("data.dataset=folder", "data.image_size=8", "data.labels=class", f"data.path={absent}")
    words = [word for one in data for word in ("--set", one)]
    code, out, err = lsc("check", "demo", "--variant", "CE-384", *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"--set data.path: folder is not in {absent}: data.path names a folder with train/")


def test_a_setting_of_tune_is_named_as_it_was_set(lsc) -> None:  # type: ignore[no-untyped-def]
    code, _, err = lsc("check", "demo", "--set", 'tune."optimizer.l"=[1]')
    assert (code, err) == (2, '--set tune.optimizer.l: unknown key; did you mean "optimizer.lr"?\n')


def test_new_copies_and_never_overwrites(lsc, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "deep" / "mine.toml"
    code, out, _ = lsc("new", "demo", str(file), "--json")
    assert code == 0
    assert json.loads(out) == {"preset": "demo", "file": str(file)}
    assert file.read_text() == next(i.path for i in shipped_presets() if i.name == "demo").read_text()
    file.write_text("x = 1")
    code, _, err = lsc("new", "demo", str(file))
    assert code == 2
    assert "exists already" in err
    assert file.read_text() == "x = 1"
    assert lsc("new", "demo", str(tmp_path / "mine"))[0] == 2
    assert f"{tmp_path / 'y.toml'} would do" in lsc("new", "demo", str(tmp_path / "y.txt"))[2]
    assert lsc("new", "demo", str(tmp_path / "my file.toml"))[0] == 2
    assert not (tmp_path / "my file.toml").exists()


@pytest.mark.parametrize("command", ["presets", "check", "new"])
def test_help_has_an_example(lsc, command: str) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = lsc(command, "--help")
    assert code == 0
    assert f"lsc-engine {command}" in out
    assert "Example" in out
