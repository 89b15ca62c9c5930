"""Requests to a run, from any host on a shared disk: empty files in its folder, `stop.request`, `checkpoint.request`,
`kill.request` and, for one that waits, `hold.request`; and its turn among those that wait, in `turn.json`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.safe_io import UnreadableError, read_json, replace_json, writing

REQUESTS = ("stop", "checkpoint", "kill", "hold")
TURN = "turn.json"
# Beginning of the message of a run that a user stopped: it is not continued without a command of a user.
STOPPED = "stopped on request"
UNSTARTED = f"{STOPPED} while it waited for its turn"


def request(folder: Path, what: str) -> None:
    """Request "stop" (with a checkpoint), "checkpoint", "kill", or "hold" (do not start). LscError."""
    if what not in REQUESTS:
        raise UsageError(f"{what!r} is not a request to a run: {', '.join(REQUESTS)}")
    with writing(folder / f"{what}.request"):
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(folder / f"{what}.request", flags, 0o666))


def pending(folder: Path) -> set[str]:
    """The requests in `folder`."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = os.listdir(folder)
    return {what for what in REQUESTS if f"{what}.request" in names}


def withdraw(folder: Path, what: str) -> None:
    """Take a request back. LscError if that fails."""
    try:
        (folder / f"{what}.request").unlink(missing_ok=True)
    except OSError as error:
        raise LscError(f"{folder}: the request to {what} stays: {error.strerror}") from None


def turn(folder: Path) -> int:
    """The turn of a run that waits, 0 without one: lower ones start first, equal ones in the order of their study."""
    with contextlib.suppress(UnreadableError):
        value = read_json(folder / TURN).get("turn")
        return value if type(value) is int else 0
    return 0


def set_turn(folder: Path, number: int) -> None:
    """Set the turn of a run that waits. LscError if that fails."""
    with writing(folder / TURN):
        replace_json(folder / TURN, {"turn": number})


def take(folder: Path) -> set[str]:
    """The pending requests, which are removed: each is answered once. One that cannot be removed is still answered."""
    found = pending(folder)
    for what in found:
        with contextlib.suppress(OSError):
            os.unlink(folder / f"{what}.request")
    return found
