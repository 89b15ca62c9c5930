"""What source.json records about a run: command, code, versions, host. Imports none of the packages whose versions it
records."""

from __future__ import annotations

import contextlib
import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import lsc_engine
from lsc_engine.runs.folder import process

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "safetensors", "pydantic")
_GIT_SECONDS = 5.0


def describe_source(argv: Sequence[str]) -> dict[str, Any]:
    """{"command", "code", "versions", "host", "platform"} of this process; `argv` as started."""
    versions: dict[str, str | None] = {"python": platform.python_version(), "lsc": lsc_engine.__version__}
    for name in PACKAGES:
        versions[name] = None
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "command": shlex.join(["lsc-engine", *argv[1:]]),
        "code": code_version(Path(lsc_engine.__file__).parent),
        "versions": versions,
        "host": process.host_name(),
        "platform": platform.platform(),
    }


def code_version(folder: Path) -> dict[str, Any]:
    """{"commit", "dirty"} of the git checkout that holds `folder`; both None for an installed package. Dirty: the
    content of `folder` differs from the commit; the rest of the checkout does not count."""
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".")
    return {"commit": commit, "dirty": None if commit is None or changed is None else bool(changed)}


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=_GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
