"""The commands `nmin` and `vectors`, as a user runs them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lsc_engine.cli import build_app
from lsc_engine.common.errors import LscError
from lsc_engine.vectors.registry import facts
from tests import processes


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str) -> Done:
    """The command in this process; `test_as_a_process` covers what main() adds."""
    result = CliRunner().invoke(build_app(), list(arguments))
    if isinstance(result.exception, LscError):
        return Done(result.exception.exit_code, result.stdout, str(result.exception))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def test_as_a_process() -> None:
    for arguments, code, out, err in (
        (("nmin", "1000", "--json"), 0, '"V21"', ""),
        (("nmin", "1.5"), 2, "", "classes: 1.5 is not a whole number\n"),
        (("vectors", "V22", "--n", "3"), 2, "", "V22: n = 3 is too small, n >= 4\n"),
    ):
        done = processes.call(*arguments, env={"COLUMNS": "40"})
        assert (done.returncode, done.stderr) == (code, err)
        assert out in done.stdout
        assert bool(out) == bool(done.stdout)


def good(*arguments: str) -> str:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "\x1b" not in done.stdout
    return done.stdout


def test_nmin_json() -> None:
    document = json.loads(good("nmin", "1000", "--json"))
    assert document["classes"] == 1000
    rows = {row["system"]: row for row in document["systems"]}
    assert set(rows) == {
        "A",
        "Ap",
        "A-mid",
        "A-interp",
        "A-helmert",
        "V11",
        "V21",
        "V21pm",
        "V22",
        "V31",
        "V32",
        "V33",
        "W2",
        "W4",
        "simplex",
        "hadamard",
        "kerdock",
        "bch",
        "gaussian",
        "rademacher",
    }
    v21 = rows["V21"]
    assert (v21["n"], v21["count"], v21["max_cosine"], v21["min_angle_deg"]) == (14, 1092, 0.6667, 48.19)
    assert (v21["bytes_per_vector"], v21["database_bytes"]) == (56, 56_000)
    known = facts("V21", 14).cosine_histogram()
    mean = sum(math.exp(16 * cosine) * number for cosine, number in known) / 1091
    assert (v21["crowding"], v21["crowding_scale"], v21["crowding_sampled"]) == (pytest.approx(mean), 16.0, False)
    assert [row["n"] for row in document["systems"]] == sorted(row["n"] for row in document["systems"])
    assert not any(row["beyond_max_cosine"] for row in rows.values())


def test_nmin_of_the_papers_and_what_is_beyond() -> None:
    document = json.loads(good("nmin", "300k", "--max-cosine", "0.75", "--system", "V44", "-s", "planar", "--json"))
    rows = {row["system"]: row["n"] for row in document["systems"]}
    assert {name: rows[name] for name in ("A", "A-mid", "A-interp", "V11", "V21", "V22")} == {
        "A": 548,
        "A-mid": 67,
        "A-interp": 67,
        "V11": 549,
        "V21": 86,
        "V22": 35,
    }
    beyond = [row["beyond_max_cosine"] for row in document["systems"]]
    assert beyond == sorted(beyond)
    assert [row["system"] for row, b in zip(document["systems"], beyond, strict=True) if not b] == (
        ["V22", "V31", "bch", "V21pm", "V21", "A", "A-helmert", "V11", "Ap", "kerdock", "hadamard", "simplex"]
    )
    assert {row["system"] for row in document["systems"][12:]} == {
        "gaussian",
        "rademacher",
        "V44",
        "planar",
        "W2",
        "W4",
        "V32",
        "V33",
        "A-mid",
        "A-interp",
    }


def test_nmin_table_is_whole_and_exact() -> None:
    text = good("nmin", "1.28M", "--max-cosine", "0.7")
    assert "…" not in text
    lines = text.splitlines()
    assert lines[0] == "smallest n for 1 280 000 classes"
    assert good("nmin", "1").startswith("smallest n for 1 class\n")
    assert next(line for line in lines if line.startswith("V21 ")).split()[1] == "138"
    assert "-- ! cosine above 0.7 --" in lines
    assert lines.index("-- ! cosine above 0.7 --") < next(i for i, line in enumerate(lines) if line.startswith("! A "))
    huge = good("nmin", str(10**30), "--json")
    rows = {row["system"]: row for row in json.loads(huge)["systems"]}
    n = rows["V11"]["n"]
    assert not {"kerdock", "gaussian", "rademacher"} & set(rows)
    assert rows["V11"]["count"] == n * (n - 1) >= 10**30 > (n - 1) * (n - 2)


def test_nmin_loads_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from lsc_engine.cli import build_app;"
        "r = CliRunner().invoke(build_app(), ['nmin', '1000']); assert r.exit_code == 0, r.output;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nmin", "1.5"), "classes: 1.5 is not a whole number"),
        (("nmin", "many"), 'classes: "many" is not a number'),
        (("nmin", "0"), "1 or more"),
        (("nmin", "10", "--system", "V2l"), '--system: "V2l" is not a vector system'),
        (("nmin", "10", "--max-cosine", "1.2"), "--max-cosine: 1.2 is not a cosine"),
        (("nmin", "10", "--system", "file:a.npy"), "n of a table is the table's own"),
        (("nmin", "1G", "--system", "kerdock"), "kerdock: no n up to 4096 holds 1 000 000 000 classes"),
        (("nmin", "10", "--scale", "0"), "--scale: 0 is not above 0 and at most 700"),
        (("vectors", "V21", "--n", "9", "--scale", "1e9"), "--scale: 1e+09 is not above 0"),
        (("vectors", "bch", "--n", "100"), "bch: n = 100 is not a power of two from 16 to 1024; take 64 or 128"),
        (("vectors", "V2l", "--n", "3"), 'SYSTEM: "V2l" is not a vector system; did you mean "V21"?'),
        (("vectors", "V22", "--n", "3"), "n >= 4"),
        (("vectors", "planar", "--n", "2"), "number of classes is needed"),
        (("vectors", "V21", "--n", "400", "--csv", "big.csv"), "--limit"),
        (("vectors", "V99", "--n", "64", "--csv", "big.csv", "--limit", "5"), "2^63"),
        (("vectors", "V21", "--n", "5", "--csv", "none/x.csv"), "--csv none/x.csv: none: there is no such"),
        (("vectors", "V21", "--n", "5", "--csv", "x.toml"), "--csv x.toml: the name must end in .csv"),
        (("vectors", "V21", "--n", "4", "--classes", "100"), "12 vectors, 100 are needed. Take n >= 7"),
        (("nmin", "1" * 41), "is too many, 10^36 at most"),
        (("vectors", "V21", "--n", "5", "--limit", "0"), '--limit: "0" is not a whole number of 1 or more'),
        (("vectors", "file:none.npy", "--n", "5"), "No such file"),
        (("vectors", "embeddings:@ce", "--n", "5"), "embed"),
    ],
)
def test_bad_usage(arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_several_faults_at_once() -> None:
    done = run("nmin", "1.5", "--system", "X", "--max-cosine", "2")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3


def test_vectors_json() -> None:
    document = json.loads(good("vectors", "V21", "--n", "14", "--json"))
    assert (document["system"], document["n"], document["count"], document["rank"]) == ("V21", 14, 1092, 14)
    assert (document["max_cosine"], document["min_angle_deg"], document["neighbours"]) == (0.6667, 48.19, 33)
    assert "vectors" not in document
    ranged = json.loads(good("vectors", "A", "--n", "5", "--json", "--limit", "2"))
    assert ranged["neighbours"] == [2, 4]
    assert ranged["vectors"][0] == [pytest.approx(math.sqrt(0.5)), pytest.approx(-math.sqrt(0.5)), 0, 0, 0]
    exact = json.loads(good("vectors", "V99", "--n", "64", "--json"))
    assert exact["count"] == 175114109019299049600


def test_vectors_csv_and_back(tmp_path: Path) -> None:
    file = tmp_path / "v.csv"
    done = run("vectors", "V21", "--n", "9", "--csv", str(file), "--limit", "100")
    assert (done.returncode, done.stdout) == (0, "")
    rows = np.loadtxt(file, delimiter=",")
    assert rows.shape == (100, 9)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    assert good("vectors", "V21", "--n", "9", "--csv", "-", "--limit", "100") == file.read_text()
    again = run("vectors", "V21", "--n", "9", "--csv", str(file))
    assert (again.returncode, file.read_text().count("\n")) == (2, 100)
    assert "exists already and is not overwritten; give another name, or --force" in again.stderr
    assert run("vectors", "V21", "--n", "9", "--csv", str(file), "--limit", "100", "--force").returncode == 0
    back = json.loads(good("vectors", f"file:{file}", "--n", "9", "--json", "--classes", "100"))
    assert (back["count"], back["label"], back["neighbours"], back["source"]) == (100, "scan", None, "-")
    assert back["max_cosine"] == 0.6667
    assert [path.name for path in tmp_path.iterdir()] == ["v.csv"]


def test_vectors_for_people() -> None:
    text = good("vectors", "simplex", "--n", "4", "--classes", "5")
    assert "neighbours    4" in text
    text = good("vectors", "V22", "--n", "384")
    assert "5 351 288 256" in text
    assert "+0.5000 [0]  +0.5000 [1]  -0.5000 [2]  -0.5000 [3]" in text
    text = good("vectors", "bch", "--n", "64")
    assert "max cosine    0.250 (75.52 degrees)" in text
    assert "65 536" in text
    assert "crowding      6.104 (mean of exp(16 cos) over pairs of vectors)" in text
    assert "crowding      1.633" in good("vectors", "bch", "--n", "64", "--scale", "8")
    text = good("vectors", "gaussian", "--n", "64", "--classes", "30000")
    assert ", estimate by a sample of 4096" in text
    text = good("vectors", "gaussian", "--n", "64", "--limit", "1")
    assert "max cosine    that of the vectors in use: --classes" in text
    rows = [good("vectors", "rademacher", "--n", "64", "--seed", seed, "--csv", "-", "--limit", "3") for seed in "12"]
    assert rows[0] != rows[1]
    whole = good("vectors", "gaussian", "--n", "3", "--classes", "20", "--csv", "-")
    assert len(whole.splitlines()) == 20
    for command in ("nmin", "vectors"):
        assert "Example: lsc-engine" in good(command, "--help")
