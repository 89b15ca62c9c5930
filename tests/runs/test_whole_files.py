"""Files that users name are the old ones or the whole new ones, whatever happens while they are written."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lsc_engine.common.safe_io import whole_file, write_whole


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def half_written(path: Path, error: BaseException) -> None:
    with whole_file(path) as part:
        part.write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError("in the middle"), OSError(28, "No space left"), KeyboardInterrupt()])
def test_what_fails_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    for old in (None, "old"):
        if old is not None:
            (tmp_path / "x.csv").write_text(old)
        with pytest.raises(type(error)):
            half_written(tmp_path / "x.csv", error)
        assert names(tmp_path) == ([] if old is None else ["x.csv"])
        assert old is None or (tmp_path / "x.csv").read_text() == old


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("old")
    program = (
        "import resource, sys, signal\nfrom pathlib import Path\nfrom lsc_engine.common.safe_io import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.RLIM_INFINITY}))\n"
        "try:\n    write_whole(Path(sys.argv[1]), 'x' * 5000)\nexcept OSError as error:\n    print(error.strerror)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "x.csv")], capture_output=True, text=True)
    assert done.stdout.strip() == "File too large", done.stderr
    assert (names(tmp_path), (tmp_path / "x.csv").read_text()) == (["x.csv"], "old")


def private(path: Path) -> None:
    path.unlink()
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


@pytest.mark.parametrize("write", [private, lambda path: np.save(path, np.zeros(3))])
def test_rights_are_those_of_the_umask_or_of_the_file_before(tmp_path: Path, write: Callable[[Path], None]) -> None:
    before = os.umask(0o027)
    try:
        with whole_file(tmp_path / "x.npy") as part:
            write(part)
        assert stat.S_IMODE((tmp_path / "x.npy").stat().st_mode) == 0o640
        (tmp_path / "x.npy").chmod(0o604)
        with whole_file(tmp_path / "x.npy") as part:
            write(part)
        assert stat.S_IMODE((tmp_path / "x.npy").stat().st_mode) == 0o604
    finally:
        os.umask(before)


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here.txt").symlink_to("there/real.txt")
    write_whole(tmp_path / "here.txt", "text")
    assert (tmp_path / "here.txt").is_symlink()
    assert (tmp_path / "there/real.txt").read_text() == "text"
    with whole_file(Path("/dev/null")) as part:
        part.write_text("nothing")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    os.mkfifo(tmp_path / "pipe.txt")
    reader = os.open(tmp_path / "pipe.txt", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe.txt", "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)


def test_a_name_of_255_bytes_and_one_that_is_not_text_are_written(tmp_path: Path) -> None:
    for name in ("n" * 251 + ".csv", os.fsdecode(b"se\xf1or.csv")):
        write_whole(tmp_path / name, name)
        assert (tmp_path / name).read_bytes() == os.fsencode(name)


def test_a_folder_that_is_not_there_is_named_as_the_user_did(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        write_whole(tmp_path / "no/x.csv", "text")
    assert caught.value.filename == str(tmp_path / "no/x.csv")
