"""Reading files that may be hostile, and writing files that must never be half there.

Readers open without following a final link and without blocking (a pipe or device in a run folder is not a file), stop
at a size limit and never execute or unpickle anything. Writers replace a file in one step and, on request, flush file
and folder to the disk, since a rename may reach the disk before the data it names.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import fcntl
import io
import json
import math
import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.settings import Table

MAX_JSON = 4 << 20
MAX_TOML = 1 << 20
# The marks of UTF-32 begin with those of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class UnreadableError(LscError):
    """A file of a run folder is missing, damaged or not what it should be; the message is one sentence."""


def number_of(value: Any) -> float | None:
    """A number as a float, None for anything else and for what is not finite or too large for one."""
    if type(value) is not int and type(value) is not float:
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def open_regular(path: Path) -> int:
    """A read-only descriptor of a regular file.

    Raises UnreadableError for links, pipes, devices, folders and files that cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UnreadableError(f"{path.name} is not there") from None
    except OSError as error:
        what = "is a link" if error.errno == errno.ELOOP else f"cannot be opened: {error.strerror}"
        raise UnreadableError(f"{path.name} {what}") from None
    except ValueError:
        raise UnreadableError(f"{path.name!r} is not a file name") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableError(f"{path.name} is not a regular file")
    return descriptor


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """`open_regular`, closed at the end of the block; an OSError in it becomes UnreadableError."""
    descriptor = open_regular(path)
    try:
        yield descriptor
    except OSError as error:
        raise UnreadableError(f"{path.name} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def blocks(descriptor: int) -> Iterator[bytes]:
    """The content of an open file in pieces of at most 1 MiB."""
    while block := os.read(descriptor, 1 << 20):
        yield block


def read_bytes(path: Path, limit: int) -> bytes:
    """The whole file; UnreadableError if it is longer than `limit` bytes."""
    return read_dated(path, limit)[0]


def read_dated(path: Path, limit: int) -> tuple[bytes, float]:
    """The whole file, and when it was last written (seconds since 1970); UnreadableError as for `read_bytes`."""
    with opened(path) as descriptor:
        changed = os.fstat(descriptor).st_mtime
        data = bytearray()
        for block in blocks(descriptor):
            data += block
            if len(data) > limit:
                raise UnreadableError(f"{path.name} is larger than {limit} bytes")
        return bytes(data), changed


def read_tail(path: Path, size: int, start: int = 0) -> bytes:
    """At most the last `size` bytes of a file, none of them before byte `start`. UnreadableError."""
    with opened(path) as descriptor:
        length = os.fstat(descriptor).st_size
        start = max(start, length - size)
        return os.pread(descriptor, max(length - start, 0), start)


def last_line(path: Path, start: int = 0) -> str:
    """The last line that is not blank among the last 16 KiB of a text file, or of what lies behind byte `start`; "" if
    there is none or it cannot be read."""
    try:
        text = read_tail(path, 16 << 10, start).decode("utf-8", "replace")
    except UnreadableError:
        return ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def read_json(path: Path, limit: int = MAX_JSON) -> dict[str, Any]:
    """The JSON object in the file; UnreadableError with the line of the fault otherwise."""
    return parse_json(read_bytes(path, limit), path.name)


def parse_json(raw: bytes, name: str) -> dict[str, Any]:
    """The JSON object that `raw` is; UnreadableError about the file `name`, with the line of the fault, otherwise."""
    try:
        document = json.loads(raw)
    except json.JSONDecodeError as error:
        raise UnreadableError(f"{name} is not JSON (line {error.lineno})") from None
    except UnicodeDecodeError:
        raise UnreadableError(f"{name} is not text") from None
    except RecursionError:
        raise UnreadableError(f"{name} is nested too deeply") from None
    except ValueError as error:
        raise UnreadableError(f"{name} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise UnreadableError(f"{name} is not a JSON object")
    return document


def read_toml(path: Path) -> dict[str, Any]:
    """The TOML table in the file; UnreadableError otherwise."""
    try:
        text = decoded(read_bytes(path, MAX_TOML))
    except ValueError as error:
        raise UnreadableError(f"{path.name} {error}") from None
    try:
        return parse_toml(text)
    except ValueError as error:
        raise UnreadableError(f"{path.name} is {error}") from None


def decoded(raw: bytes) -> str:
    """The text of a file, without its byte order mark. ValueError, with what to do, where it is not UTF-8."""
    if (other := other_encoding(raw)) is not None:
        raise ValueError(f"is {other} text; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"is not UTF-8 text (byte 0x{raw[error.start]:02x} in line {line}), but Latin-1, Windows-1252 "
            "or another encoding; save it as UTF-8"
        ) from None


def other_encoding(raw: bytes) -> str | None:
    """UTF-16 or UTF-32 where the first bytes of a file say so by a mark, or by the zeros that fill up plain letters."""
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return name
    head = raw[:512]
    share = head.count(0) / max(1, len(head))
    return None if share < 0.3 else "UTF-16" if share < 0.6 else "UTF-32"


def parse_toml(text: str) -> Table:
    """The tables of a TOML text. ValueError with the line of a mistake."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not TOML: {error}") from error


def read_preset_toml(path: Path) -> tuple[str, Table]:
    """Text and tables of a TOML file. UsageError where it cannot be read, with the line of a mistake."""
    try:
        text = decoded(path.read_bytes())
        return text, parse_toml(text)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def fsync_folder(folder: Path) -> None:
    """Flush the names in `folder`; file systems that cannot do it (some network ones) keep their own order."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path` so that a reader sees the old or the new file, never half of one. Raises OSError.

    `durable` also flushes to the disk, so that the new file survives a power loss.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        fsync_folder(path.parent)


def replace_json(path: Path, document: dict[str, Any], *, durable: bool = True) -> None:
    """`document` as JSON, written like `replace_file`. Raises OSError."""
    text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    replace_file(path, text.encode("utf-8", "backslashreplace"), durable=durable)


def mode_by_umask(path: Path) -> None:
    """Give `path`, which a library wrote for its owner alone, the permissions that the umask leaves a new file. Raises
    OSError."""
    probe = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        os.chmod(path, stat.S_IMODE(os.fstat(descriptor).st_mode))
    finally:
        os.close(descriptor)
        os.unlink(probe)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write a file at, which becomes `path` at the end of the block if nothing went wrong in it: a file that
    a user names is the old one or the whole new one, never a part. It has the same ending; what is no regular file,
    like /dev/null, is written itself. Raises OSError."""
    target = Path(os.path.realpath(path))
    try:
        mode: int | None = target.stat().st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        yield target
        return
    part = target.with_name(f".{os.getpid()}-{os.urandom(4).hex()}.part{target.suffix}")
    try:
        # Some libraries write for their owner alone: the file gets what the umask leaves, or the mode of the old one.
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        usual = part.stat().st_mode
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.chmod(part, stat.S_IMODE(usual if mode is None else mode))
        os.replace(part, target)
    except OSError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)) == part:
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)


@contextlib.contextmanager
def writing(path: Path, advice: str = "") -> Iterator[None]:
    """LscError, which names `path` and ends with `advice`, instead of an OSError of the block."""
    try:
        yield
    except OSError as error:
        raise LscError(f"{path} cannot be written: {error.strerror or error}{advice}") from None


def write_whole(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to a file that a user names, whole or not at all; bytes of file names that are not UTF-8
    stay as they are. Raises OSError."""
    with whole_file(path) as part:
        part.write_bytes(text.encode("utf-8", "surrogateescape"))


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV with `\\n` ends; None is empty."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV to a file that a user names, as `write_whole` does; None is empty. Raises OSError."""
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out:
        csv.writer(out, lineterminator="\n").writerows(rows)


@contextlib.contextmanager
def exclusive_lock(descriptor: int) -> Iterator[None]:
    """The lock on an open file or folder, waited for; the descriptor is closed at the end. A file system without locks
    lets all in."""
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
