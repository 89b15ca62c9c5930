"""New run: choosing, adjusting, what follows, saving, and a real launch; asserted on state, then on text."""

from __future__ import annotations

import importlib.util
import threading
import tomllib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from presets_for_tests import TINY, lay_out
from samples import fix
from textual.pilot import Pilot
from tui_helpers import make_app, settle, text_of

from lsc_engine.common.errors import FULL, UsageError
from lsc_engine.common.hardware import Gpu, Hardware
from lsc_engine.config.load import list_presets, load_preset
from lsc_engine.runs.folder.status import Status, write_status
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.runs.read.run import Run, open_run
from lsc_engine.studies.plan import plan_study
from lsc_tui.app import LscApp
from lsc_tui.data.preset_form import Form
from lsc_tui.data.run_view import RunView, Store
from lsc_tui.lines import width_of
from lsc_tui.modals import ChoiceScreen
from lsc_tui.screens.new_run import consequences
from lsc_tui.screens.new_run.preset_list import cut_titles, time_of, words_of
from lsc_tui.screens.new_run.screen import NewScreen
from lsc_tui.services import form_check as follow
from lsc_tui.services.form_check import Outcome, examine
from lsc_tui.services.launch import device_argv, launch_argv, launch_words
from tests.waiting import pause_until, wait_until

SIZES = [(80, 24), (160, 48)]


@pytest.fixture
def place(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs and presets of the tests; returns the runs folder."""
    lay_out(tmp_path, monkeypatch)
    return runs


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No `check` in another process: what it says is tested by itself."""
    monkeypatch.setattr(follow.Sizes, "ask", lambda self, outcome, data_dir: None)


@pytest.fixture
def fixed_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters and memory that do not follow the engine's models, for the pictures."""
    numbers = {"parameters": 40_000, "head_parameters": 0, "class_layer_parameters": 3000, "memory_bytes": 1_800_000}
    monkeypatch.setattr(follow.Sizes, "known", lambda self, text: {"wide": numbers, "least": numbers})


async def ready(app: LscApp, pilot: Pilot[Any]) -> NewScreen:
    """Wait until what was requested is there: the list of presets, the check of the form."""
    screen = app.lsc_screen
    assert isinstance(screen, NewScreen)
    await pause_until(pilot, lambda: screen.preset_list.infos and not screen.checking and screen._logout)
    await pilot.pause()
    return screen


@asynccontextmanager
async def new_run(
    place: Path, size: tuple[int, int] = (80, 24), keys: tuple[str, ...] = ()
) -> AsyncIterator[tuple[LscApp, Pilot[Any], NewScreen]]:
    app = make_app(place)
    async with app.run_test(size=size) as pilot:
        await settle(app, pilot)
        await pilot.press("4")
        screen = await ready(app, pilot)
        for key in keys:
            await pilot.press(key)
            screen = await ready(app, pilot)
        yield app, pilot, screen


async def put(app: LscApp, pilot: Pilot[Any], screen: NewScreen, key: str, text: str) -> None:
    """Type a value into a row of the form."""
    screen.panel.go(key)
    await pilot.press("enter")
    if isinstance(app.screen, ChoiceScreen):
        await pilot.press(*["pagedown"] * 10, "enter")
    await pilot.pause()
    field = screen.query_one("#prompt")
    field.value = text  # type: ignore[attr-defined]
    await pilot.press("enter")
    await ready(app, pilot)


def form(text: str = TINY, place: Path = Path("/nonexistent"), **options: Any) -> Form:
    return Form.of(text, "tiny", "tiny", place, **options)


# --- the form without a screen ----------------------------------------------------------------------------------------


def test_a_setting_of_the_file_changes_for_all_variants_one_of_a_variant_for_it_alone(tmp_path: Path) -> None:
    f = form(place=tmp_path)
    assert [f.mark(k) for k in ("target.loss", "data.labels", "optimizer.lr", "model.dim")] == ["P", "I", "O", " "]
    f.set("optimizer.lr", "3e-4")
    f.set("model.dim", "30")
    assert f.given("optimizer.lr", "least") == 3e-4
    assert (f.given("model.dim", "wide"), f.given("model.dim", "least")) == (30, "min")
    assert f.mark("optimizer.lr") == "*"
    assert (f.mark("model.dim", "wide"), f.mark("model.dim", "least")) == ("*", " ")
    f.put("model.dim", 40, f.names)
    assert f.given("model.dim", "least") == 40
    f.reset("model.dim")
    f.reset("optimizer.lr")
    assert f.raw == f.before
    assert f.toml() == TINY


def test_what_is_saved_says_of_each_change_what_the_preset_had(tmp_path: Path) -> None:
    f = form(place=tmp_path)
    f.set("train.batch_size", "16")
    f.set("model.dim", "30")
    path = tmp_path / "mine.toml"
    path.write_text(f.toml())
    saved = load_preset(path)
    assert saved.provenance["train.batch_size"] == "ours: changed, the preset had 32"
    assert saved.provenance["model.dim"] == "ours: changed, the preset had 24 in wide, min in least"
    assert saved.provenance["target.loss"] == "paper"
    assert saved.variants[0].settings.model.dim == 30
    assert '[[variants]]\nname = "least"\nlabel = "V21 n_min"\nmodel.dim = "min"\n' in f.toml()


def test_tables_of_a_variant_come_back_as_they_were(tmp_path: Path) -> None:
    text = TINY + 'model.args = { layers = 3, "a b" = [1, 2] }\ncheckpoint.also_at = ["1 epochs", "2 epochs"]\n'
    f = form(text, tmp_path)
    f.set("optimizer.lr", "1e-2")
    again = tomllib.loads(f.toml())
    assert again["variants"] == f.before["variants"]
    assert again["optimizer"]["lr"] == 1e-2


@pytest.mark.parametrize(("text", "seeds"), [("0 1 2", [0, 1, 2]), ("3,5", [3, 5]), ("0-3", [0, 1, 2, 3])])
def test_seeds_as_people_write_them(text: str, seeds: list[int]) -> None:
    f = form()
    f.set_seeds(text)
    assert f.raw["seeds"] == seeds
    assert f.toml().index("seeds") < f.toml().index("[data]")
    with pytest.raises(UsageError, match="not a whole number"):
        f.set_seeds("one")


def test_examine_tells_every_fault_at_its_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSC_DATA", str(tmp_path))
    f = form(place=tmp_path)
    out = examine(f)
    assert out.faults == []
    assert out.runs == ("tiny/wide/seed-0", "tiny/least/seed-0")
    assert out.variants["least"]["n"] == 8
    f.set("model.dim", "3")
    f.set("data.augment", "heavy")
    outcome_now = {(p.key, p.variant) for p in examine(f).faults}
    assert ("data.augment", None) in outcome_now
    f.reset("data.augment")
    faults = examine(f).faults
    assert [(p.key, p.variant) for p in faults] == [("model.dim", "wide")]
    assert faults[0].message.startswith("V21 at n = 3 has 3 vectors, 120 are needed. Take n >= 8")
    f.reset("model.dim")
    f.set("data.dataset", "imagenet")
    f.set("data.image_size", "32")
    missing = examine(f).faults
    assert [p.key for p in missing] == ["data.dataset"]
    assert missing[0].message.endswith("or use digits or spectrum")
    f.on = set()
    assert any(p.key == "variants" for p in examine(f).faults)


def test_other_settings_under_a_name_that_is_taken_get_a_free_one_and_a_typed_name_is_refused(tmp_path: Path) -> None:
    from lsc_engine.studies.plan import plan_study
    from lsc_engine.studies.prepare import create_study

    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    create_study(plan_study(path), tmp_path / "runs", {})
    f = form(place=tmp_path / "runs", path=path)
    assert examine(f).faults == []
    f.set("optimizer.lr", "1e-2")
    found = examine(f)
    assert found.faults == []
    assert found.study == "tiny-2"
    assert found.runs[0].startswith("tiny-2/")
    f.study, f.wanted = "tiny", ""
    found = examine(f)
    assert found.faults[0].key == "study"
    assert "tiny-2 is a free name" in found.faults[0].message
    assert found.draft is not None, "parameters are counted all the same"


def test_the_command_is_the_one_of_the_command_line(tmp_path: Path) -> None:
    f = form(place=tmp_path, path=tmp_path / "tiny.toml")
    f.on = {"least"}
    argv = launch_argv(f, f.path)
    assert argv == [
        "run",
        str(f.path),
        "--name",
        "tiny",
        "--variant",
        "least",
        "--runs-dir",
        str(tmp_path),
    ]

    class WithGpus:
        hardware = Hardware((Gpu(0, processes=((7, "anna"),)), Gpu(1)))

    class Without:
        hardware = Hardware()

    devices = {"auto": ["--gpus", "auto"], "0,1": ["--gpus", "0,1"], "cpu": ["--device", "cpu"]}
    for device, words in devices.items():
        f.device = device
        assert device_argv(f, WithGpus()) == words  # type: ignore[arg-type]
    f.device = "auto"
    assert device_argv(f, Without()) == ["--device", "auto"]  # type: ignore[arg-type]
    out = Outcome(runs=("a", "b", "c"))
    assert launch_words(f, out, WithGpus()) == "launch 3 runs, 1 now on GPU 1, 2 queued?"  # type: ignore[arg-type]
    assert launch_words(f, out, Without()) == "launch 3 runs on the CPU, one after the other?"  # type: ignore[arg-type]
    f.wanted, f.study = "tiny", "tiny-2"
    words = "launch 3 runs as tiny-2 on the CPU, one after the other?"
    assert launch_words(f, out, Without()) == words  # type: ignore[arg-type]
    assert launch_argv(f, tmp_path / "p.toml", "submit")[0] == "submit"


def test_sizes_come_from_check_and_a_newer_question_ends_the_older(tmp_path: Path) -> None:
    import threading

    first, second = form(place=tmp_path), form(place=tmp_path)
    first.set("optimizer.lr", "5e-3")
    second.set("optimizer.lr", "6e-3")
    sizes, answers = follow.Sizes(), []
    thread = threading.Thread(target=lambda: answers.append(sizes.ask(examine(first), "")))
    thread.start()
    wait_until(lambda: sizes._process)
    outcome_now = sizes.ask(examine(second), "")
    thread.join()
    assert answers == [None]
    assert isinstance(outcome_now, dict)
    assert outcome_now["wide"]["parameters"] > 1000
    assert outcome_now["wide"]["memory_bytes"] > 0


# --- the screen -------------------------------------------------------------------------------------------------------


async def test_presets_by_paper_with_data_at_hand_or_not(place: Path) -> None:
    async with new_run(place) as (app, pilot, screen):
        text = text_of(app)
        assert "▾ lsc-2025   arXiv:2510.04090" in text
        assert "n_min faster than n=384, 300k" in text
        assert "- imagenet" in text
        assert screen.preset_list.here == 1
        assert screen.preset_list.current is not None
        assert screen.preset_list.current.info is not None
        assert screen.preset_list.current.info.name == "tiny"
        await pilot.press("slash", *"data:here", "enter")
        assert [e.info.stem for e in screen.preset_list.rows if e.info] == ["tiny"]
        await pilot.press("escape", "slash", *"fig99", "enter")
        await pilot.pause()
        assert 'no preset matches "fig99". Esc clears' in text_of(app)
        await pilot.press("escape")
        assert screen.preset_list.words == ""


async def test_keys_typed_while_presets_are_read_act_on_the_list(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_read = threading.Event()

    def slow() -> Any:
        may_read.wait()
        return list_presets()

    monkeypatch.setattr("lsc_tui.screens.new_run.screen.list_presets", slow)
    app = make_app(place)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(app, pilot)
        # ctrl+j: Enter as a terminal passes it on that the viewer has not taken yet.
        await pilot.press("4", "j", "k", "ctrl+j")
        screen = app.lsc_screen
        assert isinstance(screen, NewScreen)
        assert screen.form is None
        may_read.set()
        screen = await ready(app, pilot)
        presets = [entry.info.name for entry in screen.preset_list.rows if entry.info is not None]
        assert screen.form is not None
        assert screen.form.heading == presets[0]


async def test_time_measured_before_comes_from_runs_on_this_machine(place: Path) -> None:
    async with new_run(place) as (app, _, screen):
        line = next(line for line in text_of(app).splitlines() if line.startswith("  fig9"))
        # The study lsc-2025/fig9 of the samples: finished runs on this host, not all of them.
        assert line.rstrip()[-6:].strip().startswith("~")
        assert next(e for e in screen.preset_list.rows if e.info and e.info.stem == "fig2a")


@pytest.mark.usefixtures("quiet")
async def test_a_change_is_marked_and_faults_stand_beside_the_field(place: Path) -> None:
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        assert screen.form is not None
        assert screen.outcome is not None
        assert screen.outcome.faults == []
        await put(app, pilot, screen, "optimizer.lr", "3e-4")
        assert screen.form.changed("optimizer.lr")
        assert any(line[:46].rstrip(" │").endswith("*") and "3e-4" in line for line in text_of(app).splitlines())
        await put(app, pilot, screen, "data.classes", "5000")
        faults = screen.outcome.faults
        assert [p.key for p in faults] == ["data.classes"]
        assert "✗ classes: digits has 1 797 training images" in text_of(app)
        await pilot.press("L")
        await pilot.pause()
        assert "L: ✗ classes: digits has 1 797" in text_of(app)
        await pilot.press("u")
        await ready(app, pilot)
        assert screen.outcome.faults == []
        assert screen.form.given("data.classes", "wide") == 120


@pytest.mark.usefixtures("quiet")
async def test_enter_on_a_fault_goes_to_its_field_and_variant(place: Path) -> None:
    async with new_run(place, (160, 48), keys=("enter", "down")) as (app, pilot, screen):
        assert screen.form is not None
        await put(app, pilot, screen, "model.dim", "3")
        assert screen.form.given("model.dim", "least") == 3
        await pilot.press("G")
        assert screen.panel.current is not None
        assert screen.panel.current.kind == "problem"
        screen.form.highlighted = 0
        await pilot.press("enter")
        await pilot.pause()
        assert screen.panel.current.key == "model.dim"
        assert screen.form.variant == "least"
        assert "b: dim: V21 at n = 3 has 3 vectors" in text_of(app)


@pytest.mark.usefixtures("quiet")
async def test_values_are_chosen_from_a_list_and_variants_go_off_and_on(place: Path) -> None:
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        assert screen.form is not None
        await pilot.press("space")
        await ready(app, pilot)
        assert screen.form.on == {"least"}
        assert screen.outcome is not None
        assert screen.outcome.runs == ("tiny/least/seed-0",)
        screen.panel.go("target.system")
        await pilot.press("enter", "down", "escape")
        assert screen.form.given("target.system", "wide") == "V21"
        await pilot.press("enter", "enter")
        await ready(app, pilot)
        assert screen.form.given("target.system", "wide") == "V21"
        await pilot.press("enter", *"V22", "enter")
        await ready(app, pilot)
        assert screen.form.given("target.system", "wide") == "V22"
        screen.panel.go("tune")
        await pilot.press("space")
        await ready(app, pilot)
        assert screen.outcome.tries == 3


@pytest.mark.usefixtures("quiet")
async def test_keys_act_only_on_what_is_in_sight_and_the_footer_names_what_they_do(place: Path) -> None:
    async with new_run(place) as (app, pilot, screen):

        async def foot(*keys: str) -> str:
            await pilot.press(*keys)
            await ready(app, pilot)
            return text_of(app).splitlines()[-1]

        assert "Enter fold" in await foot("g")
        assert "r: highlight a preset" in await foot("r")
        assert "Enter open form" in await foot("down")
        assert "Esc closes" in await foot("r")
        assert "[data]" in text_of(app)
        await pilot.press("r", "enter")
        await ready(app, pilot)
        assert screen.form is not None
        before = set(screen.form.on)
        await foot("r", "space")
        assert "TOML as it will be saved" in text_of(app)
        assert screen.form.on == before
        await pilot.press("r")
        screen.panel.go("data.labels")
        assert "space next value" in await foot("down", "up")


@pytest.mark.usefixtures("quiet")
async def test_saving_writes_the_toml_shown_and_overwrites_nothing(place: Path, tmp_path: Path) -> None:
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        assert screen.form is not None
        await put(app, pilot, screen, "train.duration", "5 epochs")
        await pilot.press("w", "enter")
        await ready(app, pilot)
        saved = tmp_path / "presets" / "tiny-mine.toml"
        assert saved.read_text() == screen.form.toml()
        await pilot.press("w", "enter")
        await pilot.pause()
        assert "exists and is not overwritten" in text_of(app)
        await pilot.press("escape")
        await pilot.pause()
        assert screen.stage == "form", "Esc takes the message away, nothing else"
        await pilot.press("escape")
        await pause_until(pilot, lambda: "▾ yours   ~/presets (1)" in text_of(app))


@pytest.mark.usefixtures("quiet")
async def test_a_system_chosen_on_vectors_comes_into_the_form(place: Path) -> None:
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        assert screen.form is not None
        await pilot.press("5")
        await pilot.pause()
        # The classes of the form come along: V21 holds 120 from n = 8.
        assert app.lsc_screen.limits.classes == 120  # type: ignore[attr-defined]
        await pilot.press("enter")
        await ready(app, pilot)
        assert app.current_mode == "new"
        assert screen.form.given("target.system", "wide") == "V21"
        assert screen.form.given("model.dim", "wide") == 8
        assert f"V21 at n = 8 in {screen.form.heading}" in screen.message[0]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("kind", ["fork", "report"])
async def test_a_system_chosen_on_vectors_goes_into_no_form_without_one(place: Path, tmp_path: Path, kind: str) -> None:
    own = tmp_path / "presets"
    own.mkdir(exist_ok=True)
    (own / "angles.toml").write_text('title = "T"\nkind = "vectors"\n[vectors]\nsystems = ["A"]\nn = [8]\n')
    async with new_run(place) as (app, pilot, screen):

        async def open_it() -> None:
            app.store.form = ("fork", "0:lsc-2025/fig9/V21-384/seed-0") if kind == "fork" else ("", "")
            screen.on_screen_resume()
            if kind == "report":
                screen.preset_list.chosen = "yours:angles"
                screen.open_preset()
            await ready(app, pilot)
            assert screen.form is not None
            assert (screen.form.source == "fork") == (kind == "fork")

        await open_it()
        before = screen.form.raw  # type: ignore[union-attr]
        for _ in range(2):
            await pilot.press("5")
            await pilot.pause()
            await pilot.press("enter")
            await ready(app, pilot)
            assert (app.current_mode, screen.stage) == ("new", "presets")
            assert "V21 at n = 86: Enter opens a preset with it" in screen.message[0]
            # The same where the form is opened after the system was chosen.
            await open_it()
            assert screen.form is not None
            assert screen.form.raw == before
            assert not screen.form.touched
            assert screen.message[0].startswith("V21 at n = 86 goes into the next preset opened")


@pytest.mark.usefixtures("quiet")
async def test_copy_and_fork_of_a_run(place: Path) -> None:
    async with new_run(place) as (app, pilot, screen):
        view = next(v for v in app.store.runs.values() if v.id == "lsc-2025/fig9/V21-384/seed-0")
        app.store.form = ("copy", view.key)
        app.go("new")
        screen.on_screen_resume()
        await ready(app, pilot)
        assert screen.form is not None
        assert screen.outcome is not None
        assert screen.outcome.faults == []
        assert screen.form.study == "fig9-2"
        assert screen.outcome.runs == ("fig9-2/V21-384/seed-0",)
        app.store.form = ("fork", view.key)
        app.go("new")
        screen.on_screen_resume()
        await ready(app, pilot)
        assert screen.form.source == "fork"
        assert "change a setting first" in screen.outcome.faults[0].message
        await put(app, pilot, screen, "model.dim", "80")
        assert any(p.key == "model.dim" for p in screen.outcome.faults)
        await pilot.press("u")
        await put(app, pilot, screen, "optimizer.lr", "1e-5")
        assert screen.outcome.faults == []
        await put(app, pilot, screen, "at", "77")
        assert screen.outcome.faults[0].message.endswith("has no checkpoint of step 77. It has: none")
        await put(app, pilot, screen, "at", "")
        argv = launch_argv(screen.form, None)
        assert argv[:4] == ["fork", "lsc-2025/fig9/V21-384/seed-0", "--set", "optimizer.lr=1e-05"]


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
async def test_launch_asks_once_and_trains_in_a_session_of_its_own(place: Path) -> None:
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        await put(app, pilot, screen, "train.duration", "2 epochs")
        await pilot.press("L")
        await pilot.pause()
        last = text_of(app).splitlines()[-1]
        assert last.split("   ") == ["launch 2 runs on the CPU, one after the other?", "y launch  Esc no"]
        await pilot.press("x")
        await pilot.pause()
        assert not (place / "tiny").exists()
        await pilot.press("L", "y")
        await app.workers.wait_for_complete()
        await settle(app, pilot)
        assert app.current_mode == "runs"
        assert 'duration = "2 epochs"' in (place / ".launch" / "tiny.toml").read_text()
        folders = [place / "tiny" / name / "seed-0" for name in ("wide", "least")]
        pid = None

        def ended() -> bool:
            nonlocal pid
            states = [open_run(folder).status() for folder in folders]
            pid = pid or next((s.pid for s in states if s.pid), None)
            return all(s.state == "finished" for s in states)

        await pause_until(pilot, ended, (place / ".launch" / "tiny.log").read_text)
        assert pid is not None
        app.poller.rescan()
        await pause_until(pilot, lambda: "tiny" in {v.study for v in app.store.runs.values() if v.state == "finished"})
        assert {v.id for v in app.store.runs.values() if v.study == "tiny"} == {
            "tiny/wide/seed-0", "tiny/least/seed-0",
        }  # fmt: skip


@pytest.mark.usefixtures("quiet")
async def test_launch_waits_for_the_check_unless_the_form_changes(
    place: Path, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_check = threading.Event()

    def slow(form: Form) -> Outcome:
        may_check.wait()
        return examine(form)

    async with new_run(place, keys=("enter",)) as (_, pilot, screen):
        monkeypatch.setattr("lsc_tui.screens.new_run.screen.examine", slow)
        screen.changed()
        await pilot.press("L")
        assert screen.checking
        assert screen._question is None
        may_check.set()
        await pause_until(pilot, lambda: screen._question is not None)
        assert "launch" in screen._question[1]["y"][0]
        await pilot.press("escape")
        may_check.clear()
        screen.changed()
        await pilot.press("L")
        screen.changed()
        may_check.set()
        await ready(screen.app, pilot)
        await pilot.pause()
        assert screen._question is None


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_hostile_presets_and_ascii(place: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    own = tmp_path / "presets"
    own.mkdir()
    (own / "evil.toml").write_text(
        TINY.replace('title  = "', 'title  = "\\u001b[31mred ').replace("n_min learns", "\\u009b2J learns")
    )
    (own / "torn.toml").write_text('title = "half')
    app = make_app(place, ascii=True)
    async with app.run_test(size=size) as pilot:
        await settle(app, pilot)
        await pilot.press("4")
        screen = await ready(app, pilot)
        for key in ["G", "enter", "down", "G", "up", "enter", "r", "G", "r", "d", "G", "enter", "left", "u"]:
            await pilot.press(key)
            await ready(app, pilot)
            text = text_of(app)
            assert text.isascii()
            assert "\x1b" not in text
        assert any(e.info is not None and e.info.fault for e in screen.preset_list.rows)
        for width, height in ((40, 12), (30, 8), (119, 35), (130, 40), (200, 60), size):
            await pilot.resize_terminal(width, height)
            await pilot.pause(0.1)


@pytest.mark.parametrize("theme", ["lsc-dark", "lsc-light"])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_presets_look(place: Path, snap_compare: Any, size: tuple[int, int], theme: str) -> None:
    app = make_app(place, theme=theme)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(app, pilot)
        await pilot.press("4")
        await ready(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=before)


@pytest.mark.usefixtures("fixed_sizes")
@pytest.mark.parametrize("theme", ["lsc-dark", "lsc-light"])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_form_looks(place: Path, snap_compare: Any, size: tuple[int, int], theme: str) -> None:
    app = make_app(place, theme=theme)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(app, pilot)
        await pilot.press("4")
        await ready(app, pilot)
        await pilot.press("enter")
        screen = await ready(app, pilot)
        await put(app, pilot, screen, "train.batch_size", "16")

    assert snap_compare(app, terminal_size=size, run_before=before)


# --- what was changed stays -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("away", [("escape",), ("escape", "slash", *"tiny", "enter"), ("1", "4", "escape")])
async def test_changes_stay_when_the_form_is_left(place: Path, away: tuple[str, ...]) -> None:
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        await put(app, pilot, screen, "optimizer.lr", "3e-4")
        changed = screen.form
        assert changed is not None
        await pilot.press(*away)
        await ready(app, pilot)
        await pause_until(pilot, lambda: any(line.startswith("▌*tiny") for line in text_of(app).splitlines()))
        # Another preset is opened meanwhile.
        screen._filter("")
        names = {e.info.stem: e.key for e in screen.preset_list.rows if e.info is not None}
        for name in ("fig9", "tiny"):
            screen.preset_list.go(names[name])
            screen.show()
            await pilot.press("enter")
            await ready(app, pilot)
            assert screen.form is not None
            assert screen.form.heading.endswith(name)
            assert ("tiny with your changes" in text_of(app)) == (name == "tiny")
            await pilot.press("escape")
        assert screen.form is changed
        assert changed.given("optimizer.lr", "least") == 3e-4
        # The message first, then the form.
        await pilot.press("escape", "u")
        assert "drop your changes to tiny?" in text_of(app)
        await pilot.press("y")
        assert screen.form is None
        await pilot.press("u")
        assert "no changes of yours" in text_of(app)
        await pilot.press("enter")
        await ready(app, pilot)
        assert screen.form.raw == screen.form.before


@pytest.mark.usefixtures("quiet")
async def test_changes_stay_over_a_restart_until_they_are_dropped(place: Path) -> None:
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        await put(app, pilot, screen, "optimizer.lr", "3e-4")
        await put(app, pilot, screen, "seeds", "0-2")
        assert screen.form is not None
        before = screen.form.copy()
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        assert "tiny with your changes" in text_of(app)
        assert screen.form is not None
        assert screen.form.touched
        assert (screen.form.toml(), screen.form.on) == (before.toml(), before.on)
        assert (screen.form.study, screen.form.runs_dir) == (before.study, before.runs_dir)
        await pilot.press("escape", "escape", "u", "y")
        await ready(app, pilot)
    (app.config / "drafts" / "foreign.toml").write_text("raw = 3\n[")
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        assert screen.form is not None
        assert screen.form.raw == screen.form.before
    assert [file.name for file in (app.config / "drafts").iterdir()] == ["foreign.toml"]


@pytest.mark.usefixtures("quiet")
async def test_enter_on_what_stands_in_a_field_changes_nothing(place: Path, tmp_path: Path) -> None:
    own = tmp_path / "presets"
    own.mkdir()
    exact = TINY.replace("lr = 1e-3", "lr = 0.00012345678901234").replace("classes = 120", "classes = 121")
    (own / "exact.toml").write_text(exact + 'model.args = { layers = 3, "a b" = [10000, 2] }\n')
    async with new_run(place) as (app, pilot, screen):
        screen.preset_list.go(next(e.key for e in screen.preset_list.rows if e.info and e.info.stem == "exact"))
        await pilot.press("enter")
        await ready(app, pilot)
        assert screen.form is not None
        for key in ("optimizer.lr", "data.classes", "model.args", "train.duration", "seeds", "study", "data"):
            screen.panel.go(key)
            await pilot.press("enter", "enter")
            await ready(app, pilot)
        assert not screen.form.touched
        assert screen.form.toml() == (own / "exact.toml").read_text()


@pytest.mark.usefixtures("quiet")
async def test_what_is_typed_goes_to_the_variant_that_was_shown(place: Path) -> None:
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        assert screen.form is not None
        screen.panel.go("model.dim")
        screen.show()
        assert "settings of a" in text_of(app)
        await pilot.press("enter", *["down"] * 9, "enter", *"0")
        screen.form.highlighted = 1
        await pilot.press("enter")
        await ready(app, pilot)
        assert (screen.form.given("model.dim", "wide"), screen.form.given("model.dim", "least")) == (240, "min")


@pytest.mark.usefixtures("quiet")
async def test_a_light_installation_names_what_training_lacks(
    place: Path, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(follow, "find_spec", lambda name: None if name in FULL else find(name))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in FULL else find(name, *more))
    async with new_run(place, (160, 48), ("enter",)) as (app, pilot, screen):
        assert screen.outcome is not None
        lacks = "training needs torch, which this light installation lacks; in the folder of lsc: pip install ."
        data = "digits is not here: it comes with scikit-learn: pip install scikit-learn; or use spectrum"
        faults = [(p.key, p.message) for p in screen.outcome.faults]
        assert faults == [("device", lacks), ("data.dataset", data)]
        # Numbers and settings of the runs are there all the same.
        assert set(screen.outcome.variants) == {"wide", "least"}
        await pilot.press("L")
        await pilot.pause()
        assert "L: ✗ device: training needs torch, which this light installation lacks" in text_of(app)
    assert not (place / "tiny").exists()


async def test_where_slurm_is_a_launch_can_go_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lsc_tui.services import launch as new_launch

    commands: list[list[str]] = []
    monkeypatch.setattr(new_launch, "start", commands.append)
    monkeypatch.setattr("lsc_engine.runs.folder.slurm.installed", lambda: True)
    async with new_run(place, keys=("enter",)) as (app, pilot, _):
        await pilot.press("L")
        await pause_until(pilot, lambda: "s Slurm" in text_of(app))
        await pilot.press("s")
        await pause_until(pilot, lambda: commands)
    assert commands[0][:2] == ["submit", str(place / ".launch" / "tiny.toml")]
    assert "--detach" not in commands[0]


@pytest.mark.usefixtures("quiet")
async def test_a_launch_that_answers_late_takes_no_open_prompt_away(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lsc_tui.services import launch as new_launch

    begun, go_on = threading.Event(), threading.Event()

    def late(argv: list[str]) -> None:
        begun.set()
        go_on.wait(60)

    monkeypatch.setattr(new_launch, "start", late)
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        await pilot.press("L")
        await pause_until(pilot, lambda: "y launch" in text_of(app))
        await pilot.press("y")
        await pause_until(pilot, begun.is_set)
        await pilot.press("w", *"D2")
        go_on.set()
        await app.workers.wait_for_complete()
        await pilot.pause()
        await pilot.press(*"1y")
        assert app.current_mode == "new"
        assert screen.field is not None
        assert screen.field.value.endswith("D21y")


@pytest.mark.usefixtures("quiet")
async def test_a_slash_in_the_form_goes_to_a_field_and_w_saves_what_runs(place: Path, tmp_path: Path) -> None:
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        assert screen.form is not None
        await pilot.press("slash", *"batch", "enter")
        await pilot.pause()
        assert screen.panel.current is not None
        assert screen.panel.current.key == "train.batch_size"
        await pilot.press("slash", *"nothing", "enter")
        assert 'no field here is called "nothing"' in screen.message[0]
        screen.form.on ^= {"wide"}
        await pilot.press("escape", "w", "enter")
        await ready(app, pilot)
        assert "without wide" in screen.message[0]
        saved = Form.of((tmp_path / "presets" / "tiny-mine.toml").read_text(), "saved", "saved", tmp_path)
        assert saved.names == ["least"]


@pytest.mark.usefixtures("quiet")
async def test_the_grid_is_edited_as_text(place: Path) -> None:
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        assert screen.form is not None
        screen.panel.go("tune")
        await pilot.press("enter", "enter", "ctrl+u", *"optimizer.lr = 1e-3, 2e-3; train.batch_size = 8, 16, 32;")
        await pilot.press(*" duration = 1 epochs; seed = 4", "enter")
        await ready(app, pilot)
        assert screen.form.grid == {
            "optimizer.lr": [1e-3, 2e-3], "train.batch_size": [8, 16, 32], "duration": "1 epochs", "seed": 4,
        }  # fmt: skip
        assert screen.outcome is not None
        assert not screen.outcome.faults
        assert screen.outcome.tries == 6 * len(screen.form.running)
        row = screen.panel.current
        assert row is not None
        assert (row.key, row.mark) == ("tune", "*")
        text = screen.form.tune_text
        await pilot.press("enter", "enter")
        assert screen.form.tune_text == text
        await pilot.press("enter", "ctrl+u", *"optimizer.lr", "enter")
        assert "has no values; write optimizer.lr = 1e-4, 1e-3" in screen.message[0]
        await pilot.press("enter", "ctrl+u", *"optimizer.lrr = 1", "enter")
        await ready(app, pilot)
        assert screen.outcome.faults
        await pilot.press("enter", "ctrl+u", "enter")
        assert screen.form.grid == {}


def test_no_two_presets_have_the_same_cut_title() -> None:
    infos = list_presets()
    for width in range(30, 160):
        for wide in (False, True):
            cut = cut_titles(words_of(infos, wide, width), width)
            assert all(width_of([(text, "")]) == width for text in cut.values())
            assert [text for text, count in Counter(cut.values()).items() if count > 1] == [], width
            assert all(text.rstrip().count("…") <= 2 and "…" not in text.strip()[1:-1] for text in cut.values()), width


def test_a_small_preset_is_named_after_the_one_it_stands_for() -> None:
    words = {
        "p/fig7": "five classes, then four more, on MNIST",
        "p/fig7-mini": "five classes, then four more, on digits",
    }
    cut = cut_titles(words | {"p/x": "five classes, then four more, and none", "p/y-mini": "other"}, 21)
    assert {name: text.rstrip() for name, text in cut.items()} == {
        "p/fig7": "…four more, on MNIST",
        "p/fig7-mini": "as fig7, digits",
        "p/x": "…four more, and none",
        "p/y-mini": "other",
    }


def test_times_of_presets_follow_their_length_and_count_the_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LSC_PRESETS", str(tmp_path))
    (tmp_path / "tuned.toml").write_text(TUNED)
    info = next(i for i in list_presets() if i.stem == "tuned")

    def run(study: str, seed: int, duration: str, seconds: float) -> RunView:
        status = Status(state="finished", shown_state="finished", host="here", seconds=seconds, step=10, total_steps=10)
        made = Run(tmp_path / study / "a" / f"seed-{seed}", f"{study}/a/seed-{seed}", tmp_path)
        return RunView(f"0:{made.id}", made, 0, False, "", status, {"train": {"duration": duration}}, {})

    seeds = [run(info.name, seed, "8 epochs", 80.0) for seed in (0, 1)]
    tries = [run(f"{info.name}.tune", n, "2 epochs", 21.0) for n in range(3)]
    assert time_of(info, seeds, "here") == (160 + 3 * 20, False)
    assert time_of(info, [*seeds, *tries], "here") == (160 + 63, True)
    halved = [run(info.name, seed, "4 epochs", 40.0) for seed in (0, 1)]
    assert time_of(info, halved, "here") == (160 + 3 * 20, False)
    assert time_of(info, halved, "elsewhere") == (None, False)


TUNED = """\
title = "tuned"
seeds = [0, 1]
[train]
duration = "8 epochs"
[tune]
"optimizer.lr" = [1e-4, 1e-3, 1e-2]
duration = "2 epochs"
"""


@pytest.mark.usefixtures("quiet")
async def test_a_change_that_is_taken_back_is_none(place: Path) -> None:
    async with new_run(place, keys=("enter", "space")) as (app, pilot, screen):
        assert screen.form is not None
        assert screen.form.touched
        await pilot.press("space")
        await ready(app, pilot)
        assert not screen.form.touched
        seeds = screen.form.seeds
        for text in ("7", seeds):
            screen.panel.go("seeds")
            await pilot.press("enter", "ctrl+u", *text, "enter")
            await ready(app, pilot)
            assert screen.form.touched == (text != seeds)
        await pilot.press("escape")
        assert screen.why_not("mark_none") == "there are no changes of yours to drop"
        assert not list((app.config / "drafts").glob("*"))


async def test_arrows_open_and_close_a_heading(place: Path) -> None:
    async with new_run(place) as (_, pilot, screen):
        known = screen.preset_list
        known.go("group:lsc-2025")
        count = len(known.rows)
        for key, fewer in (("left", True), ("left", True), ("right", False), ("right", False)):
            await pilot.press(key)
            assert (len(known.rows) < count) == fewer
            assert known.current is not None
            assert known.current.key == "group:lsc-2025"


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("tuned", [False, True], ids=["plain", "tuned"])
async def test_a_study_with_other_settings_is_no_place_for_a_launch(place: Path, tuned: bool) -> None:
    async with new_run(place, keys=("enter",)) as (app, pilot, screen):
        form = screen.form
        assert form is not None
        preset = place.parent / "other.toml"
        preset.write_text(form.toml())
        plan = plan_study(preset, name="taken", sets=("train.batch_size=8",))
        for run in plan.runs:
            create_run(place / run.id, run.config, {})
        if tuned:
            form.toggle_tune()
        form.study, form.wanted = "taken", ""
        screen.changed()
        await ready(app, pilot)
        await pilot.press("L")
        await pilot.pause()
        assert "with other settings" in screen.message[0]
        assert "taken-2 is a free name" in screen.message[0]


def test_what_follows_is_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = consequences.Facts(form(), None, None, Store("gpu07"), "no")
    monkeypatch.setattr(facts, "seconds", lambda: (12.0, "vector-systems-2025/fig1a-mini"))
    _, _, lines = facts.sheet(35, 19, wide=False)
    assert {width_of(line) for line in lines} <= {34, 35}
    text = " ".join("".join(text for text, _ in line)[14:].strip() for line in lines)
    assert "~12 s each, as fig1a-mini" in text


@pytest.mark.usefixtures("quiet")
async def test_the_list_counts_finished_runs_as_the_form_does(place: Path, tmp_path: Path) -> None:
    for run in plan_study(tmp_path / "shipped/tiny.toml", name="tiny", seeds=(0, 1)).runs:
        create_run(place / run.id, run.config, {})
        RunWriter.open(place / run.id, device="cpu", owner="ada", total_steps=9, echo=False).finish("finished", 0)
        status = fix(place / run.id, state="finished", seconds=2.0)
        write_status(place / run.id, replace(status, host="elsewhere"), durable=False)
    async with new_run(place) as (app, pilot, screen):
        assert "2 of 2 runs finished here" in text_of(app)
        await pilot.press("enter")
        await ready(app, pilot)
        assert screen.outcome is not None
        assert screen.outcome.done == 2
