"""Text in cells: widths, numbers, bars, frames; and the small pure parts: filter, rows, state file, log index."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from lsc_engine.common.formatting import clock, duration
from lsc_engine.common.hardware import Gpu, Hardware, Sampler
from lsc_engine.runs.read.run import list_runs
from lsc_tui.data.filters import Filter, completions
from lsc_tui.data.run_cache import LogIndex, TrackedRun, read_trend
from lsc_tui.data.run_view import RunView, Store, baseline_of, colour_of, gpu_number, setting_differences
from lsc_tui.data.ui_state import UiState
from lsc_tui.lines import (
    STATES,
    ascii_twin,
    bar,
    box,
    clean,
    ends,
    fit,
    loss_text,
    pad,
    progress,
    rule,
    size_text,
    trend,
    width_of,
    wrap,
)
from lsc_tui.screens.monitor.panels import gpu_of, machine
from lsc_tui.screens.runs.details import gpu_lines
from lsc_tui.theme import THEMES
from lsc_tui.widgets.panel import STYLES, style_table
from lsc_tui.widgets.runs_table import Order, build_rows, header, layout, run_line, study_line, where_text


@given(st.text(max_size=30), st.integers(0, 40), st.sampled_from("<>"))
def test_fit_is_exact_in_cells(text: str, width: int, align: str) -> None:
    assert cell_len(fit(clean(text), width, align)) == width


@given(st.lists(st.text(max_size=10), max_size=5), st.integers(0, 60))
def test_pad_is_exact_in_cells(texts: list[str], width: int) -> None:
    assert width_of(pad([(clean(text), "") for text in texts], width)) == width


@given(st.text(max_size=40))
def test_ascii_twin_keeps_the_width_and_is_ascii(text: str) -> None:
    text = clean(text)
    twin = ascii_twin(text)
    assert twin.isascii()
    assert cell_len(twin) == cell_len(text)


@given(st.integers(0, 60), st.integers(0, 20), st.text(max_size=20), st.text(max_size=20))
def test_frames_and_rules_fill_their_box(width: int, height: int, title: str, right: str) -> None:
    lines = box([[("body", "")]], width, height, clean(title), clean(right))
    assert len(lines) <= max(height, 1)
    assert all(width_of(line) == width for line in lines)
    if width >= 4:
        assert width_of(rule(width, clean(title), clean(right))) == width


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [(0.2414, "c", ".2414c"), (2.1137, "e", "2.114e"), (12.3456, "d", "12.35d"), (math.nan, "c", "NaN"),
     (None, "c", "-"),
     (1e9, "c", "1e9c"), (0.0, "c", ".0000c"), (-0.5, "b", "-.5000b"), (4.9e-5, "c", "4.9e-5c")],
)  # fmt: skip
def test_losses_carry_their_kind(value: float | None, kind: str, text: str) -> None:
    assert loss_text(value, kind) == text


def test_times_and_sizes() -> None:
    assert [clock(s) for s in (None, 0, 1009, 3599, 3600, 33_120, 400_000)] == [
        "-", "0:00", "16:49", "59:59", "1h00", "9h12", "4d15",
    ]  # fmt: skip
    texts = [duration(s, 0) for s in (41, 840, 10_800, 1e6, math.nan)]
    assert texts == ["41 s", "14 min", "3 h", "12 d", "-"]
    assert [size_text(s) for s in (107e6, 0.92e9, 12, None)] == ["107 MB", "920 MB", "12 B", "n/a"]


def test_bars_and_trends() -> None:
    assert bar(0.5, 4) == "██░░"
    assert bar(0.97, 8)[:7] == "█" * 7
    assert bar(None, 3) == "░░░"
    assert len(bar(2.0, 5)) == len(bar(-1.0, 5)) == 5
    assert trend([8, 4, 2, 1], 2) == "⠑⢄"
    assert trend([1, 0.5, math.nan], 1) == "×"
    assert trend([1, 0.5, 0.5, math.nan], 2) == "⢁×"
    assert trend([1e308, -1e308], 1) == "⣀"
    assert ascii_twin(trend([8, 4, 2, 1], 2)) == "'-"
    assert [progress(share) for share in (0, 0.01, 0.5, 0.99, 1, math.nan)] == [" ", "▁", "▄", "▇", "█", " "]
    assert trend([], 3) == "-"
    assert width_of(ends([("left", "")], [("right", "")], 20)) == 20
    assert wrap("one two three", 7) == ["one two", "three"]


def _views(runs: Path) -> list[RunView]:
    out = []
    for run in list_runs([runs]):
        tracked = TrackedRun(f"0:{run.id}", run, 0, False)
        tracked.look(short="abcd", place=0, with_trend=True)
        assert tracked.view is not None
        out.append(tracked.view)
    return out


def test_filters(made_runs: Path) -> None:
    views = _views(made_runs)

    def found(text: str) -> set[str]:
        chosen = Filter(text)
        assert not chosen.fault, chosen.fault
        return {view.id for view in views if chosen(view)}

    assert len(found("fig9")) == 6
    assert found("fig9 state:running seed:0") == {"lsc-2025/fig9/V21-min/seed-0"}
    assert found("system:V21 loss<0.13") == {"lsc-2025/fig9/V21-384/seed-0"}
    assert len(found("!fig9")) == 6
    assert len(found("!state:finished")) == 6
    assert found("kind:e") == {"lsc-2025/fig9/CE-384/seed-0"}
    assert "did you mean" in Filter("sate:running").fault
    assert "needs a number" in Filter("loss<x").fault
    assert "state:running" in completions(views)


def test_rows_sort_inside_studies_and_keep_loss_kinds_apart(made_runs: Path) -> None:
    views = _views(made_runs)
    rows = build_rows(views, Order())
    assert [row.views[0].study for row in rows if row.kind == "study"] == ["lsc-2025/fig9", "etf-2024/mlp", "mine"]
    assert rows[0].done == (2, 6)
    by_loss = [row.views[0] for row in build_rows(views, Order("loss")) if row.kind == "run"][:6]
    assert [view.variant for view in by_loss][:2] == ["V21-384", "V21-min"]
    assert by_loss[-1].loss_kind == "e"
    folded = build_rows(views, Order(folded=True))
    assert [row.kind for row in folded if row.views[0].study == "mine"] == ["study", "fold"]
    closed = build_rows(views, Order(closed={"study:0:mine"}))
    assert sum(row.views[0].study == "mine" for row in closed) == 1


@pytest.mark.parametrize("width", [40, 60, 80, 100, 113, 158, 400])
def test_every_row_fits_its_width(made_runs: Path, width: int) -> None:
    views = _views(made_runs)
    columns = layout(Order(), width)
    for row in build_rows(views, Order(folded=width % 3 == 0)):
        line = study_line(row, width, wide=width > 100) if row.kind == "study" else run_line(row, columns, width)
        assert width_of(line) == width
    assert width < 60 or width_of(header(columns, width, Order())) <= width


def test_settings_that_differ(made_runs: Path) -> None:
    views = [view for view in _views(made_runs) if view.study == "lsc-2025/fig9"]
    smallest = next(view for view in views if view.variant == "V21-min")
    base = baseline_of(smallest, views)
    assert base is not None
    assert base.variant == "A-384"
    assert {name for name, _, _ in setting_differences(smallest, base)} == {"model.dim", "target.system"}


def test_letters_stay_and_are_given_again() -> None:
    store = Store("here")
    for key in ("x", "y", "z"):
        store.mark(key)
    store.mark("y")
    store.mark("w")
    assert store.marked == {"x": "a", "z": "c", "w": "b"}
    assert colour_of("c") == 2


def test_state_is_kept_per_folders_and_survives_damage(tmp_path: Path) -> None:
    first = UiState([tmp_path / "a"], tmp_path)
    first.set(sort="loss", inverted=True)
    again = UiState([tmp_path / "a"], tmp_path)
    assert again.get("sort", "started") == "loss"
    assert again.get("inverted", False) is True
    assert again.get("sort", 5) == 5
    assert UiState([tmp_path / "b"], tmp_path).get("sort", "started") == "started"
    first.path.write_text("{ torn")
    assert UiState([tmp_path / "a"], tmp_path).get("sort", "started") == "started"
    assert not list(tmp_path.glob(".view-*"))


def test_changed_keys_are_told_once_to_those_who_knew_the_old_ones(tmp_path: Path) -> None:
    first = UiState([tmp_path / "a"], tmp_path)
    assert first.key_changes() == ""
    first.path.write_text('{"sort": "loss"}')
    again = UiState([tmp_path / "a"], tmp_path)
    assert "/ in the form" in again.key_changes()
    assert again.key_changes() == ""
    assert UiState([tmp_path / "a"], tmp_path).key_changes() == ""
    assert UiState([tmp_path / "a"], tmp_path).get("sort", "") == "loss"


def test_log_index_reads_any_part_and_follows(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("".join(f"line {i}\n" for i in range(5000)) + "torn")
    index = LogIndex(path)
    assert index.poll()
    assert index.count == 5001
    assert index.lines(4998, 10) == ["line 4998", "line 4999", "torn"]
    with path.open("a") as file:
        file.write(" end\rbar 1\rbar 2\nnext\n")
    assert index.poll()
    assert index.lines(5000, 2) == ["bar 2", "next"]
    path.write_text("short\n")
    assert index.poll()
    assert index.lines(0, 5) == ["short"]
    assert not index.poll()


def test_trend_of_a_long_file_is_sampled(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with path.open("w") as file:
        for i in range(20_000):
            file.write(f'{{"step":{i},"train/loss":{1 - i / 20_000:.5f}}}\n')
    values = read_trend(path)
    assert len(values) == 24
    assert list(values) == sorted(values, reverse=True)
    assert values[0] > 0.99
    assert values[-1] < 0.01


def test_where_attempts_begin(made_runs: Path) -> None:
    run = next(run for run in list_runs([made_runs]) if run.id.endswith("V21-min/seed-0"))
    run.poll()
    assert run.table.attempt_starts()[1:] == [284]


class _Nvml:
    """NVML as far as it is asked; some fields refuse, as MIG and missing permissions do."""

    def __getattr__(self, name: str) -> object:
        def refuse(*_: object) -> object:
            raise RuntimeError("Not Supported")

        return refuse

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA A100-SXM4-40GB"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> object:
        return SimpleNamespace(used=11.2e9, total=40e9)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[object]:
        return [SimpleNamespace(pid=1)]


def test_a_gpu_that_refuses_fields_shows_what_it_gives(made_runs: Path) -> None:
    sampler = Sampler()
    sampler._opened, sampler._nvml, sampler._handles = True, _Nvml(), [0]
    hardware = sampler.sample(None)
    assert hardware.gpus[0].memory == 11.2e9
    assert hardware.gpus[0].util is None
    assert hardware.gpus[0].power is None
    store = Store("gpu07")
    store.hardware = hardware
    text = "\n".join("".join(t for t, _ in line) for line in (gpu_lines(store, 44) or ("", "", []))[2])
    assert "n/a" in text
    assert "11.2/40.0" in text
    view = _views(made_runs)[0]
    for framed, width in ((True, 52), (False, 80)):
        _, _, lines = machine(store, view, width, framed=framed, last_event="", now=0.0)
        assert all(width_of(line) <= max(width, 90) for line in lines)


def test_gpus_name_the_run_that_owns_them(made_runs: Path) -> None:
    store = Store("gpu07")
    store.runs = {view.key: view for view in _views(made_runs)}
    running = store.runs["0:lsc-2025/fig9/V21-min/seed-0"]
    pid = running.status.pid
    assert pid is not None
    gpus = (
        Gpu(0, util=88.0, processes=((77, "anna"),)),
        Gpu(1, util=0.0),
        Gpu(2, util=97.0, processes=((pid, "ada"),)),
        Gpu(3, util=50.0),
    )
    store.hardware = Hardware(gpus)
    assert store.owner_of(gpus[0]) == "anna"
    assert store.owner_of(gpus[1]) == "free"
    assert store.owner_of(gpus[2]).endswith(("s0", "s1"))
    assert store.owner_of(gpus[3]) == "in use"
    assert [gpu.busy for gpu in gpus] == [True, False, True, True]
    assert where_text(running) == "gpu07:2"
    # By its process; by its number where this machine knows the process by another id, as outside a container.
    assert gpu_of(store, running) is gpus[2]
    store.hardware = Hardware((gpus[0], gpus[1], Gpu(2, util=97.0, processes=((5, "ada"),)), gpus[3]))
    found = gpu_of(store, running)
    assert found is not None
    assert found.index == 2


@pytest.mark.parametrize(
    ("device", "number"),
    [
        ("NVIDIA H100 80GB HBM3 (cuda:3)", 3),
        ("cuda:0", 0),
        ("cpu", None),
        ("", None),
        ("x (cuda)", None),
        ("cuda:x", None),
    ],
)
def test_a_gpu_has_the_number_that_its_device_ends_with(device: str, number: int | None) -> None:
    assert gpu_number(device) == number


def test_every_theme_colours_every_style() -> None:
    for theme in THEMES.values():
        variables = theme.to_color_system().generate() | theme.variables
        table = style_table(variables)
        assert set(STYLES) <= set(table)
        for state in STATES:
            assert table[f"state-{state}"].color is not None
        if not theme.ansi:
            assert len({table[f"series-{i}"].color for i in range(8)}) == 8
