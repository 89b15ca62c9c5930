"""Messages on a run to the targets of alerts.toml, from threads of its own process, which a dead target delays at its
end only, by seconds. What targets answer is shown in words of ours, since addresses and headers are secret."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import queue
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lsc_engine import __version__
from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import duration
from lsc_engine.common.safe_io import number_of
from lsc_engine.common.userpaths import config_folder
from lsc_engine.config.alerts import EVENTS, Bell, Command, Ntfy, Slack, Target, Webhook, load_alerts
from lsc_engine.config.tuning import lower_is_better
from lsc_engine.runs.folder import process
from lsc_engine.runs.folder.layout import TRIES
from lsc_engine.runs.folder.status import ENDED, Status, read_status

# How long one target may take, and all of them at the end of a run.
SECONDS, LAST_SECONDS = 5.0, 8.0
# Pauses before an unanswered message is sent again; what may have arrived is not.
_PAUSES = (2.0, 8.0)
_LOOK_SECONDS = 5.0
_SHOWN = ("train/loss", "train/accuracy", "val/accuracy")
_URGENT = ("failed", "diverged", "stalled")
_HOUR = 3600.0
_MOST_SEEN = 200
_LONGEST = 500
# What each target was sent, where no file can be written for it.
_sent: dict[str, dict[str, Any]] = {}
Report = Callable[[str], object]


@dataclass(frozen=True)
class Message:
    """What happened: one of config.alerts: EVENTS, to which run or study, on which host, as text, and as values."""

    event: str
    run: str
    text: str
    values: Mapping[str, Any] = field(default_factory=dict)
    host: str = field(default_factory=process.host_name)
    time: float = field(default_factory=time.time)

    def __str__(self) -> str:
        return f"{self.run} on {self.host}: {self.text}"


@dataclass(frozen=True)
class Failure:
    """Why a message did not arrive, and whether it surely did not, so that it may be sent again."""

    why: str
    again: bool = False


# Of the kinds of an error, the first that it is.
_FAILURES: dict[type[BaseException], Failure] = {
    ssl.SSLError: Failure("the server's certificate is not trusted, or it speaks no TLS"),
    socket.gaierror: Failure("the server's name was not found", again=True),
    ConnectionRefusedError: Failure("the connection was refused", again=True),
    BaseException: Failure("the connection broke"),
}


def deliver(target: Target, message: Message) -> Failure | None:
    """Send a message now; None once it has arrived. Raises nothing."""
    try:
        if not isinstance(target, Bell):
            return _run(target, message) if isinstance(target, Command) else _post(target, message)
        if not has_terminal():
            return Failure("this process has no terminal")
        with open("/dev/tty", "wb", buffering=0) as terminal:
            terminal.write(b"\a")
        return None
    except Exception as error:  # whatever it is, its text may hold an address or a header
        return Failure(type(error).__name__)


def deliver_to_all(targets: Mapping[str, Target], message: Message) -> dict[str, Failure | None]:
    """`deliver` to all targets at once, given up on after a few seconds."""
    found: dict[str, Failure | None] = {name: Failure("no answer yet") for name in targets}

    def send(name: str, target: Target) -> None:
        found[name] = deliver(target, message)

    threads = [threading.Thread(target=send, args=item, daemon=True) for item in targets.items()]
    for thread in threads:
        thread.start()
    _join(threads, LAST_SECONDS)
    return dict(found)


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def has_terminal() -> bool:
    """Whether a terminal belongs to this process."""
    try:
        os.close(os.open("/dev/tty", os.O_WRONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _run(target: Command, message: Message) -> Failure | None:
    names = {"LSC_EVENT": message.event, "LSC_RUN": message.run, "LSC_HOST": message.host, "LSC_TEXT": str(message)}
    with tempfile.TemporaryFile() as text:
        # A file and no pipe, which a command that reads nothing would break.
        text.write(f"{message}\n".encode())
        text.seek(0)
        child = subprocess.Popen(
            ["/bin/sh", "-c", target.run.get_secret_value()],
            stdin=text,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | names,
            start_new_session=True,
        )
    try:
        child.wait(SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return Failure(f"was ended after {SECONDS:.0f} s")
    return Failure(f"ended with exit code {child.returncode}") if child.returncode else None


def _post(target: Target, message: Message) -> Failure | None:
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        """The address that an answer names gets neither the message nor the headers."""

        def redirect_request(self, *_: Any) -> None:
            return None

    assert isinstance(target, Ntfy | Slack | Webhook)
    headers = {"User-Agent": f"lsc/{__version__}", "Content-Type": "application/json"}
    if isinstance(target, Ntfy):
        headers |= {"Content-Type": "text/plain; charset=utf-8", "Title": f"lsc: {message.event}"}
        headers |= {"Priority": "high"} if message.event in _URGENT else {}
        headers |= {"Authorization": f"Bearer {target.token.get_secret_value()}"} if target.token else {}
        data = str(message).encode()
    elif isinstance(target, Slack):
        data = json.dumps({"text": f"{message.event}: {message}"}).encode()
    else:
        headers |= {name: value.get_secret_value() for name, value in target.headers.items()}
        data = json.dumps({**asdict(message), "text": str(message)}, default=str).encode()
    request = urllib.request.Request(target.url.get_secret_value(), data, headers, method="POST")
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=SECONDS):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return Failure(f"was answered with HTTP {error.code}", again=error.code in (429, 502, 503))
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, TimeoutError):
            return Failure(f"was not answered within {SECONDS:.0f} s")
        return next(failure for kind, failure in _FAILURES.items() if isinstance(reason, kind))


def _allowed(name: str, most: int, once: str) -> int | None:
    """How many messages were left out since the last one, if another may be sent within the hour; None if not."""
    now, file = time.time(), None
    with contextlib.suppress(OSError):
        config_folder().mkdir(parents=True, exist_ok=True)
        file = open(config_folder() / f".alerts-{name.replace(' ', '-')}.json", "a+b")  # noqa: SIM115
    with file or contextlib.nullcontext():
        state = _sent.get(name, {})
        if file is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            try:
                state = json.loads(file.read())
            except ValueError:
                state = {}
        known = state if isinstance(state, dict) else {}
        times, seen = (value if isinstance(value := known.get(key), list) else [] for key in ("times", "once"))
        times, seen = [t for t in times if number_of(t) and now - _HOUR < t <= now], seen[-_MOST_SEEN:]
        left = left if type(left := known.get("left")) is int else 0
        if once and once in seen:
            return None
        full = len(times) >= most and not once
        state = {"times": times if full else [*times, now], "once": [*seen, *([once] if once else [])]}
        state["left"] = left + 1 if full else 0
        if file is None:
            _sent[name] = state
        else:
            with contextlib.suppress(OSError):
                file.truncate(0)
                file.write(json.dumps(state).encode())
                file.flush()
    return None if full else left


class _Sender(threading.Thread):
    """Sends the messages to one target, one after another, so that a slow one keeps no other waiting."""

    def __init__(self, name: str, target: Target, most: int, alerts: Alerts) -> None:
        super().__init__(name=f"alerts to {name}", daemon=True)
        self.target, self.waiting = target, queue.SimpleQueue[tuple[Message, str] | None]()
        self._place, self._most, self._alerts = name, most, alerts
        self.given_up = False
        self.start()

    def run(self) -> None:
        while (item := self.waiting.get()) is not None and not self.given_up:
            message, once = item
            if (left := _allowed(self._place, self._most, once)) is None:
                continue
            if left:
                message = replace(message, text=f"{message.text} ({left} earlier messages were left out)")
            for pause in (*_PAUSES, None):
                failure = deliver(self.target, message)
                if failure is None or not failure.again or pause is None:
                    break
                self._alerts.closing.wait(pause)
            if failure is not None and not self.given_up:
                self._alerts.note(f"alert not sent to {self._place}: {failure.why}")


class Alerts:
    """The messages of one run, or of one study. Nothing here raises or waits, but for `close`."""

    def __init__(
        self,
        name: str,
        report: Report,
        *,
        levels: Mapping[str, Sequence[float]] | None = None,
        best: Mapping[str, float] | None = None,
        stalled: Callable[[], str] | None = None,
    ) -> None:
        """`report` gets sentences on what is wrong with alerts.toml or could not be sent; `levels` and `best`: those
        of metrics, and the best values of earlier attempts; `stalled`: a sentence while the run is stalled, else ""."""
        self.closing = threading.Event()
        self._name, self._report = name, report
        self._senders: list[_Sender] = []
        self._levels = {(m, level) for m, values in (levels or {}).items() for level in values}
        self._reached(best or {})
        try:
            settings = load_alerts()
        except LscError as error:
            self.note(f"note: no alerts are sent: {error}")
            return
        if settings is not None:
            targets = {
                name: one for name, one in settings.targets.items() if has_terminal() or not isinstance(one, Bell)
            }
            self._senders = [_Sender(name, one, settings.most_per_hour, self) for name, one in targets.items()]
        if stalled is not None and any("stalled" in sender.target.on for sender in self._senders):
            threading.Thread(target=self._watch, args=(stalled,), name="alerts: stalled", daemon=True).start()

    def note(self, text: str) -> None:
        """A sentence for the log; one that cannot be written there changes nothing."""
        with contextlib.suppress(LscError, OSError, ValueError):
            self._report(text)

    def send(self, event: str, text: str, values: Mapping[str, Any] | None = None, *, once: str = "") -> None:
        """A message on an event to every target that wants it. `once`: a name of it, if other processes send it too."""
        plain = "".join(c if c.isprintable() else " " for c in text)
        message = Message(event, self._name, " ".join(plain.split())[:_LONGEST], values or {})
        for sender in self._senders:
            if event in sender.target.on:
                sender.waiting.put((message, once))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """New values of metrics: a message for each level that they reach first."""
        for metric, level in sorted(self._reached(values)):
            text = f"{metric} {values[metric]:.4g} has reached the level {level:g} at step {step}"
            self.send("level reached", text, {"metric": metric, "level": level, "value": values[metric], "step": step})

    def _reached(self, values: Mapping[str, float]) -> set[tuple[str, float]]:
        known = {(metric, level): values[metric] - level for metric, level in self._levels if metric in values}
        found = {at for at, beyond in known.items() if (beyond <= 0 if lower_is_better(at[0]) else beyond >= 0)}
        self._levels -= found
        return found

    def ended(self, status: Status, state: str, message: str) -> None:
        if state not in EVENTS:
            return
        metrics = {name: value for name, value in status.metrics.items() if math.isfinite(value)}
        shown = [f"{name} {metrics[name]:.4g}" for name in _SHOWN if name in metrics]
        text = ", ".join([f"{state} after {duration(status.seconds, 0)} at step {status.step}", *shown])
        facts = {"step": status.step, "total_steps": status.total_steps, "seconds": status.seconds, "metrics": metrics}
        self.send(state, f"{text}: {message}" if message else text, {**facts, "message": message})

    def _watch(self, stalled: Callable[[], str]) -> None:
        before = ""
        while not self.closing.wait(_LOOK_SECONDS):
            if (now := stalled()) and not before:
                self.send("stalled", now)
            before = now

    def close(self, report: Report | None = None, seconds: float | None = None) -> None:
        """Wait a little for what is still to be sent; `report` as for a new one, from here on."""
        if self.closing.is_set():
            return
        self._report = report or self._report
        self.closing.set()
        for sender in self._senders:
            sender.waiting.put(None)
        _join(self._senders, LAST_SECONDS if seconds is None else seconds)
        for sender in self._senders:
            if sender.is_alive():
                sender.given_up = True
                self.note(f"alert not sent to {sender.name.removeprefix('alerts to ')}: no answer yet")


def announce(
    name: str, event: str, text: str, report: Report, values: Mapping[str, Any] | None = None, once: str = ""
) -> None:
    """One message, sent within a few seconds or not at all."""
    alerts = Alerts(name, report)
    alerts.send(event, text, values, once=once)
    alerts.close()


def study_done(root: Path, study: str, report: Report) -> None:
    """The message that all runs of a study have ended, if they have; from the first process that finds it so."""
    found = [read_status(folder) for folder in (root / study).glob("*/seed-*")]
    if study.endswith(TRIES) or not found or any(status.state not in ENDED for status in found):
        return
    counts = Counter(status.state for status in found)
    words = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    once = f"{os.path.realpath(root)}/{study} {max(status.heartbeat or 0.0 for status in found)}"
    announce(study, "study done", f"done: {words}", report, {"states": dict(counts)}, once)
