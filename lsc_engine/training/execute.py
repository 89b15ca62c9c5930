"""One run in this process: open its folder, build its session, train, and record how it ended, whatever happens."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from lsc_engine.config import Derived, RunConfig, derive
from lsc_engine.config.listing import BadFilesError
from lsc_engine.config.notes import data_notes
from lsc_engine.data import BadImageError, attended, look
from lsc_engine.errors import DivergedError, LscError
from lsc_engine.runs.folder import requests
from lsc_engine.runs.folder.lock import LostRunError, TakenError
from lsc_engine.runs.folder.machine_load import LoadMeter
from lsc_engine.runs.folder.status import ELSEWHERE
from lsc_engine.runs.folder.writer import FinishedError, RunWriter
from lsc_engine.training.dependencies import load_dependencies
from lsc_engine.training.devices import cpu_threads, device_name
from lsc_engine.training.loop import train
from lsc_engine.training.signals import Interrupted, Signals
from lsc_engine.training.step import CompileFailedError
from lsc_engine.training.trainer import Display, Session

# What a run's own exit record says; a whole study is judged in study.py.
EXIT_CODES = {"finished": 0, "failed": 1, "diverged": 3, "stopped": 143, ELSEWHERE: 1}


def execute(
    folder: Path,
    config: RunConfig,
    *,
    runs_dir: Path,
    device: torch.device,
    data_dir: Path | None,
    signals: Signals,
    echo: bool = True,
    display: Display | None = None,
    like: Path | None = None,
) -> str:
    """Train the run in `folder` to its end and return its state: finished, stopped, failed or diverged; ELSEWHERE where
    another process trains it, or has taken it over from this one, which then wrote nothing more.

    `config` may name another place of the images than the folder's preset does; `like`: the folder of a run whose
    images they must be.

    LscError where the folder cannot be written, or is gone in the end: its state is then kept nowhere.
    """
    derived = derive(config, data_dir)

    def watch(seconds: float) -> None:
        signals.check()
        time.sleep(seconds)

    try:
        writer = RunWriter.open(
            folder, device=device_name(device), total_steps=derived.total_steps, echo=echo, watch=watch
        )
    except FinishedError:
        return "finished"
    except (TakenError, Interrupted):
        return ELSEWHERE
    try:
        return _train(
            writer, config, derived, runs_dir=runs_dir, device=device, data_dir=data_dir, signals=signals,
            display=display, like=like,
        )  # fmt: skip
    except LostRunError as error:
        writer.close()
        if echo:
            print(error, file=sys.stderr, flush=True)
        return ELSEWHERE


def _train(
    writer: RunWriter,
    config: RunConfig,
    derived: Derived,
    *,
    runs_dir: Path,
    device: torch.device,
    data_dir: Path | None,
    signals: Signals,
    display: Display | None,
    like: Path | None,
) -> str:
    """Train with an open writer, and leave the exit record: the state. LostRunError where the run is another's now."""
    folder = writer.folder
    session: Session | None = None
    load = LoadMeter(writer.recorded("load"))

    def go_on() -> None:
        """Interrupted when an end was asked for: images may take long to come, or never come."""
        signals.check()
        if "stop" in writer.requests():
            raise Interrupted
        writer.alive()

    def say(text: str) -> None:
        # Reading and packing images can take long, and is told as it goes on: here it can be left.
        writer.message(text)
        go_on()

    try:
        for note in data_notes(config.data, data_dir):
            writer.message(f"note: {note}", echo=False)
        if config.data.skip_bad:
            # How many images can be read decides how long an epoch is.
            with attended(go_on, say):
                look(config.data, data_dir=data_dir, say=say)
            derived = derive(config, data_dir)
            writer.status(total_steps=derived.total_steps)
        if device.type == "cpu":
            torch.set_num_threads(cpu_threads(config.train.batch_size, derived.image_size))
        taken = load_dependencies(config, folder, runs_dir, channels=derived.channels, device=device)
        with attended(go_on, say):
            session = Session(
                config, derived, folder, device=device, data_dir=data_dir, taken=taken, display=display, say=say,
                like=like, sample_load=load.sample,
            )  # fmt: skip
            writer.record(
                head=session.head.record(), device=device_name(device), threads=torch.get_num_threads(),
                parameters=session.parameters,
            )  # fmt: skip
            outcome = train(session, writer, signals)
        state, code, message = outcome.state, 0, ""
        if outcome.state == "stopped":
            code = 128 + (outcome.signal or 15)
            why = "stopped" if outcome.signal else requests.STOPPED
            message = f"{why} at step {outcome.step}; {session.last_good()}"
    except Interrupted:
        state, code = "stopped", 128 + (signals.stop or 15)
        message = "stopped before the first step" if session is None else f"stopped; {session.last_good()}"
    except CompileFailedError as error:
        state, code, message = "failed", error.exit_code, str(error)
        if signals.stop is not None and session is not None:
            # Ctrl-C reaches the compiler too, which runs in the same group of processes.
            state, code, message = "stopped", 128 + signals.stop, f"stopped while compiling; {session.last_good()}"
    except LostRunError:
        raise
    except DivergedError as error:
        state, code, message = "diverged", error.exit_code, str(error)
    except (BadImageError, BadFilesError) as error:
        state, code, message = "failed", error.exit_code, _all_bad(error, config, data_dir, go_on, say)
    except LscError as error:
        state, code, message = "failed", error.exit_code, str(error)
    except torch.OutOfMemoryError as error:
        state, code, message = "failed", 1, f"out of memory at batch {config.train.batch_size}: {_first_line(error)}"
    except Exception as error:
        writer.message(traceback.format_exc())
        state, code, message = "failed", 1, f"{type(error).__name__}: {_first_line(error)}"
    except BaseException:
        writer.finish("failed", 1, "interrupted before a checkpoint could be written")
        raise
    writer.record(load=load.record())
    writer.finish(state, code, message)
    if not folder.is_dir():
        raise LscError(message or f"the run folder {folder} is gone")
    return state


def _all_bad(
    error: LscError,
    config: RunConfig,
    data_dir: Path | None,
    go_on: Callable[[], None],
    say: Callable[[str], None],
) -> str:
    """One message on every image that cannot be used, of validation too, after some were found."""
    try:
        say("looking for other images that cannot be used, to report all of them together")
        with attended(go_on, say):
            found = look(config.data, data_dir=data_dir, say=say)
        return f"{found}, in a study of another --name" if found else str(error)
    except LostRunError:
        raise
    except (Interrupted, LscError):
        return str(error)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
