"""Paths of the user: ~ in what was typed, and the home folder, which a container's user id may not have.

Everything that depends on the home folder goes through here, so that its absence is one sentence and no traceback.
"""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
from pathlib import Path

from lsc_engine.common.errors import UsageError

# Where libraries keep files of their own: matplotlib's fonts, compiled kernels, downloaded weights.
_CACHES = ("XDG_CACHE_HOME", "MPLCONFIGDIR", "TRITON_HOME")


def home() -> Path | None:
    """The home folder: $HOME, else that of the user's id; None where neither names one."""
    if given := os.environ.get("HOME"):
        return Path(given)
    try:
        import pwd

        given = pwd.getpwuid(os.getuid()).pw_dir
    except (ImportError, KeyError):
        return None
    return Path(given) if given else None


def config_folder() -> Path:
    """Where the user's settings lie: `$XDG_CONFIG_HOME/lsc`, else `~/.config/lsc`; where there is no home folder, one
    that cannot be."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else (home() or Path(os.devnull)) / ".config") / "lsc"


def user_path(text: str | Path) -> Path:
    """`text` as a path, with ~ and ~NAME at its beginning replaced. UsageError where there is no such home folder, and
    for a name that the locale's encoding lacks: it would not be found though it is there."""
    path = Path(text)
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise UsageError(f"{path}: file names are {error.encoding} in this locale; set LC_ALL=C.UTF-8") from None
    first = path.parts[0] if path.parts else ""
    if first == "~":
        if (base := home()) is None:
            raise UsageError(f"{path}: there is no home folder; write the whole path")
        return base.joinpath(*path.parts[1:])
    if first.startswith("~"):
        try:
            return path.expanduser()
        except RuntimeError:
            raise UsageError(
                f"{path}: there is no home folder of {first[1:]}; for a name that begins with ~ write ./~"
            ) from None
    return path


def absent(path: Path) -> str | None:
    """Why there is nothing to be read at `path`, as a clause; None where a file or folder is."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "there is no such file or folder"
    except OSError as error:
        return error.strerror or str(error)
    return None


def home_path(path: Path) -> str:
    """A path with ~ for the home folder, for reading."""
    base = home()
    try:
        return str(path) if base is None or base == Path("/") else f"~/{path.absolute().relative_to(base)}"
    except (ValueError, OSError):
        return str(path)


def user_name() -> str:
    """The user who runs this process: the name, else the number of a user id without one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return str(os.getuid())


def serve_libraries() -> None:
    """For libraries that look up a home folder or a user's name that this system lacks: set the environment
    variables that they read instead. Child processes inherit it."""
    if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        os.environ["USER"] = user_name()
    base = home()
    if base is None or not os.access(base, os.W_OK | os.X_OK):
        missing = [name for name in _CACHES if not os.environ.get(name)]
        if missing and (folder := _private_folder()) is not None:
            os.environ |= dict.fromkeys(missing, str(folder))


def _private_folder() -> Path | None:
    """A folder for temporary files that only this user can write to, kept from one command to the next."""
    try:
        folder = Path(tempfile.gettempdir()) / f"lsc-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # Another user could have made it, to put code there that is run.
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return folder
        return Path(tempfile.mkdtemp(prefix="lsc-"))
    except OSError:
        return None
