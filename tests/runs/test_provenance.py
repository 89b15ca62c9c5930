"""Which code a run was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lsc_engine.runs.folder.process import code_version


def git(folder: Path, *words: str) -> str:
    user = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", "-C", folder, *user, *words], check=True, capture_output=True, text=True).stdout


def test_the_commit_is_recorded_and_whether_the_package_differs_from_it(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("1\n")
    (tmp_path / "report.md").write_text("old\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert code_version(package) == {"commit": commit, "dirty": False}
    (tmp_path / "report.md").write_text("new\n")
    assert code_version(package) == {"commit": commit, "dirty": False}
    (package / "a.py").write_text("2\n")
    assert code_version(package) == {"commit": commit, "dirty": True}


def test_an_installed_package_has_no_commit(tmp_path: Path) -> None:
    assert code_version(tmp_path) == {"commit": None, "dirty": None}
