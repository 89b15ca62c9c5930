"""Monitor's view of embeddings: what is shown, the epochs one by one, the camera, live news, why there is nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedded import EVERY, HIGH, PLANE, SPHERE, STUDY, make_embedded, plane, sphere
from textual.pilot import Pilot
from tui_helpers import make_app, open_app, settle, text_of

from lsc_engine.runs.read.embeddings import Points, class_colours, drop_after, snapshot_rows, write_snapshot
from lsc_engine.runs.read.run import open_run
from lsc_tui.app import LscApp
from lsc_tui.data.run_cache import SnapshotReader
from lsc_tui.screens.monitor.screen import MonitorScreen
from tests.waiting import pause_until


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedded(tmp_path_factory.mktemp("embedded") / "runs")


@pytest.fixture
def embedded(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def key(run: str) -> str:
    return f"0:{STUDY}/{run}"


@asynccontextmanager
async def watching(
    folder: Path, run: str = SPHERE, size: tuple[int, int] = (80, 24), **options: Any
) -> AsyncIterator[tuple[LscApp, Pilot[Any], MonitorScreen]]:
    """Monitor on a run, its embeddings shown."""
    async with open_app(folder, size, **options) as (app, pilot):
        app.watch_run(key(run))
        await settle(app, pilot)
        screen = app.lsc_screen
        assert isinstance(screen, MonitorScreen)
        assert not screen.showing_embeddings
        await pilot.press("m")
        await settle(app, pilot)
        await pilot.pause()
        yield app, pilot, screen


async def shown_step(app: LscApp, pilot: Pilot[Any], screen: MonitorScreen, step: int) -> None:
    await pause_until(pilot, lambda: screen.snapshot is not None and screen.snapshot.step == step)
    assert screen.snapshot is not None
    assert screen.snapshot.step == step
    await pilot.pause()


async def last_page(app: LscApp, pilot: Pilot[Any], screen: MonitorScreen) -> None:
    """Embeddings come last where there are none."""
    view = screen.watched
    assert view is not None
    for _ in range(len(screen.pages(view)) - 1):
        if not screen.showing_embeddings:
            await pilot.press("m")
            await settle(app, pilot)
    assert screen.showing_embeddings
    await pilot.pause()


async def test_the_page_stays_when_the_first_embeddings_come(embedded: Path) -> None:
    folder = embedded / STUDY / SPHERE
    shutil.rmtree(folder / "embeddings")
    async with open_app(embedded) as (app, pilot):
        app.watch_run(key(SPHERE))
        await settle(app, pilot)
        screen = app.lsc_screen
        assert isinstance(screen, MonitorScreen)
        await pilot.press("m")
        await settle(app, pilot)
        view = screen.watched
        assert view is not None
        page = screen.shown(view)
        assert page == (("speed/images_per_second",), ("lr",))
        write_snapshot(folder, sphere(40))
        await pause_until(pilot, lambda: screen.pages(view)[1] == ())
        assert screen.pages(view)[1] == ()
        assert screen.shown(view) == page
        assert not screen.showing_embeddings
        await pilot.press("m", "m")
        assert screen.showing_embeddings


async def test_m_shows_the_newest_embeddings_and_the_classes(embedded: Path) -> None:
    async with watching(embedded) as (app, pilot, screen):
        assert screen.showing_embeddings
        shot = screen.snapshot
        assert isinstance(shot, Points)
        assert shot.step == 480
        text = text_of(app)
        assert "embeddings · sphere · epoch 120.0" in text
        label, count, right, inside = shot.by_class()[3]
        assert f"{label:>6} {count:>6} {100 * right:>5.1f} {100 * (inside or 0):>6.0f}%" in text
        assert f"{'all':>6}    400" in text
        assert "inside: closer than half of 45.0°" in text
        assert "─ events" in text
        assert "─ log" not in text
        assert "┤" not in text
        await pilot.press("m")
        await settle(app, pilot)
        assert not screen.showing_embeddings
        assert "lr" in text_of(app)
        assert "─ log" in text_of(app)


async def test_arrows_go_through_the_epochs_and_the_newest_is_followed(embedded: Path) -> None:
    async with watching(embedded) as (app, pilot, screen):
        await pilot.press("left", "left")
        await shown_step(app, pilot, screen, 400)
        assert screen.embedding_look.step == 400
        assert "epoch 100.0" in text_of(app)
        assert "10 of 12" in text_of(app)
        folder = embedded / STUDY / SPHERE
        write_snapshot(folder, sphere(520))
        await pause_until(pilot, lambda: len(app.store.embeddings[key(SPHERE)].shots) == 13)
        await shown_step(app, pilot, screen, 400)
        assert "10 of 13" in text_of(app)
        await pilot.press(*["right"] * 3)
        assert screen.embedding_look.step is None
        await shown_step(app, pilot, screen, 520)
        write_snapshot(folder, sphere(560))
        await shown_step(app, pilot, screen, 560)
        assert "epoch 140.0" in text_of(app)
        # A run that goes on from an older checkpoint takes back what was beyond it.
        drop_after(folder, 480)
        await shown_step(app, pilot, screen, 480)
        await pilot.press(*["left"] * 30)
        assert screen.snapshot is not None
        assert screen.snapshot.step == EVERY


async def test_the_sphere_is_turned_tilted_and_brought_nearer(embedded: Path) -> None:
    async with watching(embedded) as (app, pilot, screen):
        first, before = text_of(app), screen.embedding_look.camera
        await pilot.press("]")
        await pilot.pause()
        assert screen.embedding_look.camera.azimuth == before.azimuth + 15
        turned = text_of(app)
        assert turned != first
        await pilot.press("}", "}")
        assert screen.embedding_look.camera.elevation == before.elevation + 20
        await pilot.press(*["}"] * 20)
        assert screen.embedding_look.camera.elevation == 90
        await pilot.press("plus")
        assert screen.embedding_look.camera.zoom == 1.5
        await pilot.press("0")
        await pilot.pause()
        assert screen.embedding_look.camera == before
        assert text_of(app) == first
        await pilot.press(*["["] * 24)
        await pilot.pause()
        assert text_of(app) == first


async def test_the_plane_is_moved_and_zoomed(embedded: Path) -> None:
    async with watching(embedded, PLANE) as (app, pilot, screen):
        text = text_of(app)
        assert "embeddings · plane · epoch 200.0" in text
        assert "inside: closer than the radius .25" in text
        picture = [line.partition("│")[0] for line in text.splitlines()[4:-4]]
        # Class 0 lies at the right, class 4 on top, class 8 at the left.
        places = {c: next((r, line.index(c)) for r, line in enumerate(picture) if c in line) for c in "048"}
        assert places["0"][1] > 25
        assert places["8"][1] < 12
        assert places["4"][0] < places["0"][0]
        await pilot.press("]", "plus")
        await pilot.pause()
        assert screen.embedding_look.camera.x == 0.25
        assert text_of(app) != text


async def test_angles_above_three_dimensions(embedded: Path) -> None:
    async with watching(embedded, HIGH, size=(160, 48)) as (app, pilot, screen):
        text = text_of(app)
        assert "embeddings · angles · epoch 200.0" in text
        assert "24.1° half" in text
        assert "48.2° least" in text
        assert "256 images, 1 797 classes, n = 384" in text
        assert "own centre" in text
        assert "nearest other" in text
        assert text.count("°") > 40
        await pilot.press("}")
        await pilot.pause()
        assert "angles have one axis only" in text_of(app)
        await pilot.press("left", "plus")
        await shown_step(app, pilot, screen, 760)
        assert screen.embedding_look.camera.zoom == 1.5


async def test_keys_of_curves_say_why_they_do_nothing_here_and_the_other_way_round(embedded: Path) -> None:
    async with watching(embedded) as (app, pilot, screen):
        look = screen.look.smoothing, screen.look.log_y, screen.look.axis
        for name in ("s", "y", "x", "X", "o"):
            await pilot.press(name)
            await pilot.pause()
            assert "no such axis" in text_of(app)
        assert look == (screen.look.smoothing, screen.look.log_y, screen.look.axis)
        await pilot.press("escape", "m", "}")
        await pilot.pause()
        assert "the whole height is shown" in text_of(app)
        await pilot.press("escape")
        await settle(app, pilot)
        await pilot.press("left")
        assert screen.look.cursor is not None
        assert "tilt" not in text_of(app).splitlines()[-1]


async def test_the_picture_alone_all_settings_and_the_way_back(embedded: Path) -> None:
    async with watching(embedded) as (app, pilot, _):
        await pilot.press("z")
        await pause_until(pilot, lambda: "by class" not in text_of(app))
        text = text_of(app)
        assert "events" not in text
        assert len(text.splitlines()[4]) > 40
        await pilot.press("escape", "d")
        await pause_until(pilot, lambda: "data.dataset" in text_of(app))
        assert "sphere" not in text_of(app)
        await pilot.press("escape")
        await pause_until(pilot, lambda: "by class" in text_of(app))


async def test_another_run_starts_anew_with_its_curves(embedded: Path) -> None:
    async with watching(embedded) as (app, pilot, screen):
        await pilot.press("left", "]")
        app.watch_run(key(PLANE))
        screen.redraw_all()
        await settle(app, pilot)
        assert not screen.showing_embeddings
        assert screen.embedding_look.step is None
        assert list(app.store.embeddings) == [key(PLANE)]


def _set(folder: Path, old: str, new: str) -> None:
    preset = folder / "preset.toml"
    text = preset.read_text()
    assert old in text
    preset.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("run", "old", "new", "words"),
    [
        (SPHERE, 'embeddings = "auto"', 'embeddings = "off"', 'turned off: eval.embeddings = "off"'),
        (SPHERE, 'embeddings = "auto"', 'embeddings = "auto"', "none yet: they are kept at each evaluation"),
        (PLANE, 'embeddings = "auto"\n', "", "made before embeddings were kept"),
        (PLANE, 'embeddings = "auto"', 'embeddings = "on"', "none kept: no evaluation came to its end"),
        (HIGH, "classes = 1797", "classes = 300_000", "none kept: the angles of 300 000 classes"),
    ],
)
async def test_where_there_are_none_it_says_why(embedded: Path, run: str, old: str, new: str, words: str) -> None:
    folder = embedded / STUDY / run
    shutil.rmtree(folder / "embeddings")
    _set(folder, old, new)
    async with open_app(embedded, (160, 48)) as (app, pilot):
        app.watch_run(key(run))
        await settle(app, pilot)
        screen = app.lsc_screen
        assert isinstance(screen, MonitorScreen)
        await pilot.press("m")
        await settle(app, pilot)
        # Where there are none, what was logged comes first.
        assert not screen.showing_embeddings
        await last_page(app, pilot, screen)
        assert words in text_of(app)
        await pilot.press("left")
        await pilot.pause()
        assert "there are no embeddings yet" in text_of(app)


async def test_damaged_and_hostile_files_are_passed_over_and_told(embedded: Path) -> None:
    place = embedded / STUDY / SPHERE / "embeddings"
    for path in place.iterdir():
        path.write_bytes(b"\x1b]0;owned\x07" * 40)
    (place / "step-00000900.safetensors").symlink_to("/etc/passwd")
    os.mkfifo(place / "step-00000901.safetensors")
    async with open_app(embedded, (160, 48)) as (app, pilot):
        app.watch_run(key(SPHERE))
        await settle(app, pilot)
        screen = app.lsc_screen
        assert isinstance(screen, MonitorScreen)
        await last_page(app, pilot, screen)
        assert screen.snapshot is None
        await pilot.pause()
        assert "is not a snapshot of" in text_of(app)
        assert "\x1b" not in text_of(app)
        write_snapshot(embedded / STUDY / SPHERE, sphere(80))
        await shown_step(app, pilot, screen, 80)
        # What cannot be read is named beside what can.
        assert "step-000000" in text_of(app)


async def test_of_many_classes_the_lowest_are_listed_and_the_cut_is_told(embedded: Path) -> None:
    folder = embedded / STUDY / SPHERE
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(64, 3))
    label = np.repeat(np.arange(64), 4)
    predicted = np.where(np.arange(256) % 7 == 0, 63, label)
    z = centre[label] + 0.01
    write_snapshot(folder, Points(500, 125.0, 1797, 10.0, True, None, z, label, predicted, np.arange(64), centre))
    async with watching(embedded) as (app, _, screen):
        shot = screen.snapshot
        assert isinstance(shot, Points)
        text = text_of(app)
        assert "64 of 1 797 classes" in text
        assert "the lowest of 64" in text
        lowest = min(right for _, _, right, _ in shot.by_class())
        assert f" {100 * lowest:.1f} " in next(
            line for line in text.splitlines() if "CLASS" not in line and "│" in line
        )


async def test_a_run_that_went_on_from_another_shows_old_and_new_classes(embedded: Path) -> None:
    root = embedded / STUDY
    start = plane(800)
    old = start.label < 6
    kept = Points(
        800, 200.0, 6, 22.5, False, 0.25, start.z[old], start.label[old], start.label[old], start.centre_label[:6],
        start.centre[:6],
    )  # fmt: skip
    shutil.rmtree(root / HIGH / "embeddings")
    write_snapshot(root / HIGH, kept)
    _set(root / PLANE, "seed = 0", f'seed = 0\nstart_from = "{STUDY}/{HIGH}"')
    async with watching(embedded, PLANE) as (app, _, screen):
        shot = screen.snapshot
        assert isinstance(shot, Points)
        text = text_of(app)
        assert "AT A-384  INSIDE" in text
        lines = {
            line.partition("│")[2].split()[0]: line
            for line in text.splitlines()
            if "│" in line and line.partition("│")[2].strip()
        }
        assert "100.0" in lines["3"]
        assert "new" in lines["7"]
        right = (shot.predicted == shot.label)[shot.label < 6].mean()
        assert f"old {100 * right:.1f}  lowest" in text
        assert "new " in text


async def test_plain_characters_and_small_windows(embedded: Path) -> None:
    for run in (SPHERE, PLANE, HIGH):
        async with watching(embedded, run, ascii=True) as (app, pilot, _):
            assert text_of(app).isascii()
            await pilot.press("left", "]", "plus")
            for size in ((40, 12), (41, 13), (2, 1), (119, 35), (160, 48), (80, 24)):
                await pilot.resize_terminal(*size)
                await pilot.pause()
            assert text_of(app).isascii()
            assert "epoch" in text_of(app).splitlines()[3]


@pytest.mark.parametrize("n", [2, 3])
def test_without_centres_a_class_is_named_amidst_its_images(n: int) -> None:
    shot = sphere(400)
    none = np.zeros((0, n))
    bare = Points(400, 1.0, 10, None, True, None, shot.z[:, :n], shot.label, shot.label, np.zeros(0, np.int64), none)
    text = "".join(run.text for row in snapshot_rows(bare, 60, 24) for run in row)
    assert sum(str(label) in text for label in range(10)) >= 9
    empty = Points(0, 0.0, 10, None, True, None, none, *[np.zeros(0, np.int64)] * 3, none)
    assert len(snapshot_rows(empty, 20, 5)) == 5


def test_only_what_is_new_is_read(embedded: Path) -> None:
    reader = SnapshotReader(open_run(embedded / STUDY / SPHERE))
    first = reader.poll()
    assert first is not None
    assert [shot.step for shot in first.shots] == list(range(EVERY, 481, EVERY))
    assert [reader.poll() for _ in range(8)] == [None] * 8
    write_snapshot(embedded / STUDY / SPHERE, sphere(520))
    second = reader.poll()
    assert second is not None
    assert all(a is b for a, b in zip(first.shots, second.shots, strict=False))
    assert len(second.shots) == 13


def test_classes_of_one_colour_lie_apart() -> None:
    shot = plane(400)
    colours = class_colours(shot)
    assert list(colours.values())[:8] == list(range(8))
    for label in (8, 9):
        twin = next(other for other in range(8) if colours[other] == colours[label])
        gap = np.linalg.norm(shot.centre[label] - shot.centre[twin])
        assert gap > 1.5 * np.linalg.norm(shot.centre[label] - shot.centre[label - 1])


SMALL, LARGE, DARK, LIGHT = (80, 24), (160, 48), "lsc-dark", "lsc-light"
PICTURES = {
    "sphere-80x24-dark": (SPHERE, SMALL, DARK),
    "sphere-80x24-light": (SPHERE, SMALL, LIGHT),
    "sphere-160x48-dark": (SPHERE, LARGE, DARK),
    "sphere-160x48-light": (SPHERE, LARGE, LIGHT),
    "plane-80x24-dark": (PLANE, SMALL, DARK),
    "plane-160x48-light": (PLANE, LARGE, LIGHT),
    "angles-80x24-light": (HIGH, SMALL, LIGHT),
    "angles-160x48-dark": (HIGH, LARGE, DARK),
}


@pytest.mark.parametrize("name", PICTURES)
def test_picture(embedded: Path, snap_compare: Any, name: str) -> None:
    run, size, theme = PICTURES[name]
    app = make_app(embedded, theme=theme)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(app, pilot)
        app.watch_run(key(run))
        await settle(app, pilot)
        await pilot.press("m")
        await settle(app, pilot)
        await pilot.press("left")
        await settle(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=before)
