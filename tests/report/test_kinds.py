"""Reports of kinds that do not train: vectors, data, bench; and the figures of embeddings."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from report_studies import call
from test_report import part, row

from lsc_engine.common.errors import UsageError
from lsc_engine.report.check import check_reports
from lsc_engine.report.figures import draw_angles, draw_points
from lsc_engine.report.page import Page
from lsc_engine.report.report import PAGE, default_folder, write_report
from lsc_engine.report.sections.results import snapshots_of
from lsc_engine.report.sections.untrained import mean_acute_angle, size_figures, size_of
from lsc_engine.runs.read.embeddings import Points
from lsc_engine.runs.read.run import open_run
from lsc_engine.runs.read.studies import Study, find_study
from lsc_engine.studies.plan import plan_study
from lsc_engine.studies.prepare import write_study
from lsc_engine.vectors.registry import facts

pytestmark = pytest.mark.usefixtures("svg_only")
VECTORS = """
title = "Table 1"
kind = "vectors"
[vectors]
systems = ["A", "A-mid", "V21", "W6", "simplex"]
n = [3]
classes = [10, 1000]
pictures = true
[paper]
metric = "vectors/angle"
values = { A = "60/45" }
note = "average and smallest"
"""


def made(tmp_path: Path, text: str, name: str) -> tuple[Study, str]:
    """The report of a preset that does not train."""
    (tmp_path / f"{name}.toml").write_text(text)
    plan = plan_study(tmp_path / f"{name}.toml")
    write_study(tmp_path / "runs", plan.study, plan.to_toml())
    study = Study(name, tmp_path / "runs", ())
    write_report(study, default_folder(study))
    return study, (default_folder(study) / PAGE).read_text()


def test_vectors_page(tmp_path: Path) -> None:
    study, page = made(tmp_path, VECTORS, "table1")
    text = part(page, "Properties")
    assert row(text, "A ")[:8] == ["A", "3", "12", "0.7071", "45.0", "60.0", "50.0", "3"]
    assert row(text, "A-mid")[4:6] == ["24.1", "33.6"]
    assert row(text, "simplex")[2] == "4"
    least = part(page, "Smallest n")
    assert re.search(r"\| 1 000 \| V21 \| 14 \| 1 092 \| 91\.6 \|", least)
    assert row(part(page, "The paper's figures"), "A")[1] == "60/45"
    files = {path.name for path in default_folder(study).iterdir()}
    assert {"A2.svg", "A3.svg", "cosines.svg", "systems.csv", "n_min.csv"} <= files
    assert all(path.stat().st_size < 150_000 for path in default_folder(study).glob("*.svg"))


def test_mean_acute_angle_is_that_of_the_paper() -> None:
    for n in (3, 9, 384):
        assert mean_acute_angle(facts("A", n)) == pytest.approx(60 - 30 / n)
    assert facts("A-interp", 9).undropped_max_cosine == pytest.approx(math.cos(math.radians(30)))
    assert facts("V21", 9).undropped_max_cosine is None


def test_data_page_lists_what_is_missing_and_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    text = 'kind = "data"\n[datasets]\nnames = ["digits", "cifar10"]\n[paper]\nvalues = { cifar10 = "60k/10k" }'
    _, page = made(tmp_path, text, "table2")
    assert row(part(page, "Images"), "scikit-learn")[1:4] == ["found", "1 497", "300"]
    assert row(part(page, "Images"), "CIFAR-10")[1:] == ["not here", "50 000", "10 000", "10", "32 px", "60k/10k"]
    assert "cifar-10-python.tar.gz" in part(page, "How to get them")
    assert str(tmp_path) not in page


def test_run_makes_the_report_of_a_kind_and_ends_0(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text(
        'kind = "bench"\n[bench]\nnames = ["head"]\narguments = { head = { quick = true } }'
    )
    document = json.loads(call("run", tmp_path / "b.toml", "--runs-dir", tmp_path / "runs", "--json"))
    assert document["kind"] == "bench"
    assert document["verdicts"]
    kept = tmp_path / "runs/b/bench-head.json"
    before = kept.read_bytes()
    call("report", "--all", "--runs-dir", tmp_path / "runs")
    assert kept.read_bytes() == before
    assert "[b](b/report/report.md)" in (tmp_path / "runs/index.md").read_text()
    (tmp_path / "c.toml").write_text('kind = "bench"\n[bench]\nnames = ["heads"]')
    with pytest.raises(UsageError, match='did you mean "head"'):
        call("run", tmp_path / "c.toml", "--runs-dir", tmp_path / "runs")
    assert not (tmp_path / "runs/c").exists()


def test_a_bench_that_was_not_run_is_listed_as_missing(tmp_path: Path) -> None:
    _, page = made(tmp_path, 'kind = "bench"\n[bench]\nnames = ["decode"]', "labels")
    assert "benchmark decode was not run: lsc-engine run labels measures it" in part(page, "Missing")


def test_sizes_are_drawn_against_classes(tmp_path: Path) -> None:
    assert size_of("time", "0.5 ms") == (0.0005, "time in seconds")
    assert size_of("memory MB", 12) == (12e6, "memory in bytes")
    assert size_of("system", "V21") is None
    rows = [{"classes": 10**k, "LSC memory": "1 MB", "CE memory": f"{10**k} MB", "speed": "×3"} for k in range(3, 7)]
    page = Page(tmp_path)
    assert len(size_figures("head-1", rows, page)) == 1
    svg = next(f for f in page.files if f.suffix == ".svg").read_text()
    assert "LSC memory" in svg
    assert "CE memory" in svg


@pytest.mark.slow
def test_embeddings_of_a_trained_study_are_drawn_over_training(trained: Path, tmp_path: Path) -> None:
    shots = snapshots_of(open_run("means/ce/seed-0", [trained]))
    assert [round(shot.epoch) for shot in shots] == [1, 2, 3]
    written = write_report(find_study("means", [trained]), tmp_path)
    names = {path.name for path in written.files}
    assert {"embeddings-ce.svg", "embeddings-means.svg", "embeddings-a.svg"} <= names
    assert "on the sphere over training" in part((tmp_path / PAGE).read_text(), "Embeddings")
    assert (tmp_path / "embeddings-a.svg").stat().st_size < 150_000


def test_points_in_the_plane_and_angles_are_drawn(tmp_path: Path) -> None:
    from lsc_engine.runs.read.embeddings import Angles

    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 2))
    label = rng.integers(0, 4, 40)
    centre = 5 * np.array([[math.cos(a), math.sin(a)] for a in (0, 1.57, 3.14, 4.71)])
    shot = Points(7, 1.0, 4, 90.0, False, 1.0, z, label, label, np.arange(4), centre)
    (svg,) = draw_points([shot], "planar $5", tmp_path, "plane")
    assert "planar $5" in svg.read_text()
    counts = np.zeros(180, np.int64)
    counts[10] = 50
    found = Angles(7, 1.0, 40, 48.2, 16, counts, np.roll(counts, 60), 1.0, 0.0)
    assert draw_angles([("V21", found), ("A", found)], tmp_path)[0].stat().st_size > 1000


BOUNDED = """
kind = "bench"
[bench]
names = ["head"]
arguments = { head = { quick = true } }
[[bench.claims]]
text = "memory stays"
column = "memory"
spread = 1.1
[[bench.claims]]
text = "never slower"
column = "faster"
at_least = 1.0
[[bench.claims]]
text = "half of the others"
column = "ours"
relative_to = "theirs"
at_most = 0.5
"""


def test_a_benchmark_is_judged_by_every_row_of_every_table(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text(BOUNDED)
    plan = plan_study(tmp_path / "b.toml")
    write_study(tmp_path / "runs", plan.study, plan.to_toml())
    study = Study("b", tmp_path / "runs", ())
    first = [{"classes": 10, "faster": 259.0, "memory": "2 MB", "ours": "1 ms", "theirs": "4 ms"}]
    second = [
        {"classes": 1000, "faster": 0.25, "memory": "2.1 MB", "ours": "900 us", "theirs": "1 s"},
        {"classes": 2000, "faster": None, "memory": "does not fit", "ours": "1 ms", "theirs": "does not fit"},
    ]
    study.path.mkdir(parents=True)
    kept = {"arguments": {"quick": True}, "tables": [{"rows": first}, {"rows": second}], "checks": []}
    (study.path / "bench-head.json").write_text(json.dumps(kept))
    written = write_report(study, tmp_path / "out" / "b")
    memory, faster, half = written.verdicts
    assert memory.accuracy == "holds, 2 of 2 cases"
    assert faster.accuracy == "does not hold, 1 of 2 cases: 0.25 at classes 1000"
    assert half.accuracy == "holds, 2 of 2 cases"
    assert [one.short for one in written.verdicts] == ["holds", "does not hold", "holds"]
    assert check_reports(tmp_path / "out").faults == ()
