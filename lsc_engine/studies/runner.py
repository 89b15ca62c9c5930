"""Training the runs of a study: one after another in this process, or in parallel on GPUs with a process each. A run
that fails or diverges does not stop the others; one that needs it fails with that reason. At a signal the run in
progress writes its checkpoint and what waits stays queued. Several processes may train one study: each trains the runs
that nobody else does, and goes on with what others leave behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from lsc_engine.analysis.compare import Tried
from lsc_engine.analysis.verdict import choose, growth, values_text
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.safe_io import last_line
from lsc_engine.common.settings import MIRRORED, Table
from lsc_engine.runs import alerts
from lsc_engine.runs.folder import requests
from lsc_engine.runs.folder.layout import LOG, run_folder, split_id
from lsc_engine.runs.folder.lock import Holder, holder
from lsc_engine.runs.folder.process import DETACHED, python_command, this_process
from lsc_engine.runs.folder.status import ELSEWHERE, ENDED, read_status
from lsc_engine.runs.read.logs import LogTail
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.settings import PLACE
from lsc_engine.studies import control
from lsc_engine.studies.checks import ExecutionOptions, Message
from lsc_engine.studies.detach import report_begun
from lsc_engine.studies.gpus import Slot, gpu_slots, has_gpus, share_host
from lsc_engine.studies.plan import StudyPlan, TunePlan
from lsc_engine.studies.prepare import StudyRun, begin_study, create_study
from lsc_engine.training.job import Job
from lsc_engine.training.run_worker import THREADS
from lsc_engine.training.signals import Signals

_LOOK_SECONDS = 0.2
_WAIT_SECONDS = 0.5
_STATUS_SECONDS = 1.0


class Display(Protocol):
    """Where the progress of runs is shown. `prints_logs`: log lines instead of `update`."""

    prints_logs: bool

    def begin(self, name: str) -> None: ...
    def update(self, name: str, step: int, total: int, values: dict[str, float], eta: float | None) -> None: ...
    def end(self, name: str, state: str, message: str) -> None: ...
    def note(self, text: str) -> None: ...


Runs = Sequence[StudyRun]
OpenDisplay = Callable[[], AbstractContextManager[Display]]


def run_study(
    plan: StudyPlan, runs: Runs, options: ExecutionOptions, message: Message, display: OpenDisplay, source: Table
) -> tuple[int, StudyPlan, TunePlan | None]:
    """Train what is left of a study that `begin_study` has begun: tries of [tune] first, then the runs themselves. The
    exit code, the study as trained (its `tune` is left where no settings were chosen), and its tries."""
    root, tries = options.runs_dir, plan.tune
    seen: set[str] = set()
    while tries is not None:
        code = train(runs, options, message, display, wait_for_all=True, seen=seen)
        seen |= {run.id for run in runs}
        unended = unended_tries(tries, root)
        for sentence in unended:
            message(f"no rate is chosen while a try has not ended: {sentence}")
        if code >= 128 or unended:
            return code or 1, plan, tries
        chosen = after_tries(plan, tries, root, message)
        if chosen.tune is None:
            plan, runs = chosen, create_study(chosen, root, source)
            break
        plan, tries, runs = chosen, chosen.tune, begin_study(chosen, root, source)
    return train(runs, options, message, display), plan, tries


def unended_tries(tries: TunePlan, runs_dir: Path, *, in_job: bool = False) -> list[str]:
    """A sentence for each try whose result may still change: it runs, waits or was stopped. `in_job`: for the log of a
    job, which does not wait."""
    found = []
    for attempt in tries.runs:
        run = Run(run_folder(runs_dir, attempt.id), attempt.id, runs_dir)
        state = run.status().shown_state
        if (held := holder(run.path)) is not None:
            found.append(f"{run.id}: {held.sentence(waits=in_job)}")
        elif state not in ("finished", "failed", "diverged"):
            found.append(f"{run.id} is {state}; the same command goes on with it")
    return found


def after_tries(plan: StudyPlan, tune: TunePlan, runs_dir: Path, message: Message) -> StudyPlan:
    """What follows tries that have ended: the study with more of them, since a grid whose best value lies at its edge
    grows by a step; else with the best values of each variant for each of its purposes, and without `tune`. UsageError
    if no try finished."""
    tries: dict[str, list[Tried]] = {}
    for attempt in tune.runs:
        run = Run(run_folder(runs_dir, attempt.id), attempt.id, runs_dir)
        tries.setdefault(attempt.of, []).append(Tried(attempt.values, run))
    points: dict[str, list[Mapping[str, Any]]] = {}
    for variant, tried in tries.items():
        more = [one.values for one in tried if any(v not in tune.grid[key] for key, v in one.values.items())]
        for point in growth(tried, tune.purposes[variant], tune.grid):
            edge = f"{variant}: the best value lies at the edge of the grid"
            try:
                plan.grown({variant: [point]})
            except UsageError as error:
                message(f"{edge}, which cannot grow to {values_text(point)}: {error.faults[0]}")
                continue
            message(f"{edge}, which grows to {values_text(point)}")
            more.append(point)
        if more:
            points[variant] = more
    grown = plan.grown(points)
    if grown.tune is not None and len(grown.tune.runs) > len(tune.runs):
        return grown
    best: dict[str, list[Mapping[str, Any]]] = {}
    for variant, tried in tries.items():
        for one in tried:
            if (state := one.run.status().state) != "finished":
                message(f"{one.run.id}: {state}, not a candidate")
        for found in choose(tried, tune.purposes[variant]).values():
            edge = ", at the edge of the grid" if found.edge else ""
            message(f"{variant}: {values_text(found.values)} is the best of its grid by {found.by}{edge}")
            chosen = best.setdefault(variant, [])
            if found.values not in chosen:
                chosen.append(found.values)
    if without := tries.keys() - best.keys():
        raise UsageError(f"[tune]: no try of {', '.join(sorted(without))} finished, so there is no best one")
    return plan.tuned(best)


def train(
    runs: Runs,
    options: ExecutionOptions,
    message: Message,
    display: OpenDisplay,
    *,
    wait_for_all: bool = False,
    seen: Collection[str] = (),
) -> int:
    """Train the runs that are not done, here or on `options.gpus`; the exit code. `wait_for_all`: also wait for runs
    that another process is at work on and nothing needs. `seen`: ids of earlier rounds, not reported as done."""
    done = [run for run in runs if run.action == "done"]
    todo = [run for run in runs if run.action != "done"]
    earlier = [run.status.state for run in done if run.status is not None]
    if before := [run for run in done if run.id not in seen]:
        message(f"{len(before)} of {len(runs) - len(seen)} runs are done already")
    if not todo:
        return exit_code(earlier, None)
    holders = [(run.id, holder(run.folder) if run.action == "busy" else None) for run in todo]
    if not options.wait and not wait_for_all and all(who is not None for _, who in holders):
        # torch is not needed to refuse this.
        for name, who in holders:
            message(f"{name}: {who.sentence() if who else ''}")
        return 1
    states: dict[str, str] = {}
    try:
        for run in todo:
            if run.action != "busy":
                control.enqueue(run.folder, run.attempts, this_process())
        with Signals() as signals:
            here = options.gpus is None and options.gpus_per_run == 1
            train_queue = _sequential(todo, options) if here else _parallel(todo, options)
            report_begun()
            with display() as shown:
                states = train_queue(Queue(todo, options, shown, signals, for_all=wait_for_all))
            if signals.stop is None:
                for study in sorted({split_id(run.id)[0] for run in todo}):
                    alerts.study_done(options.runs_dir, study, message)
            code = exit_code([*states.values(), *(earlier if signals.stop is None else ())], signals.stop)
            failed = [run.folder for run in todo if states.get(run.id) == "failed"]
            usage = all(folder.is_dir() and read_status(folder).exit_code == 2 for folder in failed)
            return 2 if code == 1 and usage and ELSEWHERE not in states.values() else code
    finally:
        # What still waits goes on waiting for whoever continues the study; this process ends.
        for run in todo:
            if states.get(run.id, ELSEWHERE) == ELSEWHERE:
                control.dequeue(run.folder)


def exit_code(states: Iterable[str], stop: int | None) -> int:
    """128 + the signal `stop` if it stopped a run, 1 for a failure or a run that another process trains, 3 for a
    divergence, 143 for a run stopped by request, else 0."""
    found = set(states)
    if stop is not None and ("stopped" in found or found <= {"finished", ELSEWHERE}):
        return 128 + stop
    if found & {"failed", ELSEWHERE}:
        return 1
    if "diverged" in found:
        return 3
    return 143 if "stopped" in found else 0


class Queue:
    """The runs that are left, the states of those reached, and `why` what waits for other processes does. At its end it
    waits for those runs of other processes that its own need; `for_all` (tries): for every run at work; with
    --wait for every run until it is free or finished."""

    def __init__(
        self,
        runs: Iterable[StudyRun],
        options: ExecutionOptions,
        display: Display,
        signals: Signals,
        *,
        for_all: bool = False,
    ) -> None:
        self.options, self.display, self.signals = options, display, signals
        self.left = list(runs)
        self.states: dict[str, str] = {}
        self.why: dict[str, str] = {}
        self._mine = {run.id for run in self.left}
        self._for_all = for_all
        self._holders: dict[str, Holder] = {}
        self._on_hold: set[str] = set()
        self._reported: set[tuple[str, str]] = set()

    def next(self, running: Iterable[str] = ()) -> StudyRun | None:
        """The next run to train; None if all that is left waits. Others get their state on the way."""
        busy = set(running)
        while True:
            self._holders, self.why, self._on_hold = {}, {}, set()
            turns = sorted(self.left, key=lambda run: requests.turn(run.folder))
            looks = ((run, *self._readiness(run, busy)) for run in turns)
            if (found := next(((run, state) for run, ready, state in looks if ready), None)) is None:
                return None
            run, state = found
            self.left.remove(run)
            for other in self.left:
                status = read_status(other.folder)
                if status.state == "queued" and status.alive() is False:
                    # What waited for a process that is gone waits for this one.
                    control.enqueue(other.folder, status.attempt, this_process())
            if state is None:
                return run
            self.end(run, state)

    def end(self, run: StudyRun, state: str) -> None:
        if state == ELSEWHERE:
            self.left.append(run)
            return
        self.states[run.id] = state
        self.display.end(run.id, state, read_status(run.folder).message if run.folder.is_dir() else "")

    def worth_waiting(self) -> bool:
        """Whether to look again in a moment for what is left; reports what it waits for."""
        needed = {need for run in self.left for need in run.needs}
        wanted = {
            name: held
            for name, held in self._holders.items()
            if self.options.wait or ((self._for_all or name in needed) and held.at_work)
        }
        notes = {(name, held.name): f"{held.sentence(waits=True)}; waiting for it" for name, held in wanted.items()}
        notes |= {(name, ""): self.why[name] for name in self._on_hold}
        for key, text in notes.items():
            if key not in self._reported:
                self._reported.add(key)
                self.display.note(f"{key[0]}: {text}")
        return bool(notes)

    def close(self) -> dict[str, str]:
        """The states of the runs reached and, unless a signal has stopped the study, of those left to others."""
        for run in self.left if self.signals.stop is None else ():
            self.states[run.id] = ELSEWHERE
            self.display.note(f"{run.id}: {self.why.get(run.id, '')}")
        return self.states

    def _readiness(self, run: StudyRun, running: set[str]) -> tuple[bool, str | None]:
        status = read_status(run.folder)
        # Another process may have ended it since this one looked at it: then it is not tried again.
        ended = status.state in ("failed", "diverged") and status.attempt > run.attempts
        ended |= status.state == "stopped" and status.message.startswith(requests.STOPPED)
        if status.state == "finished" or ended:
            return True, status.state
        if (held := holder(run.folder)) is not None:
            self._holders[run.id], self.why[run.id] = held, held.sentence()
            return False, None
        pending = requests.pending(run.folder)
        if "stop" in pending:
            return True, control.record_exit(run.folder, "stopped", 143, requests.UNSTARTED).state
        if "hold" in pending:
            self._on_hold.add(run.id)
            self.why[run.id] = "held by a user until it is let go, with Q in lsc-tui"
            return False, None
        waits = False
        for need in run.needs:
            if need in running or any(other.id == need for other in self.left):
                self.why[run.id] = f"needs {need}, which is not finished"
                waits = True
                continue
            folder = run_folder(self.options.runs_dir, need)
            state = self.states.get(need) or read_status(folder).state
            if state == "finished":
                continue
            if need not in self._mine and (held := holder(folder)) is not None:
                self._holders[need], self.why[run.id] = held, f"needs {need}: {held.sentence()}"
                waits = True
                continue
            return True, control.record_exit(run.folder, "failed", 1, f"needs {need}, which is {state}").state
        return not waits, None


def _sequential(runs: Runs, options: ExecutionOptions) -> Callable[[Queue], dict[str, str]]:
    """Training in this process, on `options.device`."""
    from lsc_engine.training.devices import CUBLAS_WORKSPACE, pick_device
    from lsc_engine.training.execute import execute

    device = pick_device(options.device)
    if any(run.config.train.deterministic for run in runs):
        os.environ.setdefault(*CUBLAS_WORKSPACE)

    def train_queue(queue: Queue) -> dict[str, str]:
        display, signals = queue.display, queue.signals

        def train_one(run: StudyRun) -> str:
            job, echo = _job(run, options, options.device), display.prints_logs
            return execute(job, run.config, device=device, signals=signals, echo=echo, progress=display.update)

        return run_sequential(queue, train_one)

    return train_queue


def _job(run: StudyRun, options: ExecutionOptions, device: str) -> Job:
    changes: Table = {MIRRORED: run.config.log.also} if run.action == "resume" else {}
    changes |= {PLACE: run.config.data.path} if run.moved_from is not None else {}
    return Job(run.folder, options.runs_dir, device, options.data_dir, options.plugins, run.like, changes)


def run_sequential(queue: Queue, train_one: Callable[[StudyRun], str]) -> dict[str, str]:
    """Train one run after another with `train_one`, which returns a state. The state of each run reached, by id."""
    while queue.left and queue.signals.stop is None:
        if (run := queue.next()) is None:
            if not queue.left or not queue.worth_waiting():
                break
            time.sleep(_WAIT_SECONDS)
            continue
        queue.display.begin(run.id)
        try:
            queue.end(run, train_one(run))
        except LscError as error:
            # Its folder cannot be written; the other runs go on.
            queue.states[run.id] = "failed"
            queue.display.end(run.id, "failed", str(error))
    return queue.close()


def _parallel(runs: Sequence[StudyRun], options: ExecutionOptions) -> Callable[[Queue], dict[str, str]]:
    """Training with one worker process on each of `options.gpus`, or several processes for one run."""
    slots, each = [Slot("CPU", "cpu")], options.gpus_per_run
    if options.gpus is not None or options.device.startswith("cuda") or has_gpus():
        slots = share_host(gpu_slots(options.gpus or "auto", each), len(runs), each)
    return lambda queue: run_parallel(queue, slots)


def run_parallel(queue: Queue, slots: list[Slot]) -> dict[str, str]:
    """Train with a worker per slot. The state of each run reached, by id."""
    signals = queue.signals
    workers: dict[str, _Worker] = {}
    stopping = False
    while workers or (queue.left and signals.stop is None):
        for label, worker in list(workers.items()):
            ended = worker.process.poll() is not None
            worker.show_progress(last=ended)
            if ended:
                del workers[label]
                queue.end(worker.run, worker.end_state())
        if signals.stop is not None and not stopping:
            stopping = True
            for worker in workers.values():
                worker.stop()
        for slot in slots if signals.stop is None else ():
            if slot.label in workers:
                continue
            if (run := queue.next(worker.run.id for worker in workers.values())) is None:
                break
            workers[slot.label] = _Worker(run, slot, queue.options, queue.display)
        if workers:
            time.sleep(_LOOK_SECONDS)
        elif queue.left and signals.stop is None:
            if not queue.worth_waiting():
                break
            time.sleep(_WAIT_SECONDS)
    return queue.close()


class _Worker:
    """A process that trains one run in its own session, so that a Ctrl-C reaches it once, through the scheduler."""

    def __init__(self, run: StudyRun, slot: Slot, options: ExecutionOptions, display: Display) -> None:
        self._processes = processes = options.gpus_per_run
        self.run, self._display, self._shown_at = run, display, 0.0
        self._log = LogTail(run.folder / LOG)
        display.begin(run.id)
        if display.prints_logs:
            display.note(f"{run.id}: on {slot.label}")
            # What earlier attempts printed has been shown.
            for _ in self._log.chunks():
                pass
        torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
        module = [*(torchrun if processes > 1 else []), "lsc_engine.training.run_worker"]
        # What torchrun would set, and warn of.
        env = {**os.environ, **slot.environment, DETACHED: "1"}
        if processes > 1:
            env |= {THREADS: env.get("OMP_NUM_THREADS", ""), "OMP_NUM_THREADS": "1"}
        try:
            # log.txt, where libraries print too; not through a link, which a folder from others may hold.
            log = os.open(run.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        except OSError:
            log = os.open(os.devnull, os.O_WRONLY)
        try:
            command = python_command("-m", *module, _job(run, options, slot.device).to_json())
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        finally:
            os.close(log)

    def stop(self) -> None:
        """Request a checkpoint and a stop: of the process that writes the run, as torchrun would end all of them."""
        status = read_status(self.run.folder)
        if self._processes > 1 and status.active and status.pid:
            with contextlib.suppress(OSError):
                os.kill(status.pid, signal.SIGTERM)
        else:
            self.process.send_signal(signal.SIGTERM)

    def show_progress(self, last: bool = False) -> None:
        if self._display.prints_logs:
            for chunk in self._log.chunks():
                for line in chunk.splitlines():
                    self._display.note(f"{self.run.id}: {line}")
        elif last or time.monotonic() - self._shown_at > _STATUS_SECONDS:
            self._shown_at = time.monotonic()
            status = read_status(self.run.folder)
            if status.total_steps:
                self._display.update(self.run.id, status.step, status.total_steps, status.metrics, status.eta)

    def end_state(self) -> str:
        """The state of the run after the process has ended; one that left no exit record gets one."""
        folder, code = self.run.folder, self.process.returncode
        if not folder.is_dir():
            return "failed"
        status = read_status(folder)
        if status.state not in ENDED:
            if holder(folder) is not None:
                return ELSEWHERE
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            printed = last_line(folder / LOG)
            message = f"its process {how} and left no record" + (f"; {LOG} ends: {printed}" if printed else "")
            status = control.record_exit(folder, "failed", 1, message)
            alerts.announce(self.run.id, "failed", message, self._display.note)
        return status.state if status.state in ENDED else "failed"
