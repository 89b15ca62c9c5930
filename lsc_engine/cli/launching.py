"""From a planned study to trained runs: what `run`, `resume` and `fork` share.

Nothing is created before everything that can be wrong has been looked at. torch is imported only by the process that
trains; `--detach` starts that process and returns.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsc_engine.analysis.compare import Tried
from lsc_engine.analysis.tuning import choose, growth, last_value, values_text
from lsc_engine.cli.output import emit_json, results, say
from lsc_engine.config import RunConfig, RunPlan, StudyPlan, TunePlan, derive, missing_data
from lsc_engine.config.checks import ARGUMENTS
from lsc_engine.config.datasets import class_names
from lsc_engine.config.notes import data_notes, known_shortfall
from lsc_engine.errors import LscError, UsageError
from lsc_engine.runs.files import UnreadableError
from lsc_engine.runs.folder.classes import changed_classes, other_classes, read_classes
from lsc_engine.runs.folder.layout import launch_log
from lsc_engine.runs.folder.lock import Holder, holder
from lsc_engine.runs.folder.process import process_start, this_process
from lsc_engine.runs.folder.provenance import describe_source
from lsc_engine.runs.read.run import moved_from, open_run
from lsc_engine.studies.control import dequeue, enqueue
from lsc_engine.studies.detach import tell_begun
from lsc_engine.studies.fork import create_fork, fork_config, moved_config
from lsc_engine.studies.prepare import StudyRun, begin_study, create_study, look_at_study
from lsc_engine.studies.prerequisites import held_runs, missing_runs

if TYPE_CHECKING:
    from lsc_engine.runs.read.run import Run
    from lsc_engine.studies.runner import Job
    from lsc_engine.training.signals import Signals

_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Place:
    """Where a study trains: runs folder, data folder, device or GPUs, and the user's plugin files; and whether it waits
    for what other processes train."""

    runs_dir: Path
    data_dir: Path | None
    device: str
    gpus: str | None
    plugins: tuple[Path, ...] = ()
    wait: bool = False

    def arguments(self) -> list[str]:
        """The same place as arguments of a worker; its device is the scheduler's affair."""
        data = ["--data-dir", str(self.data_dir)] if self.data_dir else []
        return data + [part for file in self.plugins for part in ("--plugin", str(file))]


def run_preset(plan: StudyPlan, place: Place, *, detach: bool, as_json: bool) -> None:
    """Train what is left of a study, tries of [tune] first, then tell its curves and table. Exits with its code."""
    for warning in plan.warnings:
        say(f"note: {warning}")
    if plan.preset.kind != "train":
        from lsc_engine.cli.report import report_without_training

        return report_without_training(plan, place.runs_dir, place.data_dir, as_json=as_json)
    check_data((run.config for run in plan.runs), place)
    check_runs([*plan.runs, *(plan.tune.runs if plan.tune else ())], place)
    looked = look_at_study(plan.tune or plan, place.runs_dir)
    check_models((run.config for run in looked if run.action == "new"), place)
    check_classes(((run.config, run.folder) for run in looked if _begun(run)), place)
    check_classes(((run.config, run.like) for run in looked if run.action == "new" and run.like is not None), place)
    for run in looked:
        if run.action == "done" and run.moved_from is not None:
            say(f"note: {run.id} was trained on the images in {run.moved_from}; what it has is told as it is")
    check_place(place, importing=not detach)
    say_notes((run.config for run in plan.runs), place)
    runs = begin_study(plan, place.runs_dir, describe_source(sys.argv))
    if detach:
        return _detach(place, plan.study, runs, as_json)
    tune = plan.tune
    while tune is not None:
        code, _ = train(runs, place, for_all=True)
        open_tries = unended_tries(tune, place.runs_dir)
        for sentence in open_tries:
            say(f"no rate is chosen while a try has not ended: {sentence}")
        if code >= 128 or open_tries:
            if as_json:
                with results():
                    tries = tries_document(tune, place.runs_dir)
                    emit_json({"study": plan.study, "runs": [], "comparison": None, "tries": tries})
            sys.exit(code or 1)
        grown = plan.grown(more_tries(plan, tune, place.runs_dir))
        if grown.tune is None or len(grown.tune.tries) == len(tune.tries):
            break
        plan, tune = grown, grown.tune
        runs = begin_study(plan, place.runs_dir, describe_source(sys.argv))
    if tune is not None:
        plan = plan.tuned(best_tries(tune, place.runs_dir))
        runs = create_study(plan, place.runs_dir, describe_source(sys.argv))
    code, _ = train(runs, place)
    with results():
        tell_study(plan, place, as_json=as_json, tune=tune)
    sys.exit(code)


def _begun(run: StudyRun) -> bool:
    return run.action == "resume" and bool(open_run(run.folder).checkpoints())


def resume_run(ref: str, sets: Sequence[str], place: Place, *, detach: bool, as_json: bool) -> None:
    """Continue one run, with its images at another place where `sets` say so; a finished one is told as it is. Exits
    with its code; UsageError where another process does."""
    run = open_run(ref, [place.runs_dir])
    place = replace(place, runs_dir=run.root or place.runs_dir)
    status = run.status()
    config = moved_config(run, sets)
    if status.state == "finished":
        say(f"{run.id} is finished, at step {status.step}; fork it to train it further")
        return _tell_run(run, as_json)
    if not place.wait and (held := holder(run.path)) is not None:
        raise UsageError(f"{run.id}: {held.sentence()}")
    check_data([config], place, f"if it lies elsewhere now: lsc-engine resume {run.id} --set data.path=DIR")
    begun = bool(run.checkpoints())
    if begun:
        check_classes([(config, run.path)], place)
    check_runs([RunPlan(run.id, config)], place, begun=begun)
    check_place(place, importing=not detach)
    say_notes([config], place)
    moved = moved_from(run.path, config.data.path)
    this = StudyRun(run.id, run.path, config, (), "resume", status, moved)
    if detach:
        return _detach(place, run.study, [this], as_json)
    _train_one(this, place, as_json)


def fork_run(
    ref: str, sets: Sequence[str], at: int | None, name: str | None, place: Place, *, detach: bool, as_json: bool
) -> None:
    """A new run beside `ref`, from its checkpoint, with changed settings. Exits with its code."""
    parent = open_run(ref, [place.runs_dir])
    config = fork_config(parent, sets, name)
    check_data([config], place)
    check_classes([(config, parent.path)], place)
    check_runs([RunPlan(config.run_id, config)], place, begun=True)
    check_models([config], place)
    check_place(place, importing=not detach)
    if moved_from(parent.path, config.data.path) is not None:
        from lsc_engine.training.run_images import check_moved

        check_moved(parent.path, config, place.data_dir, say)
    total = derive(config, place.data_dir).total_steps
    folder = create_fork(parent, config, at, total, place.runs_dir, describe_source(sys.argv))
    this = StudyRun(config.run_id, folder, config, (), "resume")
    if detach:
        words = ["resume", config.run_id, "--runs-dir", str(place.runs_dir), "--device", place.device]
        return _detach(place, config.study, [this], as_json, [*words, *place.arguments()])
    _train_one(this, place, as_json)


def _train_one(run: StudyRun, place: Place, as_json: bool) -> None:
    code, _ = train([run], place)
    _tell_run(open_run(run.folder, [place.runs_dir]), as_json)
    sys.exit(code)


def _tell_run(run: Run, as_json: bool) -> None:
    if as_json:
        from lsc_engine.cli.look import summary
        from lsc_engine.runs.read.run import list_runs, short_ids

        known = list_runs([run.root]) if run.root else []
        with results():
            emit_json(summary(run, run.status(), short_ids([*known, run])[run.id]))


def check_place(place: Place, *, importing: bool) -> None:
    """UsageError for a runs folder that is a file, and for a device or GPUs that are not there. Without `importing`
    torch, only what is said of the device is looked at."""
    if place.runs_dir.exists() and not place.runs_dir.is_dir():
        raise UsageError(f"--runs-dir: {place.runs_dir} is a file, not a folder")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", place.device):
        raise UsageError(f'--device: "{place.device}" is not a device. Allowed: auto, cpu, cuda, cuda:0, cuda:1, …')
    if importing and place.gpus is not None:
        from lsc_engine.studies.gpus import gpu_slots

        gpu_slots(place.gpus)
    elif importing and place.device not in ("auto", "cpu"):
        from lsc_engine.training.devices import pick_device

        pick_device(place.device)


def check_data(configs: Iterable[RunConfig], place: Place, hint: str = "") -> None:
    """UsageError, with what to put where, if the images of a run are not found; also if no step count follows. `hint`:
    what else may be done where a folder of images is gone."""
    configs = list(configs)
    missing = {sentence for config in configs for sentence in missing_data(config, place.data_dir)}
    if missing:
        moved = any(config.data.path is not None for config in configs)
        raise UsageError(*sorted(missing), *([hint] if hint and moved else []))
    short = {known_shortfall(config.data, place.data_dir) for config in _by_data(configs)} - {None}
    if short:
        raise UsageError(*sorted(map(str, short)))
    for config in configs:
        derive(config, place.data_dir)


def check_classes(begun: Iterable[tuple[RunConfig, Path]], place: Place) -> None:
    """UsageError for a run folder whose checkpoints were trained on other classes than its images have now."""
    faults = []
    for config, folder in begun:
        try:
            known = read_classes(folder)
        except UnreadableError:
            continue
        data = config.data
        now = class_names(data.dataset, place.data_dir, data.path)
        changed = changed_classes(known, now, data.classes) if known and now and data.labels == "class" else None
        if changed:
            faults.append(other_classes(folder, data.path or data.dataset, changed))
    if faults:
        raise UsageError(*faults)


def say_notes(configs: Iterable[RunConfig], place: Place) -> None:
    """Say what the folders of the data sets hold and training does not use."""
    notes = [note for config in _by_data(configs) for note in data_notes(config.data, place.data_dir)]
    for note in dict.fromkeys(notes):
        say(f"note: {note}")


def _by_data(configs: Iterable[RunConfig]) -> list[RunConfig]:
    """One configuration of each that have the same [data]."""
    return list({repr(config.data): config for config in configs}.values())


def check_models(configs: Iterable[RunConfig], place: Place) -> None:
    """UsageError for a backbone that cannot be built: what timm or a plugin has and takes only it knows, so those
    are built as shapes. That imports torch, which other backbones do not need here."""
    asked = {}
    for config in configs:
        if ARGUMENTS.get(config.model.name) is None:
            d = derive(config, place.data_dir)
            asked[(repr(config.model), repr(config.target), d.channels, d.image_size, d.n, d.classes)] = (config, d)
    if not asked:
        return
    from lsc_engine.heads.model_sizes import model_sizes

    faults: list[str] = []
    for config, d in asked.values():
        try:
            model_sizes(config, channels=d.channels, size=d.image_size, dim=d.n, classes=d.classes)
        except UsageError as error:
            faults += error.faults
    if faults:
        raise UsageError(*dict.fromkeys(faults))


def check_runs(runs: Iterable[RunPlan], place: Place, *, begun: bool = False) -> None:
    """UsageError, with the command that makes it, for what is wanted of other runs and is not there. With `place.wait`
    those that are trained now are waited for."""
    runs = list(runs)
    planned, told = {run.id for run in runs}, set[str]()
    while place.wait and (held := held_runs((run.config for run in runs), planned, place.runs_dir)):
        for name in held.keys() - told:
            say(f"{name}: {held[name].sentence(waits=True)}; waiting for it")
            told.add(name)
        time.sleep(_WAIT_SECONDS)
    missing = missing_runs((run.config for run in runs), planned, place.runs_dir, begun=begun)
    if missing:
        raise UsageError(*missing)


def train(runs: Sequence[StudyRun], place: Place, *, for_all: bool = False) -> tuple[int, dict[str, str]]:
    """Train the runs that are not done, here or on `place.gpus`: exit code, and the state of each run reached.

    `for_all`: wait for every run that another process is at work on; else for those that are needed, and with
    `place.wait` for all.
    """
    done = [run for run in runs if run.action == "done"]
    todo = [run for run in runs if run.action != "done"]
    if done:
        say(f"{len(done)} of {len(runs)} runs are done already")
    if not todo:
        return _code_of(run.status.state for run in done if run.status), {}
    if not place.wait and not for_all and (held := _all_held(todo)):
        for name, who in held.items():
            say(f"{name}: {who.sentence()}")
        return 1, {}
    try:
        for run in todo:
            if run.action != "busy":
                enqueue(run.folder, _attempts(run), this_process())
        states, code = _trained(todo, done, place, for_all)
    except (KeyboardInterrupt, SystemExit):
        _leave(todo)
        raise
    _leave(run for run in todo if states.get(run.id, "elsewhere") == "elsewhere")
    return code, states


def _all_held(runs: Sequence[StudyRun]) -> dict[str, Holder]:
    """Who trains each run, by id, if other processes train all of them; torch is not needed to say so."""
    found: dict[str, Holder] = {}
    for run in runs:
        held = holder(run.folder) if run.action == "busy" else None
        if held is None:
            return {}
        found[run.id] = held
    return found


def _leave(runs: Iterable[StudyRun]) -> None:
    """Runs that still wait go on waiting, for whoever goes on with the study; not for this process, which ends."""
    for run in runs:
        dequeue(run.folder)


def _attempts(run: StudyRun) -> int:
    return run.status.attempt if run.status is not None else 0


def _trained(todo: list[StudyRun], done: list[StudyRun], place: Place, for_all: bool) -> tuple[dict[str, str], int]:
    """The state of each run reached, and the exit code."""
    from lsc_engine.training.signals import Signals

    with Signals() as signals:
        from lsc_engine.runs.folder.status import ELSEWHERE
        from lsc_engine.studies.runner import Job, exit_code

        def place_of(run: StudyRun) -> str | None:
            return None if run.moved_from is None else run.config.data.path or ""

        jobs = [Job(run.id, run.folder, run.needs, place_of(run), run.like, _attempts(run)) for run in todo]
        if place.gpus is not None:
            states = _spread(jobs, place, signals, for_all)
        else:
            states = _in_turn(jobs, {run.id: run.config for run in todo}, place, signals, for_all)
        earlier = [run.status.state for run in done if run.status is not None and signals.stop is None]
        code = exit_code([*states.values(), *earlier], signals)
        # Where nothing failed but what was asked for, the code says so.
        told = [job for job in jobs if states.get(job.id) == "failed"]
        failed = {open_run(job.folder).status().exit_code if job.folder.is_dir() else 1 for job in told}
        return states, (2 if code == 1 and failed == {2} and ELSEWHERE not in states.values() else code)


def _in_turn(
    jobs: list[Job], configs: dict[str, RunConfig], place: Place, signals: Signals, for_all: bool
) -> dict[str, str]:
    from lsc_engine.cli.progress import Lines, display
    from lsc_engine.runs.folder.status import ELSEWHERE
    from lsc_engine.studies.runner import Waiting, run_in_turn
    from lsc_engine.training.devices import pick_device
    from lsc_engine.training.execute import execute

    device = pick_device(place.device)
    tell_begun()
    with display() as shown:
        echo = isinstance(shown, Lines)

        def run(job: Job) -> str:
            shown.begin(job.id)
            try:
                state = execute(
                    job.folder, configs[job.id], runs_dir=place.runs_dir, device=device, data_dir=place.data_dir,
                    signals=signals, echo=echo, display=shown, like=job.like,
                )  # fmt: skip
            except LscError as error:
                # Its folder cannot be written; the other runs go on.
                shown.end(job.id, "failed", str(error))
                return "failed"
            if state != ELSEWHERE:
                shown.end(job.id, state, open_run(job.folder).status().message)
            return state

        def untrained(job: Job, state: str, why: str) -> None:
            message = open_run(job.folder).status().message
            shown.note(f"{job.id}: {why if state == ELSEWHERE else f'{state}: {message}' if message else state}")

        waiting = Waiting(for_all, place.wait, shown.note)
        return run_in_turn(jobs, run, signals, place.runs_dir, untrained, waiting)


def _spread(jobs: list[Job], place: Place, signals: Signals, for_all: bool) -> dict[str, str]:
    from lsc_engine.cli.progress import display
    from lsc_engine.cli.watching import Watch
    from lsc_engine.studies.gpus import gpu_slots
    from lsc_engine.studies.runner import Waiting, run_spread

    assert place.gpus is not None
    slots = gpu_slots(place.gpus)
    tell_begun()
    with display() as shown:
        waiting = Waiting(for_all, place.wait, shown.note)
        return run_spread(jobs, slots, place.arguments(), signals, place.runs_dir, Watch(shown), waiting)


def _code_of(states: Iterable[str]) -> int:
    found = set(states)
    return 1 if "failed" in found else 3 if "diverged" in found else 0


def tried_of(tune: TunePlan, runs_dir: Path) -> dict[str, list[Tried]]:
    """The tries of every variant with their runs as they are."""
    found: dict[str, list[Tried]] = {}
    for attempt in tune.tries:
        found.setdefault(attempt.variant, []).append(Tried(attempt.values, open_run(attempt.run.id, [runs_dir])))
    return found


def more_tries(plan: StudyPlan, tune: TunePlan, runs_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Variant -> every point beyond the preset's grid that its grid has grown to, and grows to now: where the best
    value lies at the edge, it grows by a step, at most twice each way, as far as the setting allows."""
    extra: dict[str, list[dict[str, Any]]] = {}
    for variant, tries in tried_of(tune, runs_dir).items():
        grown = [dict(one.values) for one in tries if any(v not in tune.grid[key] for key, v in one.values.items())]
        more = []
        for point in growth(tries, tune.purposes[variant], tune.grid):
            edge = f"{variant}: the best value lies at the edge of the grid"
            try:
                plan.grown({variant: [point]})
            except UsageError as error:
                say(f"{edge}, which cannot grow to {values_text(point)}: {error.faults[0]}")
                continue
            say(f"{edge}, which grows to {values_text(point)}")
            more.append(point)
        if grown or more:
            extra[variant] = [*grown, *more]
    return extra


def best_tries(tune: TunePlan, runs_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """Per variant the best of the tried values for each thing that it is judged by, each once; a try that did not
    finish does not count."""
    found: dict[str, list[dict[str, Any]]] = {}
    for variant, tries in tried_of(tune, runs_dir).items():
        for one in tries:
            if (state := one.run.status().state) != "finished":
                say(f"{one.run.id}: {state}, not a candidate")
        for purpose, best in choose(tries, tune.purposes[variant]).items():
            edge = ", at the edge of the grid" if best.edge else ""
            say(f"{variant}: {values_text(best.values)} is the best of its grid by {purpose}{edge}")
            chosen = found.setdefault(variant, [])
            if best.values not in chosen:
                chosen.append(dict(best.values))
    without = {attempt.variant for attempt in tune.tries} - set(found)
    if without:
        raise UsageError(f"[tune]: no try of {', '.join(sorted(without))} finished, so there is no best one")
    return found


def unended_tries(tune: TunePlan, runs_dir: Path) -> list[str]:
    """A sentence for each try of which no result can be expected to be the last: it runs, waits or was stopped."""
    found = []
    for attempt in tune.tries:
        run = open_run(attempt.run.id, [runs_dir])
        state = run.status().shown_state
        if (held := holder(run.path)) is not None:
            found.append(f"{run.id}: {held.sentence()}")
        elif state not in ("finished", "failed", "diverged"):
            found.append(f"{run.id} is {state}; the same command goes on with it")
    return found


def _detach(place: Place, study: str, runs: Sequence[StudyRun], as_json: bool, words: list[str] | None = None) -> None:
    """Start the same command in a session of its own; `words` where another command goes on with the work. Returns once
    it has begun to train; LscError with its last words where it ended before."""
    from lsc_engine.runs.folder.process import python_command
    from lsc_engine.studies.detach import launch

    if words is None:
        words = [word for word in sys.argv[1:] if word not in ("--detach", "--json")]
    log = launch_log(place.runs_dir, study)

    def started(pid: int) -> None:
        who = replace(this_process(), pid=pid, pid_start=process_start(pid) or 0.0)
        for run in runs:
            if run.action != "done":
                enqueue(run.folder, _attempts(run), who)

    first = launch(python_command("-m", "lsc_engine", *words), log, started)
    if first.code:
        how = f"ended at once with exit code {first.code}" if first.code > 0 else f"was killed by signal {-first.code}"
        told = f"the detached process {how}: {first.last or 'it printed nothing'}. Its log: {log}"
        raise UsageError(told) if first.code == 2 else LscError(told)
    ids = [run.id for run in runs]
    if as_json:
        emit_json({"study": study, "pid": first.pid, "log": str(log), "runs": ids})
        return
    if first.code == 0:
        print(f"{study}: nothing is left to train, {log} has its table")
        return
    print(f"{study}: {len(ids)} runs, pid {first.pid}; it goes on when this terminal is closed")
    print(f"  lsc-engine list   lsc-engine log {ids[0]} --follow   lsc-engine stop {ids[0]}")


def tries_document(tune: TunePlan, runs_dir: Path) -> list[dict[str, Any]]:
    """The tries of [tune] for JSON: run, variant, the values tried, its state, and the last value of what each of its
    purposes is about, with the step at which each level was reached."""
    found = []
    for attempt in tune.tries:
        run = open_run(attempt.run.id, [runs_dir])
        purposes = tune.purposes[attempt.variant]
        results = [{"by": str(purpose), "value": last_value(run, purpose.metric)} for purpose in purposes]
        about = {"id": run.id, "variant": attempt.variant, "values": dict(attempt.values)}
        found.append({**about, "state": run.status().shown_state, **results[0], "results": results})
    return found


def tell_study(plan: StudyPlan, place: Place, *, as_json: bool, tune: TunePlan | None = None) -> None:
    """The curves of a study and its table, or one JSON document, with the tries where there were any."""
    from lsc_engine.cli.results import study_document, study_text

    # A folder that was removed while its run was trained has nothing to tell.
    runs = [open_run(run.id, [place.runs_dir]) for run in plan.runs if (place.runs_dir / run.id).is_dir()]
    if not runs:
        return
    named = plan.preset.compare.baseline
    baseline = named if named in {run.variant for run in runs} else None
    levels = {name: list(values) for name, values in plan.preset.compare.levels.items()}
    if as_json:
        tries = {"tries": tries_document(tune, place.runs_dir)} if tune is not None else {}
        emit_json({**study_document(plan.study, runs, baseline, levels), **tries})
    else:
        print(study_text(plan.preset.title, runs, baseline, levels))
