"""A user without a home folder and without a name, as a container with --user has it."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lsc_engine.common import userpaths
from lsc_engine.common.errors import UsageError
from lsc_engine.config.defaults import user_path as in_presets
from lsc_engine.data.dataset import data_folder, data_set
from tests.tiny import PERCEPTRON, tiny

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PRESET = tiny(PERCEPTRON)
STRANGER = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]


def can_unshare() -> bool:
    try:
        return subprocess.run([*STRANGER, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


def stranger(folder: Path, *words: str, module: str = "lsc_engine", **env: str) -> subprocess.CompletedProcess[str]:
    """A command of user 54321, of whom the system knows nothing."""
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "TMPDIR", "OMP_NUM_THREADS")}
    return subprocess.run(
        [*STRANGER, sys.executable, "-m", module, *words], cwd=folder, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, env={**kept, "PYTHONPATH": str(ROOT), **env},
    )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    if not can_unshare():
        pytest.skip("needs user namespaces")
    (tmp_path / "t.toml").write_text(PRESET)
    return tmp_path


def test_what_needs_no_home_works(place: Path) -> None:
    done = stranger(place, "run", "t.toml")
    assert done.returncode == 0, done.stderr
    assert stranger(place, "report", "t").returncode == 0
    assert stranger(place, "presets").returncode == 0
    frame = stranger(place, "--once", "--ascii", module="lsc_tui")
    assert frame.returncode == 0, frame.stderr
    assert "finished" in frame.stdout or "default" in frame.stdout
    keys = stranger(place, "--keys", module="lsc_tui")
    assert (keys.returncode, keys.stderr) == (0, "")
    # Not a folder of that name where the command ran, as where ~ is not replaced.
    assert not [path for path in place.rglob("*") if path.name.startswith("~")]


def test_doctor_names_where_the_data_folder_would_be_set(place: Path) -> None:
    done = stranger(place, "doctor")
    assert "there is no home folder; set $LSC_DATA" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_what_needs_a_home_folder_is_refused(place: Path) -> None:
    for name in ("a", "b"):
        (place / "pics" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (16, 16), (60 * number, 0, 90)).save(place / f"pics/{name}/{number}.png")
    text = PRESET.replace('"digits"\nlabels = "unique"\nclasses = 20', '"folder"\npath = "pics"\nimage_size = 16')
    (place / "folder.toml").write_text(text)
    done = stranger(place, "run", "folder.toml")
    assert (done.returncode, done.stderr) == (2, "there is no home folder; set $LSC_DATA\n")
    for words in (("new", "demo", "~/x.toml"), ("list", "--runs-dir", "~/runs"), ("check", "~/t.toml")):
        done = stranger(place, *words)
        assert done.returncode == 2
        assert done.stderr.startswith(words[-1])
        assert "there is no home folder; write the whole path" in done.stderr
    packed = stranger(place, "pack", "cinic10", "--size", "32")
    assert packed.returncode == 2
    assert "there is no home folder; set $LSC_DATA" in packed.stderr
    assert not (place / "runs").exists()
    done = stranger(place, "run", "folder.toml", LSC_DATA=str(place / "data"))
    assert done.returncode == 0, done.stderr


@pytest.fixture
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, as if the system did not know its user."""

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", *userpaths._CACHES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("_nobody")
def test_paths_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert userpaths.home() is None
    assert userpaths.user_name() == str(os.getuid())
    assert userpaths.user_path("a/~/b") == Path("a/~/b")
    assert userpaths.home_path(tmp_path) == str(tmp_path)
    with pytest.raises(UsageError, match=r"^~/x: there is no home folder"):
        in_presets("~/x")
    with pytest.raises(UsageError, match=r"^there is no home folder; set \$LSC_DATA$"):
        data_folder()
    assert data_set("cinic10").locate() is None
    assert data_set("digits").locate() is not None
    assert "set $LSC_DATA" in data_set("cinic10").missing()
    monkeypatch.setenv("LSC_DATA", str(tmp_path))
    assert data_folder() == tmp_path


@pytest.mark.usefixtures("_nobody")
def test_an_empty_home_is_none_and_of_an_unknown_user_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    assert userpaths.home() is None
    with pytest.raises(UsageError, match="there is no home folder of nobody-here"):
        userpaths.user_path("~nobody-here/runs")


@pytest.mark.usefixtures("_nobody")
@pytest.mark.parametrize("home", [None, "/nonexistent"])
def test_libraries_get_a_folder_of_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", "/kept")
    # Restored at the end of the test.
    for name in ("USER", "XDG_CACHE_HOME", "TRITON_HOME"):
        monkeypatch.setenv(name, "")
    userpaths.serve_libraries()
    assert os.environ["USER"] == str(os.getuid())
    assert os.environ["MPLCONFIGDIR"] == "/kept"
    folder = Path(os.environ["XDG_CACHE_HOME"])

    assert folder.parent == tmp_path
    assert os.environ["TRITON_HOME"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    # A folder of that name that others may write to is not taken.
    folder.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    userpaths.serve_libraries()
    assert Path(os.environ["XDG_CACHE_HOME"]) != folder


def test_a_home_is_shown_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert userpaths.home_path(tmp_path / "runs/a") == "~/runs/a"
    assert userpaths.home_path(Path("/other")) == "/other"
    assert userpaths.user_path("~/runs") == tmp_path / "runs"
    monkeypatch.setenv("HOME", "/")
    assert userpaths.home_path(tmp_path) == str(tmp_path)
