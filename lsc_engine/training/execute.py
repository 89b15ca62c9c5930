"""One run in this process: open its folder, train, and record how it ended, whatever happens."""

from __future__ import annotations

import subprocess
import sys
import time
import traceback
from pathlib import Path

import torch

from lsc_engine.common.errors import LscError
from lsc_engine.config.derived import data_notes, derive
from lsc_engine.config.schema import RunConfig
from lsc_engine.data.dataset import Selection, data_set, look
from lsc_engine.data.imagefiles import BadImageError
from lsc_engine.data.listing import BadFilesError
from lsc_engine.data.stream import attended
from lsc_engine.mirrors.supervise import begin as begin_mirrors
from lsc_engine.runs.alerts import Alerts
from lsc_engine.runs.folder import process, requests
from lsc_engine.runs.folder.layout import TRIES
from lsc_engine.runs.folder.lock import LostRunError, TakenError
from lsc_engine.runs.folder.machine import MachineRecorder
from lsc_engine.runs.folder.status import ELSEWHERE
from lsc_engine.runs.folder.writer import FinishedError, RunWriter
from lsc_engine.runs.read.run import Run
from lsc_engine.training.context import PeerWriter, Progress, RunContext
from lsc_engine.training.dependencies import load_dependencies
from lsc_engine.training.devices import device_name, gpu_uuid, set_numerics
from lsc_engine.training.job import Job
from lsc_engine.training.mesh import ALONE, Mesh, PeerLostError
from lsc_engine.training.signals import Interrupted, Signals
from lsc_engine.training.step import first_line
from lsc_engine.training.trainer import Trainer

# The exit code of one run; that of a study is decided in studies/runner.py.
EXIT_CODES = {"finished": 0, "failed": 1, "diverged": 3, "stopped": 143, ELSEWHERE: 1}


def execute(
    job: Job,
    config: RunConfig,
    *,
    device: torch.device,
    signals: Signals,
    echo: bool = True,
    progress: Progress | None = None,
    mesh: Mesh = ALONE,
) -> str:
    """Train the run of `job` to its end and return its state: finished, stopped, failed or diverged; ELSEWHERE if
    another process trains it, or has taken it over from this one, which then wrote nothing more. `config`: its settings
    with the changes of the job; `mesh`: the processes that call this together.

    LscError if the folder cannot be written, or is gone in the end: the state is then recorded nowhere.
    """
    folder, data_dir = job.folder, job.data_dir
    derived = derive(config, data_dir)

    def sleep(seconds: float) -> None:
        signals.check()
        time.sleep(seconds)

    if device.type == "cuda" and device.index is not None:
        # Also for the thread that pins memory.
        torch.cuda.set_device(device)
    writer: RunWriter | PeerWriter = PeerWriter(folder)
    ended = "failed"
    try:
        if mesh.rank == 0:
            steps = derived.total_steps
            writer = RunWriter.open(folder, device=device_name(device), total_steps=steps, echo=echo, watch=sleep)
        ended = ""
    except FinishedError:
        ended = "finished"
    except (TakenError, Interrupted):
        ended = ELSEWHERE
    finally:
        ended = mesh.share(ended)
    if ended:
        return ended
    if mesh.rank == 0 and config.log.also:
        try:
            begin_mirrors(folder, config.log.also)
        except (OSError, subprocess.CalledProcessError) as error:
            writer.message(f"not written for {', '.join(config.log.also)}: {error}")
    run = RunContext(
        config, derived, writer, signals, device, data_dir, progress=progress, same_images_as=job.like, mesh=mesh
    )
    try:
        return _train(run, job.runs_dir)
    except LostRunError as error:
        # While the writer is open, its lock keeps the last sample out of the folder.
        if run.machine is not None:
            run.machine.stop()
        writer.close()
        if echo:
            print(error, file=sys.stderr, flush=True)
        return ELSEWHERE
    finally:
        if run.machine is not None:
            run.machine.stop()
        if run.alerts is not None:
            run.alerts.close(seconds=0)


def _train(run: RunContext, runs_dir: Path) -> str:
    """Train, and leave the exit record: the state. LostRunError if another process has taken the run over."""
    writer = run.writer
    trainer: Trainer | None = None
    try:
        run.machine, run.alerts = _record_machine(run), _alerts(run)
        with run.mesh.first_alone():
            _prepare(run, runs_dir)
        set_numerics(run.device, run.dtype, bool(run.config.train.deterministic))
        with attended(run.wait):
            trainer = Trainer(run)
            if run.machine is not None:
                batches = trainer.batches
                run.machine.data_waited = lambda: batches.waited
            sizes = {
                name: sum(p.numel() for p in module.parameters() if p.requires_grad)
                for name, module in trainer.network.items()
            }
            head, device, threads = trainer.head.record(), device_name(run.device), torch.get_num_threads()
            writer.record(head=head, device=device, threads=threads, parameters=sizes)
            state, code, message = trainer.train(), 0, ""
        if state == "stopped":
            signal = run.signals.stop
            code, why = 128 + (signal or 15), requests.STOPPED if trainer.user_stops or not signal else "stopped"
            message = f"{why} at step {trainer.step}; {trainer.checkpointer.last_good()}"
    except LostRunError:
        raise
    except (Interrupted, PeerLostError) as error:
        state, code = "stopped", 128 + (run.signals.stop or 15)
        message = f"{error}; {trainer.checkpointer.last_good()}" if trainer else "stopped before the first step"
    except BaseException as error:
        state, code = (error.state, error.exit_code) if isinstance(error, LscError) else ("failed", 1)
        message = _reason(error, run)
        if not isinstance(error, Exception):
            writer.finish(state, code, message)
            raise
    if run.machine is not None:
        run.machine.stop()
        writer.record(load=run.machine.record())
    if run.alerts is not None:
        assert isinstance(writer, RunWriter)
        run.alerts.ended(writer.current, state, message)
    writer.finish(state, code, message)
    if run.alerts is not None:
        # The log is closed, and stderr is that of the command or of the log.
        patience = 1.0 if state == "stopped" else None
        run.alerts.close(lambda text: print(text, file=sys.stderr, flush=True), patience)
    if not run.folder.is_dir():
        raise LscError(message or f"the run folder {run.folder} is gone")
    return state


def _record_machine(run: RunContext) -> MachineRecorder | None:
    """What samples this host and the run's GPUs on it, in the process that writes the folder; None in the others."""
    places, host = run.mesh.gather((process.host_name(), gpu_uuid(run.device))), process.host_name()
    if not isinstance(run.writer, RunWriter):
        return None
    if others := sorted({name for name, _ in places} - {host}):
        run.writer.message(f"note: machine.jsonl is of {host}; {', '.join(others)} are not sampled", echo=False)
    gpus = [uuid for name, uuid in places if name == host and uuid is not None]
    # Also of an attempt that was killed and left no record.
    return MachineRecorder(run.writer, gpus, Run(run.folder, run.config.run_id).load)


def _alerts(run: RunContext) -> Alerts | None:
    """The messages on a run, in the process that writes its folder; none on the tries of [tune]."""
    writer, config = run.writer, run.config
    if not isinstance(writer, RunWriter) or config.study.endswith(TRIES):
        return None
    levels, best = config.compare.levels, writer.current.best
    return Alerts(config.run_id, writer.message, levels=levels, best=best, stalled=lambda: writer.stalled)


def _prepare(run: RunContext, runs_dir: Path) -> None:
    """Load the dependencies of the run, and count its images if some of them are left out."""
    config = run.config
    for note in data_notes(config.data, run.data_dir):
        run.writer.message(f"note: {note}", echo=False)
    if config.data.skip_bad or data_set(config.data.dataset).counted_late:
        # The length of an epoch depends on the number of images that can be read.
        with attended(run.wait):
            look(config.data, data_dir=run.data_dir, say=run.report)
            data_set(config.data.dataset).count_exactly(Selection.of(config.data, run.data_dir))
        run.derived = derive(config, run.data_dir)
        run.writer.status(total_steps=run.derived.total_steps)
    channels = run.derived.channels
    run.dependencies = load_dependencies(config, run.folder, runs_dir, channels=channels, device=run.device)


def _reason(error: BaseException, run: RunContext) -> str:
    """The message of the exit record of a run that failed."""
    if isinstance(error, BadImageError | BadFilesError):
        # One message on all images that cannot be used, also those of validation, after some were found.
        try:
            run.report("looking for other images that cannot be used, to report all of them together")
            with attended(run.wait):
                found = look(run.config.data, data_dir=run.data_dir, say=run.report)
            return f"{found}, in a study of another --name" if found else str(error)
        except LostRunError:
            raise
        except (Interrupted, LscError):
            return str(error)
    if isinstance(error, LscError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return f"out of memory at batch {run.config.train.batch_size}: {first_line(error)}"
    if isinstance(error, Exception):
        run.writer.message(traceback.format_exc())
        return f"{type(error).__name__}: {first_line(error)}"
    return "interrupted before a checkpoint could be written"
