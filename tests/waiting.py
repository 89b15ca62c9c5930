"""Waiting for what another process, thread or task does.

No test sleeps and hopes, and none judges how long something takes: the limit only ends a test that would hang.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any

LIMIT = 240.0
"""Seconds; far more than anything takes on a machine with many other programs."""


def wait_until(
    condition: Callable[[], Any], what: str | Callable[[], object] = "", limit: float = LIMIT, every: float = 0.005
) -> Any:
    """The first true value of `condition`. If none comes, AssertionError with `what` (or what it returns, or the source
    of the condition)."""
    deadline = time.monotonic() + limit
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(_in_vain(condition, what))
        time.sleep(every)
    return found


async def pause_until(
    pilot: Any, condition: Callable[[], Any], what: str | Callable[[], object] = "", limit: float = LIMIT
) -> Any:
    """`wait_until` in a test of the app: its messages are handled before each look."""
    deadline = time.monotonic() + limit
    while True:
        await pilot.pause(0.01)
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(_in_vain(condition, what))


def _in_vain(condition: Callable[[], Any], what: str | Callable[[], object]) -> str:
    return f"waited in vain for {(what if isinstance(what, str) else what()) or inspect.getsource(condition).strip()}"
