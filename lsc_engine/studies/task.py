"""`srun python -m lsc_engine.studies.task RUN [NEEDED …] --runs-dir DIR`: the run of one task of a Slurm array. Begin:
what an earlier start of this task left unfinished is taken over once it gives no more signs of life. After [tune]
(`--tuned`) the task chooses the best values of its variant itself, when every try has ended. End: stopped by a signal,
the task asks Slurm for its own state. RUNNING means preemption or the time limit: it lets itself be queued again.
Anything else means that Slurm ends the job, or does that itself. Of several processes that of rank 0 does all this; the
others train with it what it trains, until it ends."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lsc_engine.common.errors import LscError
from lsc_engine.common.streams import open_streams
from lsc_engine.common.userpaths import serve_libraries
from lsc_engine.plugins import load_plugins
from lsc_engine.runs import alerts
from lsc_engine.runs.folder import checkpoints, layout, requests, slurm
from lsc_engine.runs.folder.lock import RunLock, TakenError, holder, signs
from lsc_engine.runs.folder.status import ENDED, Status, read_status
from lsc_engine.studies import control
from lsc_engine.studies.plan import plan_study
from lsc_engine.studies.prepare import create_study, seeds_of
from lsc_engine.studies.runner import after_tries, unended_tries
from lsc_engine.studies.submit import TUNED, study_folder
from lsc_engine.training import run_worker
from lsc_engine.training.job import Job
from lsc_engine.training.signals import Interrupted, Signals

if TYPE_CHECKING:
    from lsc_engine.training.mesh import Jobs

# An earlier start whose heartbeat stands still for these seconds or beats is over.
STILL_SECONDS, STILL_BEATS = 10.0, 5.0
_LOOK_SECONDS = 0.5
# Slurm kills a task that was requeued within its KillWait.
KILL_SECONDS = 600.0


class StopRequestedError(LscError):
    """A user stopped what the run needs: for Slurm the task has done what it should."""

    exit_code = 0
    state = "stopped"


def main() -> int:
    """Train the run of the task; the exit code: 0 also for a stop by a user and for a run that is trained elsewhere."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("needs", nargs="*")
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--plugin", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    open_streams()
    serve_libraries()
    scheduler = slurm.this_task()
    if scheduler is None:
        print("this is started by srun in a job array; lsc-engine submit writes its script", file=sys.stderr)
        return 2
    rank, processes = int(os.environ.get("SLURM_PROCID", 0)), int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    with Signals(ignored=rank > 0) as signals:
        try:
            if processes == 1:
                return Task(arguments, scheduler, signals).train()
            from lsc_engine.training.mesh import Jobs

            with Jobs() as jobs:
                if not rank:
                    return Task(arguments, scheduler, signals, jobs).train()
                # The first process judges how the runs end: another exit code than 0 would end it before that.
                while (taken := jobs.take()) is not None:
                    job, store = taken
                    run_worker.main(Job.from_json(job), store)
                return 0
        except LscError as error:
            print(error, file=sys.stderr)
            folder = layout.run_folder(arguments.runs_dir, arguments.run)
            if rank == 0 and read_status(folder).state == "queued":
                code = 143 if error.state == "stopped" else error.exit_code
                control.record_exit(folder, error.state, code, str(error))
            return error.exit_code


class Task:
    """The runs of one task, usually one: after [tune] a variant may have several best values."""

    def __init__(
        self, arguments: argparse.Namespace, scheduler: slurm.Scheduler, signals: Signals, jobs: Jobs | None = None
    ) -> None:
        self._arguments, self._scheduler, self._signals, self._jobs = arguments, scheduler, signals, jobs
        self._root: Path = arguments.runs_dir

    def train(self) -> int:
        """Train all runs of the task; the exit code of the first that failed, else 0."""
        folder = layout.run_folder(self._root, self._arguments.run)
        before = _saved(folder)
        try:
            self._check_needs()
            folders = self._tuned() if self._arguments.tuned else [folder]
            codes = []
            for folder in folders:
                before = _saved(folder)
                codes.append(self._train_one(folder))
                if self._signals.stop is not None or codes[-1] >= 128:
                    break
        except Interrupted:
            return self.queue_again(folder, before)
        alerts.study_done(self._root, layout.split_id(self._arguments.run)[0], print)
        stopped = bool(codes) and codes[-1] >= 128
        return self.queue_again(folder, before) if stopped else next(filter(None, codes), 0)

    def _train_one(self, folder: Path) -> int:
        """Train one run; 128 or more if a signal stopped it."""
        if (trained := self.free(folder)) is not None:
            print(f"{folder}: {trained}")
            return 0
        if "stop" in requests.pending(folder) and read_status(folder).state == "queued":
            message = control.record_exit(folder, "stopped", 143, f"{requests.STOPPED} while it waited").message
            print(f"{folder}: {message}")
            return 0
        others = [other for other in seeds_of(folder) if other != folder and read_status(other).attempt]
        # Another seed of the variant: the images must be the same.
        like = others[0] if others and not read_status(folder).attempt else None
        given = self._arguments
        job = Job(folder, self._root, given.device, given.data_dir, tuple(given.plugin), like)
        code = run_worker.main(job, self._jobs.give(job.to_json()) if self._jobs is not None else None)
        status = read_status(folder)
        if status.state == "stopped" and status.message.startswith(requests.STOPPED):
            print(f"{folder}: {status.message}")
            return 0
        if status.state == "stopped" or (code >= 128 and status.state not in ENDED):
            return max(code, 128 + 15)
        if status.state in ENDED:
            print(f"{folder}: {status.state}" + (f": {status.message}" if status.message else ""))
            return code
        print(f"{folder}: {_elsewhere(folder) or 'another process trains it'}")
        return 0

    def _check_needs(self) -> None:
        """LscError, also recorded as the end of the run, unless all runs that it needs are finished."""
        states = {need: read_status(layout.run_folder(self._root, need)).state for need in self._arguments.needs}
        if missing := [f"{need}, which is {state}" for need, state in states.items() if state != "finished"]:
            why = f"needs {'; '.join(missing)}"
            folder = layout.run_folder(self._root, self._arguments.run)
            if folder.is_dir():
                control.record_exit(folder, "failed", 1, why)
            raise LscError(f"{self._arguments.run} {why}; submit the study again when it is finished")

    def _tuned(self) -> list[Path]:
        """The folders of the task's variant and seed with the values that its tries chose, which are created; a grid
        that grows is trained first. LscError while a try has not ended."""
        load_plugins(self._arguments.plugin)
        study, variant, seed = layout.split_id(self._arguments.run)
        text = study_folder(self._root, study) / TUNED
        plan = plan_study(text, name=study, variants=[variant], seeds=[seed])
        while plan.tune is not None:
            if unended := unended_tries(plan.tune, self._root, in_job=True):
                raise LscError(f"no rate is chosen while a try has not ended: {'; '.join(unended)}")
            plan = after_tries(plan, plan.tune, self._root, print)
            for run in create_study(plan.tune, self._root, {}) if plan.tune is not None else ():
                self._train_try(run.folder)
        runs = [(run, layout.split_id(run.id)[1]) for run in create_study(plan, self._root, {}) if run.action != "done"]
        return [run.folder for run, name in runs if name == variant or name.startswith(f"{variant}+")]

    def _train_try(self, folder: Path) -> None:
        """Train a try, or wait until another task has. Interrupted after a signal, StopRequestedError if a user stopped
        it."""
        while read_status(folder).state not in ("finished", "failed", "diverged"):
            if self.free(folder) is None:
                if self._train_one(folder) >= 128:
                    raise Interrupted
                if (status := read_status(folder)).state == "stopped":
                    raise StopRequestedError(f"no rate is chosen while a try has not ended: {folder} {status.message}")
            self._sleep(_LOOK_SECONDS)

    def free(self, folder: Path) -> str | None:
        """Wait for the end of an attempt that is over for Slurm, and record it. Who else trains the run, or None."""
        seen, since, requested = None, 0, False
        while self._is_over(status := read_status(folder)):
            patience = max(STILL_SECONDS, STILL_BEATS * (status.pace or 0.0)) / _LOOK_SECONDS
            if (seen is not None and since >= patience) or status.alive() is False:
                try:
                    lock = RunLock(folder, wait=0.0, over=True)
                except TakenError:
                    since = 0
                    continue
                try:
                    why = f"its task {status.scheduler.job if status.scheduler else ''} was started anew by Slurm"
                    control.end_silent(folder, f"stopped at step {status.step}: {why}")
                finally:
                    lock.release()
                break
            now = signs(folder)
            if seen is not None and now != seen and not requested:
                requested = True
                requests.request(folder, "stop")
                print(f"{folder}: an earlier start of this task still trains it; a stop is requested")
            seen, since = now, since + 1 if now == seen else 0
            self._sleep(_LOOK_SECONDS)
        return _elsewhere(folder)

    def _is_over(self, status: Status) -> bool:
        """Whether the attempt that an active status names has ended for Slurm."""
        theirs = status.scheduler
        if not status.active or theirs is None:
            return False
        if theirs.job == self._scheduler.job:
            return theirs.restarts < self._scheduler.restarts
        listed = slurm.jobs()
        return listed is not None and theirs.job not in listed.known and (status.changed or 0.0) < listed.time

    def queue_again(self, folder: Path, before: int | None) -> int:
        """After a stop by a signal: let Slurm queue the task again if it is to go on. The exit code if it is not."""
        code = 128 + (self._signals.stop or 15)
        gained = _saved(folder) != before
        try:
            state = slurm.state_of(self._scheduler.job)
            if state != "RUNNING":
                print(f"{folder}: stopped; for Slurm the task is {state or 'over'}")
                return code
            if self._scheduler.restarts and not gained:
                print(f"{folder}: not requeued: no step was gained since the last start; raise --time")
                return code
            control.hand_over(folder, self._scheduler, read_status(folder).attempt)
            slurm.requeue(self._scheduler.job)
        except LscError as error:
            control.record_exit(folder, "stopped", code, f"stopped, and not requeued: {error}")
            print(f"{folder}: stopped, and not requeued: {error}; the same submit again goes on with it")
            return code
        print(f"{folder}: requeued as {self._scheduler.job}", flush=True)
        # A step that ends by itself would end the job.
        for _ in range(round(KILL_SECONDS)):
            time.sleep(1)
        return code

    def _sleep(self, seconds: float) -> None:
        self._signals.check()
        time.sleep(seconds)


def _elsewhere(folder: Path) -> str | None:
    """Who else trains the run, as sentences for the log of a job that leaves it to them; None where nobody does."""
    held = holder(folder)
    return None if held is None else f"{held.sentence(waits=True)}. If it does not finish, submit the study again"


def _saved(folder: Path) -> int | None:
    """The step of the newest checkpoint; None without one."""
    return max((one.step for one in checkpoints.list_checkpoints(folder)), default=None)


if __name__ == "__main__":
    sys.exit(main())
