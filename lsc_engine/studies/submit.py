"""A study as jobs of Slurm: an array of tasks for each stage, each of which begins when the one before has ended.

tries, tries-needs, …   of [tune]
runs                    that need no other; after [tune] each task chooses its own settings
needs, needs-2, …       that need runs of the stages before

runs/.slurm/<study>/<stage>.sbatch   as submitted
                    tasks.txt        line i + 1: the run of task i, and the runs it needs; lines are only added. A later
                    array of a stage counts its tasks from another line, which its script names
                    jobs.json        the jobs submitted, with the run of each task
                    preset.toml      from which tasks choose settings after [tune]"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from lsc_engine import __version__
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.ids import suggested_name
from lsc_engine.common.safe_io import UnreadableError, read_bytes, read_json, replace_file, replace_json
from lsc_engine.common.userpaths import home, user_path
from lsc_engine.runs.folder import layout, slurm
from lsc_engine.runs.folder.process import python_command
from lsc_engine.runs.folder.status import read_status
from lsc_engine.studies import control
from lsc_engine.studies.checks import ExecutionOptions
from lsc_engine.studies.plan import RunPlan, StudyPlan
from lsc_engine.studies.prepare import StudyRun, begin_study, first_actions, one_at_a_time

TUNED = "preset.toml"
_TASKS, _JOBS = "tasks.txt", "jobs.json"
_MAX_SITE = 1 << 16
_AMOUNT = re.compile(r"(?=.)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?")
_SLURM_TIME = re.compile(r"\d+|\d+-\d+(:\d+){0,2}|\d+(:\d+){1,2}")
# Options of sbatch that decide which run a task trains and with how many processes; what to give instead.
_OWN = {
    **dict.fromkeys(("--array", "-a"), "--at-once limits the tasks that train together"),
    **dict.fromkeys(("--dependency", "-d"), "each stage waits for the one before"),
    **dict.fromkeys(("--nodes", "-N"), "use --nodes-per-run"),
    **dict.fromkeys(("--ntasks", "-n", "--ntasks-per-node"), "use --gpus-per-run"),
    **dict.fromkeys(("--time", "-t"), "use --time"),
    **dict.fromkeys(("--partition", "-p"), "use --partition"),
}
IN_SLURM = "Slurm has it as"
NO_SLURM = (
    "Slurm is not here: sbatch is not found. lsc-engine run trains on this machine; submit --dry-run shows what would "
    "be submitted"
)


@dataclass(frozen=True)
class Resources:
    """What every run gets, and how many of a stage are trained at once. `extra`: further options of sbatch."""

    time: str | None = None
    partition: str | None = None
    gpus_per_run: int = 1
    nodes_per_run: int = 1
    at_once: int = 16
    extra: tuple[str, ...] = ()

    def lines(self, device: str) -> list[str]:
        """Options of sbatch for the size of a run: a task for each GPU, none for `--device cpu`."""
        per_node, nodes = self.gpus_per_run, self.nodes_per_run
        size = [f"--nodes={nodes}", f"--ntasks={per_node * nodes}", f"--ntasks-per-node={per_node}"]
        return size if device == "cpu" else [*size, "--gpus-per-task=1"]

    def chosen(self) -> list[str]:
        """Options of sbatch that come from the command line. UsageError for what is none."""
        wrong = [option for option in self.extra if not option.startswith("-") or "\n" in option]
        problems = [f'--sbatch: "{option}" is no option; write --sbatch "--account=x"' for option in wrong]
        names = {option: re.split("[= ]", option)[0] if option[1:2] == "-" else option[:2] for option in self.extra}
        problems += [
            f'--sbatch: "{one}" is not for sbatch here: {_OWN[name]}' for one, name in names.items() if name in _OWN
        ]
        if problems:
            raise UsageError(*problems)
        found = [f"--time={_slurm_time(self.time)}"] if self.time else []
        return [*found, *([f"--partition={self.partition}"] if self.partition else []), *self.extra]


@dataclass(frozen=True)
class Stage:
    """An array: run ids by task, the text of its script, the stages it waits for, and its job once submitted. A stage
    with more tasks than Slurm takes in an array has several, one after another: "runs", "runs.2", …"""

    name: str
    tasks: Mapping[int, str]
    text: str
    after: tuple[str, ...]
    job: str = ""


@dataclass(frozen=True)
class Submission:
    """The arrays of a study, and why runs are in none of them, by id."""

    folder: Path
    stages: tuple[Stage, ...]
    left: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def documents(self) -> list[dict[str, Any]]:
        """The arrays for JSON."""
        return [
            {
                **{"stage": one.name, "job": one.job or None, "script": str(self.folder / f"{one.name}.sbatch")},
                **{"text": one.text, "after": list(one.after)},
                "tasks": [
                    {"job": f"{one.job}_{task}" if one.job else None, "task": task, "run": run}
                    for task, run in one.tasks.items()
                ],
            }
            for one in self.stages
        ]


def study_folder(root: Path, study: str) -> Path:
    """Where the jobs of a study are kept."""
    return layout.inside(root, f".slurm/{layout.check_name(study, 'study')}")


def submit(plan: StudyPlan, options: ExecutionOptions, resources: Resources, source: Mapping[str, Any]) -> Submission:
    """Create the runs of a study and submit what Slurm does not have yet. LscError without Slurm."""
    if not slurm.installed():
        raise LscError(NO_SLURM)
    resources.chosen(), _site_lines()
    folder = study_folder(options.runs_dir, plan.study)
    with one_at_a_time(folder):
        if (jobs := slurm.query()) is None:
            raise LscError("squeue does not answer, so what is submitted already is unknown; nothing was submitted")
        begin_study(plan, options.runs_dir, source)
        todo = arrays(plan, options, resources, jobs)
        replace_file(folder / TUNED, plan.to_toml().encode())
        replace_file(folder / _TASKS, "".join(f"{line}\n" for line in todo.lines).encode())
        earlier = _submitted(folder)
        numbers, done = list[str](), list[Stage]()
        for stage in todo.stages:
            waits = [
                job["job"]
                for job in earlier
                if job["stage"].partition(".")[0] in stage.after and (job["job"] in numbers or _has(job, jobs))
            ]
            script = folder / f"{stage.name}.sbatch"
            paths = {task: layout.run_folder(options.runs_dir, run) for task, run in stage.tasks.items()}
            attempts = {task: read_status(path).attempt for task, path in paths.items()}
            replace_file(script, stage.text.encode())
            try:
                numbers.append(number := slurm.submit(script, waits))
            except LscError as error:
                before = f"; submitted before: {', '.join(numbers)}" if numbers else ""
                raise LscError(f"{script.name} was refused: {error}{before}") from None
            earlier.append({"stage": stage.name, "job": number, "tasks": {str(i): r for i, r in stage.tasks.items()}})
            replace_json(folder / _JOBS, {"jobs": earlier})
            for task, path in paths.items():
                if path.is_dir():
                    control.hand_over(path, slurm.Scheduler(f"{number}_{task}"), attempts[task])
            done.append(Stage(stage.name, stage.tasks, stage.text, stage.after, number))
    return Submission(folder, tuple(done), todo.left, todo.lines)


def arrays(plan: StudyPlan, options: ExecutionOptions, resources: Resources, jobs: slurm.Jobs | None) -> Submission:
    """What there is to submit; creates nothing."""
    folder = study_folder(options.runs_dir, plan.study)
    lines: list[str] = []
    with contextlib.suppress(UnreadableError):
        lines = read_bytes(folder / _TASKS, 1 << 26).decode().split("\n")[:-1]
    place = {line.split()[0]: number for number, line in enumerate(lines)}
    known = {
        run: slurm.Scheduler(f"{job['job']}_{task}")
        for job in _submitted(folder)
        for task, run in job["tasks"].items()
        if jobs is not None and f"{job['job']}_{task}" in jobs.known
    }
    left: dict[str, str] = {}
    stages, before, size = list[Stage](), list[str](), slurm.max_array_size()
    begun = {run.id: run for run in first_actions(plan, options.runs_dir)}
    for name, runs in _stages(plan):
        tasks: dict[int, str] = {}
        for run in runs:
            why = _why_not(run, begun.get(run.id), known.get(run.id), jobs, options.runs_dir)
            if why is not None:
                left[run.id] = why
                continue
            if run.id not in place:
                place[run.id] = len(lines)
                lines.append(" ".join([run.id, *run.needs]))
            tasks[place[run.id]] = run.id
        tuned = plan.tune is not None and runs[0].id not in begun
        for part, first in enumerate(sorted({number // size * size for number in tasks})):
            own = {number - first: run for number, run in tasks.items() if number // size * size == first}
            label, after = (f"{name}.{part + 1}", (*before, name)) if part else (name, tuple(before))
            text = _script(plan.study, label, own, first, folder, options, resources, tuned=tuned)
            stages.append(Stage(label, own, text, after))
        before.append(name)
    return Submission(folder, tuple(stages), left, tuple(lines))


def _why_not(
    run: RunPlan, begun: StudyRun | None, job: slurm.Scheduler | None, jobs: slurm.Jobs | None, root: Path
) -> str | None:
    """Why a run is not submitted, as a clause; None if it is. `begun` is None for what [tune] decides."""
    status = read_status(layout.run_folder(root, run.id))
    job = job or (status.scheduler if jobs and status.scheduler and status.scheduler.job in jobs.known else None)
    if job is not None and jobs is not None:
        return f"{IN_SLURM} {str(jobs.known[job.job]).removeprefix('Slurm ')}"
    if begun is None:
        # With another of the values that [tune] chose, a run of the same seed may not have ended.
        study, variant, seed = layout.split_id(run.id)
        ended = (read_status(folder).state for folder in (root / study).glob(f"{variant}+*/seed-{seed}"))
        return "is done" if {status.state, *ended} <= {"finished", "diverged"} else None
    if begun.moved_from is not None and begun.action != "done":
        return f"its images have moved; lsc-engine resume {run.id} --set data.path=DIR goes on with it"
    return {"done": "is done", "busy": "another process trains it"}.get(begun.action)


def _stages(plan: StudyPlan) -> Iterator[tuple[str, list[RunPlan]]]:
    """Names and runs of the stages, in their order."""
    groups = [("runs", "needs", plan.runs)]
    if plan.tune is not None:
        groups.insert(0, ("tries", "tries-needs", plan.tune.runs))
    for first, later, runs in groups:
        depth: dict[str, int] = {}
        for run in runs:
            depth[run.id] = 1 + max((depth.get(need, -1) for need in run.needs), default=-1)
        for level in range(max(depth.values(), default=-1) + 1):
            name = first if not level else later if level == 1 else f"{later}-{level}"
            yield name, [run for run in runs if depth[run.id] == level]


def _script(
    study: str,
    stage: str,
    tasks: Mapping[int, str],
    first: int,
    folder: Path,
    options: ExecutionOptions,
    resources: Resources,
    *,
    tuned: bool,
) -> str:
    job = f"{suggested_name(study.replace('/', '.'))}.{stage}"
    rows = groupby(enumerate(sorted(tasks)), lambda pair: pair[1] - pair[0])
    spans = [[number for _, number in row] for _, row in rows]
    numbers = ",".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)
    head = [f"--job-name={job}", f"--array={numbers}%{resources.at_once}"]
    head += resources.lines(options.device)
    # No "B:": the signal is for the processes of srun. A task that is requeued goes on in the same log.
    head += ["--signal=TERM@120", "--requeue", "--open-mode=append"]
    head += [f"--output={shlex.quote(str(folder.absolute() / '%A_%a.out'))}"]
    site = _site_lines()
    words = replace(options, runs_dir=options.runs_dir.absolute()).words()
    words += ["--tuned"] if tuned else []
    command = shlex.join(python_command("-m", "lsc_engine.studies.task"))
    return "\n".join(
        [
            "#!/bin/sh",
            *(f"#SBATCH {option}" for option in head),
            *(line for line in site if line.startswith("#SBATCH")),
            *(f"#SBATCH {option}" for option in resources.chosen()),
            "",
            *(line for line in site if not line.startswith(("#SBATCH", "#!"))),
            "# srun does not take this from sbatch by itself.",
            '[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"',
            f'task=$(sed -n "$((SLURM_ARRAY_TASK_ID + {first + 1}))p" {shlex.quote(str(folder.absolute() / _TASKS))})',
            f"exec srun --kill-on-bad-exit=1 {command} $task {shlex.join(words)}",
            "",
        ]
    )


def _site_lines() -> list[str]:
    """The lines of the site (account, modules, environment): of $LSC_SLURM, else of ~/.config/lsc/slurm.sh."""
    given, base = os.environ.get("LSC_SLURM"), home()
    path = user_path(given) if given else None if base is None else base / ".config" / "lsc" / "slurm.sh"
    if path is None or not (given or path.is_file()):
        return []
    try:
        return read_bytes(path, _MAX_SITE).decode("utf-8", "replace").splitlines()
    except UnreadableError as error:
        raise UsageError(f"{f'LSC_SLURM={given}' if given else path}: {error}") from None


def _slurm_time(text: str) -> str:
    """A time limit as Slurm reads it: "4h" or "1d12h" in minutes, Slurm's own forms as they are."""
    match = _AMOUNT.fullmatch(text.replace(" ", ""))
    if (match is None and not _SLURM_TIME.fullmatch(text)) or not re.search("[1-9]", text):
        raise UsageError(f'--time: "{text}" is not a time. Write 4h, 90m or 1d12h, or as Slurm does 4:00:00')
    if match is None:
        return text
    days, hours, minutes = (int(group or 0) for group in match.groups())
    return str((days * 24 + hours) * 60 + minutes)


def _submitted(folder: Path) -> list[dict[str, Any]]:
    """The jobs submitted before: stage, job, and run ids by task."""
    with contextlib.suppress(UnreadableError):
        return list(read_json(folder / _JOBS).get("jobs", []))
    return []


def _has(job: Mapping[str, Any], jobs: slurm.Jobs) -> bool:
    return any(f"{job['job']}_{task}" in jobs.known for task in job["tasks"])


def waiting_arrays(root: Path, study: str) -> list[str]:
    """The arrays of a study that were submitted and have tasks that Slurm has not ended."""
    submitted = _submitted(study_folder(root, study))
    jobs = slurm.query() if submitted else None
    return [job["job"] for job in submitted if jobs is not None and _has(job, jobs)]


def skypilot(plan: StudyPlan, options: ExecutionOptions, resources: Resources, *, dry_run: bool) -> tuple[str, Path]:
    """The YAML of a job of SkyPilot that trains the study on a spot machine, and its file, which is written unless
    `dry_run`. The runs folder lies in a bucket, so that a machine that is given back costs only the time since the last
    checkpoint."""
    job = suggested_name(plan.study.replace("/", "."))
    folder = options.runs_dir / ".launch"
    preset, file = folder / f"{job}.toml", folder / f"{job}.sky.yaml"
    words = ["lsc-engine", "run", "/lsc/preset.toml", "--name", plan.study, "--runs-dir", "/lsc/runs", "--wait"]
    gpus = resources.gpus_per_run
    words += ["--gpus", "auto"] if options.device != "cpu" else ["--device", "cpu"]
    words += ["--gpus-per-run", str(gpus)] if gpus > 1 else []
    plugins = {f"/lsc/plugin-{number}.py": file.absolute() for number, file in enumerate(options.plugins)}
    words += [word for place in plugins for word in ("--plugin", place)]
    lines = [
        f"name: {job.lower()}",
        "resources:",
        *([f"  accelerators: A100:{gpus}"] if options.device != "cpu" else ["  cpus: 4+"]),
        "  use_spot: true",
        "file_mounts:",
        f"  /lsc/preset.toml: {preset.absolute()}",
        *(f"  {place}: {file}" for place, file in plugins.items()),
        "  /lsc/runs:",
        "    name: my-lsc-runs  # a bucket; every run folder lies in it",
        "    mode: MOUNT",
        "setup: |",
        f"  pip install lsc=={__version__}",
        "run: |",
        f"  {shlex.join(words)}",
    ]
    text = "\n".join(lines) + "\n"
    if not dry_run:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(preset, plan.to_toml().encode())
        replace_file(file, text.encode())
    return text, file
