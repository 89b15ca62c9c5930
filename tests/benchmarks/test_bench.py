"""Every benchmark runs in its quick form, compares equal sides, and tells figure, bar and verdict."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lsc_engine import bench
from lsc_engine.cli import build_app
from lsc_engine.common.errors import LscError, UsageError

pytestmark = pytest.mark.slow

# What a benchmark needs to be tiny beyond `quick`.
FEW: dict[str, dict[str, object]] = {}


@pytest.mark.parametrize("name", bench.NAMES)
def test_quick(name: str) -> None:
    result = bench.run(name, quick=True, **FEW.get(name, {}))
    assert result.name == name
    assert result.checks
    assert result.rows
    page = result.markdown()
    assert page.startswith(f"# {name}\n")
    for check in result.checks:
        assert check.what in page
        assert check.bar in page
        assert check.verdict in ("reached", "NOT reached", "not measured here")
    json.dumps(result.document())
    for word in (str(Path.home()), str(Path.cwd()), "/tmp/"):
        assert word not in page


def test_listing_and_unknown_names() -> None:
    runner = CliRunner()
    listed = json.loads(runner.invoke(build_app(), ["bench", "--json"]).stdout)
    assert [row["name"] for row in listed] == list(bench.NAMES)
    assert runner.invoke(build_app(), ["bench"]).stdout.splitlines()[1].startswith(next(iter(bench.NAMES)))
    with pytest.raises(UsageError, match='did you mean "decode"'):
        bench.run("decod")
    with pytest.raises(UsageError, match='there is no format "cvs"; did you mean "csv"'):
        bench.run("foreign", only="cvs")
    with pytest.raises(UsageError, match='"tensorbord" is not allowed; did you mean "tensorboard"'):
        bench.run("mirrors", tools="tensorbord")
    with pytest.raises(UsageError, match='"classess" is not an argument of it; did you mean "classes"'):
        bench.run("decode", classess=3)
    with pytest.raises(UsageError, match="bench head: batch takes a value of type int, not 'abc'"):
        bench.run("head", quick=True, batch="abc")


def test_page_and_document_of_a_command(tmp_path: Path) -> None:
    words = ["bench", "decode", "--quick", "--set", "classes=3_000", "--out", str(tmp_path / "results"), "--json"]
    done = CliRunner().invoke(build_app(), words)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["name"] == "decode"
    page = (tmp_path / "results" / "decode.md").read_text()
    assert "`lsc-engine bench decode --quick --set classes=3000`" in page


def test_a_benchmark_that_is_stopped_keeps_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = bench.load("memory")
    measure, classes = module._side, list[int]()

    def stopped(method: str, count: int, *rest: object) -> dict[str, object]:
        classes.append(count)
        if len(classes) == 4:
            raise KeyboardInterrupt
        return measure(method, count, *rest)  # type: ignore[no-any-return]

    monkeypatch.setattr(module, "_side", stopped)
    done = CliRunner().invoke(build_app(), ["bench", "memory", "--quick", "--device", "cpu", "--out", str(tmp_path)])
    assert done.exit_code != 0
    assert classes == [100, 100, 1_000_000, 1_000_000]
    (row,) = map(json.loads, (tmp_path / "memory.jsonl").read_text().splitlines())
    assert row["classes"] == 100
    assert "memory: classes 100, LSC parameters " in done.stderr
    assert not (tmp_path / "memory.md").exists()


def test_an_assignment_that_is_stopped_keeps_the_smaller_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of its rows takes minutes."""
    module = bench.load("assign")

    def stopped(name: str, classes: int) -> dict[str, object]:
        if classes == 600:
            raise KeyboardInterrupt
        return {"classes": classes}

    monkeypatch.setattr(module, "against_optimum", lambda *_: {"of the optimum": 1.0})
    monkeypatch.setattr(module, "measured", stopped)
    done = CliRunner().invoke(build_app(), ["bench", "assign", "--quick", "--out", str(tmp_path)])
    assert done.exit_code != 0
    assert json.loads((tmp_path / "assign.jsonl").read_text())["classes"] == 90


@pytest.mark.parametrize("name", bench.NAMES)
def test_where_tensors_are_is_an_argument_of_every_benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the index of a GPU, which the measures of memory need; those of the terminal app hold no tensors, and
    vectors are assigned to classes on the processor."""
    import inspect

    import torch

    seen, current = list[object](), list[object]()
    module = bench.load(name)
    takes = "device" in inspect.signature(module.run).parameters
    assert takes == (name not in ("assign", "startup", "chart", "tui", "foreign"))

    def noted(*, quick: bool, device: str = "cpu") -> bench.Result:
        seen.append(device)
        return bench.Result(name, [], [])

    monkeypatch.setattr(module, "run", noted)
    with pytest.raises(UsageError, match="finds no CUDA GPU here"):
        bench.run(name, device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    bench.run(name, device="cuda:1")
    assert (seen, current) == (["cuda:1"], [torch.device("cuda:1")])


def test_the_largest_batch_is_found_by_a_straight_line_and_checked() -> None:
    import torch

    held, tried = torch.zeros(1), list[int]()

    def step(batch: int) -> None:
        tried.append(batch)
        torch.zeros(1000 + batch * 500).sum()
        if batch > 300:
            # More than a straight line gives.
            torch.zeros(1000 + batch * 510).sum()

    largest_batch = bench.load("memory").largest_batch
    # 4 bytes each, and a few of the sum: (1000 + 500 B) * 4 <= 404_000 is B <= 200.
    assert largest_batch(step, 404_100, held.device) == 200
    assert tried == [1, 8, 16, 200]
    most = largest_batch(step, 1_004_000, held.device)
    assert 0.98 * 491 <= most <= 491
    assert largest_batch(step, 5_000, held.device) == 0
    full = bench.load("memory")._step("lsc", 50, "timm:vit_tiny_patch16_224", 32, held.device)
    full(1)
    few, more = (bench.load("measure").peak_bytes(lambda n=n: full(n)) for n in (2, 4))
    assert more > few


def test_worst_check_is_the_verdict_and_cells_are_short() -> None:
    checks = [bench.Check("a", "1", "2", True), bench.Check("b", "1", "2", None)]
    assert bench.Result("x", checks, []).verdict == "reached"
    assert bench.Result("x", [*checks, bench.Check("c", "3", "2", False)], []).verdict == "NOT reached"
    assert bench.Result("x", checks[1:], []).verdict == "not measured here"
    assert [bench.shown(v) for v in (1_281_167, 0.12345, 12345.6, None, "a", True)] == [
        "1 281 167", "0.123", "12 346", "-", "a", "True",
    ]  # fmt: skip


def test_sides_that_differ_end_a_benchmark() -> None:
    import torch

    same = bench.load("measure").same
    same("labels", torch.tensor([1, 2]), torch.tensor([1, 2]))
    with pytest.raises(LscError, match="labels: the sides differ"):
        same("labels", torch.tensor([1, 2]), torch.tensor([1, 3]))
    with pytest.raises(LscError, match=r"differ by 0\.5"):
        same("loss", torch.tensor([1.0]), torch.tensor([1.5]), tolerance=0.1)
    with pytest.raises(LscError):
        same("loss", torch.tensor([float("nan")]), torch.tensor([1.5]), tolerance=0.1)


def test_peak_memory_counts_what_is_held_at_once() -> None:
    import torch

    peak_bytes = bench.load("measure").peak_bytes

    def call() -> None:
        a = torch.empty(1000)
        b = torch.empty(2000)
        del a
        c = torch.empty(500)
        del b, c

    assert 12_000 <= peak_bytes(call) <= 12_400


def test_baselines_agree_with_each_other() -> None:
    import torch

    baselines = bench.load("baselines")
    z = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(32) * 7
    found = []
    for layer in (
        baselines.DenseCE(16, 500), baselines.ChunkedCE(16, 500, block=33), baselines.SampledCE(16, 500, rate=1.0)
    ):  # fmt: skip
        row = z.clone().requires_grad_()
        loss = layer(row, labels)
        (3 * loss).backward()
        assert row.grad is not None
        found.append((loss.detach(), row.grad, layer.weight.grad.to_dense()))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-6, rtol=1e-5)
    few = baselines.SampledCE(16, 500, rate=0.1)
    few(z, labels).backward()
    touched = few.weight.grad.coalesce().indices()[0]
    assert len(touched) == 50
    assert set(labels.tolist()) <= set(touched.tolist())


def test_the_benchmarks_lie_in_the_package_or_beside_it() -> None:
    folder = Path(bench.package().__file__).parent
    assert folder.name == "benchmarks"
    for name in bench.NAMES:
        file = f"{bench.MODULES.get(name, name)}.py"
        assert (folder / file).is_file()
        # Scripts beside it would otherwise import it in the library's place.
        assert file.removesuffix(".py") not in sys.stdlib_module_names
    assert sys.modules["lsc_engine.benchmarks"] is bench.package()
