"""benchmarks/papers.py: what it skips, what makes it train again, and the tables it writes."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from report_studies import PRESET, make_study

from lsc_engine.analysis.claims import judge
from lsc_engine.analysis.study_values import from_csv
from lsc_engine.runs.read.run import list_runs

pytestmark = pytest.mark.slow

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "papers.py"
NAME = "beyond/two-mini"


@pytest.fixture(scope="module")
def papers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("papers_script", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(papers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shipped folder with one small preset, its runs, and room for reports."""
    shipped = tmp_path / "presets"
    (shipped / "beyond").mkdir(parents=True)
    (shipped / f"{NAME}.toml").write_text(PRESET.replace("both end alike", "both end | alike"))
    monkeypatch.setattr("lsc_engine.config.load.shipped_folder", lambda: shipped)
    monkeypatch.setattr(papers, "TIMES", shipped / "times.json")
    return tmp_path


def test_comments_and_docstrings_do_not_count_as_changes(papers: ModuleType) -> None:
    one = papers.bare('"""Says."""\ndef f(x):\n    """Does."""\n    return x + 1  # why\n')
    assert one == papers.bare("def f(x):\n    return (x\n            + 1)\n")
    assert one != papers.bare("def f(x):\n    return x + 2\n")
    assert papers.fingerprint(papers.TRAINS) != papers.fingerprint(papers.REPORTS)


def test_reports_are_made_once_and_again_when_the_preset_changes(
    papers: ModuleType, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = place / "runs", place / "docs" / "results"
    told = ["--runs-dir", str(runs), "--out", str(out)]
    assert papers.main([*told, "--no-train"]) == 1
    make_study(runs, PRESET.replace("both end alike", "both end | alike"), name=NAME)
    assert papers.main([*told, "--no-train"]) == 0
    folder = out / "beyond" / "two-mini"
    assert {path.suffix for path in folder.iterdir()} == {".md", ".svg", ".json", ".csv"}
    made = json.loads((folder / "made.json").read_text())
    assert made["seeds"] == 3
    assert made["claims"][0]["accuracy"] == "holds, 3 of 3 seeds"
    assert "both end \\| alike" in (out / "index.md").read_text()
    capsys.readouterr()
    assert papers.main(told) == 0
    assert "as it was" in capsys.readouterr().out
    preset = place / "presets" / f"{NAME}.toml"
    preset.write_text(preset.read_text().replace("is faster", "is quicker"))
    assert papers.main([*told, "--no-train"]) == 0
    assert "as it was" not in capsys.readouterr().out
    assert json.loads((folder / "made.json").read_text())["preset"] != made["preset"]


def test_minutes_are_those_of_all_runs_and_tries_without_their_waiting(papers: ModuleType, place: Path) -> None:
    """Whenever each run trained: what is reported is no sum of sittings."""
    runs, out = place / "runs", place / "docs" / "results"
    make_study(runs, PRESET.replace("both end alike", "both end | alike"), name=NAME)
    make_study(runs, PRESET, name=f"{NAME}.tune")
    spent = 0.0
    for number, run in enumerate(list_runs([runs]), 1):
        share = 0.1 * (number % 3)
        status, source = run.path / "status.json", run.path / "source.json"
        status.write_text(json.dumps(json.loads(status.read_text()) | {"seconds": number}))
        source.write_text(json.dumps(json.loads(source.read_text()) | {"load": {"waited": share}}))
        spent += number * (1 - share)
    papers.beside(papers.shipped_presets()[0], runs, "seconds").write_text("1.0")
    assert papers.main(["--runs-dir", str(runs), "--out", str(out), "--no-train"]) == 0
    assert number == 18
    assert json.loads((out / NAME / "made.json").read_text())["seconds"] == pytest.approx(spent, abs=0.05)
    assert json.loads((place / "presets" / "times.json").read_text()) == {NAME: round(spent / 60, 1)}


def test_the_readme_gets_the_table_between_its_marks(papers: ModuleType, place: Path) -> None:
    runs, out, readme = place / "runs", place / "docs" / "results", place / "README.md"
    make_study(runs, PRESET.replace("both end alike", "both end | alike"), name=NAME)
    readme.write_text("before\n<!-- claims -->\nearlier\n<!-- /claims -->\nafter\n")
    assert papers.main(["--runs-dir", str(runs), "--out", str(out), "--no-train", "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- claims -->\n| row |")
    assert text.endswith("<!-- /claims -->\nafter\n")
    assert "(docs/results/beyond/two-mini/report.md)" in text
    assert "earlier" not in text
    readme.write_text("no marks")
    with pytest.raises(SystemExit, match="marks"):
        papers.main(["--out", str(out), "--index-only", "--readme", str(readme)])


def test_names_must_be_small_presets(papers: ModuleType, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert papers.main(["lsc-2025/fig9"]) == 2
    assert "no small preset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (["holds, 3 of 3 seeds", "does not hold, 3 of 3 seeds"], "1 of 2 hold"),
        (["holds, 3 of 3 seeds", "holds, 3 of 3 seeds"], "all 2 hold"),
        (["does not hold, 3 of 3 seeds"], "does not hold"),
        (["not compared: the losses are of different kinds"], "-"),
        (["open: no level was reached by either"], "open"),
        (["holds, 3 of 3 seeds", "not resolved: equal at the resolution of the evaluations"], "holds, 1 not resolved"),
        (["holds, 3 of 3 seeds", "does not hold, 1 of 3 seeds", "open"], "1 of 2 hold, 1 open"),
        (["not resolved", "open"], "open"),
        (["not resolved", "not compared: no seconds"], "not resolved"),
    ],
)
def test_a_line_counts_the_sentences_that_hold(papers: ModuleType, said: list[str], word: str) -> None:
    assert papers.held(said) == word


def test_pages_that_ship_are_whole(papers: ModuleType) -> None:
    out = FILE.parents[1] / "docs" / "results"
    pages = [out / made.page for made in papers.reports(out)]
    assert pages
    for page in (*pages, out / "index.md", out / "claims.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page}: {target}"
    index = (out / "index.md").read_text()
    assert all(f"]({made.page})" in index for made in papers.reports(out))


def test_verdicts_that_ship_are_those_of_their_values() -> None:
    """Every verdict of every report is computed again from the values beside it."""
    from lsc_engine.report.check import check_reports

    found = check_reports(FILE.parents[1] / "docs" / "results")
    assert found.reports >= 40
    assert found.verdicts >= 130
    assert found.faults == ()


def test_claims_that_ship_are_those_of_the_values(papers: ModuleType, tmp_path: Path) -> None:
    """In made.json of every report, and in the tables made of these files."""
    out = FILE.parents[1] / "docs" / "results"
    for made in papers.reports(out):
        folder = (out / made.page).parent
        assert made.claims == papers.claims_document(judge(from_csv((folder / "values.csv").read_text()))), made.name
        copy = tmp_path / folder.relative_to(out)
        copy.mkdir(parents=True)
        shutil.copy(folder / "made.json", copy)
    shutil.copy(out / papers.TRIED, tmp_path)
    minis = [info.name for info in papers.shipped_presets() if info.name.endswith(papers.SUFFIX)]
    papers.write_index(tmp_path, minis)
    for name in ("index.md", "claims.md"):
        assert (tmp_path / name).read_text() == (out / name).read_text()


def test_results_of_benchmarks_are_discarded_with_the_runs(papers: ModuleType, tmp_path: Path) -> None:
    info = next(info for info in papers.shipped_presets() if info.name == "beyond/labels-fast-mini")
    study = tmp_path / "runs" / info.name
    study.mkdir(parents=True)
    (study / "bench-decode.json").write_text("{}")
    papers.to_trash(info, tmp_path / "runs")
    assert not (study / "bench-decode.json").exists()
