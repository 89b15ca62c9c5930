"""An environment with the packages of other trackers, in which tests let them write and read their own formats.

A test takes the fixture `trackers`, is marked slow, and runs Python there: `trackers.run("wandb", code, folder)`.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import pytest

# Name -> what pip installs for it.
PACKAGES = {
    "wandb": ("wandb==0.31.0",),
    "tensorboardX": ("tensorboardX==2.6.5",),
    "lightning": ("lightning==2.6.6",),
    "trackio": ("trackio==0.43.0",),
    "mlflow": ("mlflow-skinny==3.17.2", "sqlalchemy>=2", "alembic"),
}


def _cache() -> Path:
    """The folder of the environment: another one for other packages, another Python or another torch."""
    running = f"{sys.version} {_site_packages()} {sorted(PACKAGES.items())}"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "lsc-tests" / f"trackers-{hashlib.sha256(running.encode()).hexdigest()[:12]}"


def _site_packages() -> Path:
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parents[1]


class Trackers:
    """The environment. It is made once per machine; torch and what else the tests run with are seen in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        folder.mkdir(parents=True, exist_ok=True)
        self._lacking: dict[str, str] = {}
        with self._locked():
            if not (folder / "made").exists():
                venv.create(folder, clear=False, with_pip=True)
                (site,) = folder.glob("lib/python*/site-packages")
                (site / "zz_running.pth").write_text(f"{_site_packages()}\n")
                (folder / "made").touch()

    def _locked(self) -> TextIO:
        lock = (self.folder / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def need(self, package: str) -> None:
        """Install one of `PACKAGES` if it is not there; skips the test if it cannot be had."""
        if package not in self._lacking:
            with self._locked():
                mark = self.folder / f"has-{package}"
                if mark.exists():
                    return
                command = [self.python, "-m", "pip", "install", "--quiet", *PACKAGES[package]]
                done = subprocess.run(command, capture_output=True, text=True, timeout=800, env=_environment())
                if done.returncode == 0:
                    mark.touch()
                    return
                self._lacking[package] = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        pytest.skip(f"{package} cannot be installed: {self._lacking[package]}")

    def command(self, package: str, code: str, *arguments: object) -> list[str]:
        """The command that runs `code` there; skips the test without `package`."""
        self.need(package)
        return [str(self.python), "-c", code, *map(str, arguments)]

    def run(self, package: str, code: str, folder: Path, *arguments: object, environment: Sequence[str] = ()) -> str:
        """What `code` prints, run in `folder` with `arguments` as sys.argv[1:] and `environment` as NAME=VALUE."""
        done = subprocess.run(
            self.command(package, code, *arguments),
            cwd=folder,
            env=_environment() | dict(pair.split("=", 1) for pair in environment),
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _environment() -> dict[str, str]:
    """As for the tests, without what they turn into errors and what would reach a server."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "PYTHONPATH")}
    return kept | {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "MLFLOW_ALLOW_FILE_STORE": "true",
                   "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}  # fmt: skip


@pytest.fixture(scope="session")
def trackers() -> Trackers:
    """The environment of the other trackers' packages."""
    return Trackers(_cache())
