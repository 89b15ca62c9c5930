"""Submitting, requeueing and the states of jobs, against programs that stand in for Slurm's."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lsc_engine.analysis.compare import compare
from lsc_engine.cli.results import study_text
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.runs.folder import slurm
from lsc_engine.runs.folder.process import this_process
from lsc_engine.runs.folder.status import Status, read_status, write_status
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.runs.read.run import Run, open_run
from lsc_engine.studies import control, submit
from lsc_engine.studies.checks import ExecutionOptions, check_not_waiting
from lsc_engine.studies.gpus import gpu_slots
from lsc_engine.studies.plan import plan_study
from lsc_engine.studies.prepare import begin_study
from lsc_engine.studies.task import Task
from lsc_engine.training.signals import Signals
from tests import processes
from tests.tiny import tiny
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

PRESET = tiny(
    {
        "seeds": [0, 1],
        "data.classes": 96,
        "optimizer.lr": 0.001,
        "train.duration": "2 steps",
        "variants": [{"name": "first"}, {"name": "second", "start_from": "@first"}],
    }
)
TUNE = """
[tune]
"optimizer.lr" = [1e-4, 1e-3]
duration = "1 steps"
by = "train/loss"
"""
RUN = "p/first/seed-0"


@pytest.fixture(autouse=True)
def _no_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty folder of programs, no site file, and no job around the tests."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    slurm.forget()
    yield
    slurm.forget()


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Callable[[], list[str]]]:
    """Makes a program that prints `text` and ends with `code`; returns its calls so far."""

    def make(name: str, text: str = "", code: int = 0) -> Callable[[], list[str]]:
        file, calls = tmp_path / "bin" / name, tmp_path / f"{name}.calls"
        stream = ">&2" if code else ""
        file.write_text(f'#!/bin/sh\necho "$*" >>{calls}\nprintf "%s\\n" {shlex.quote(text)} {stream}\nexit {code}\n')
        file.chmod(0o755)
        return lambda: calls.read_text().splitlines() if calls.exists() else []

    return make


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The runs folder of a study that has begun."""
    (tmp_path / "p.toml").write_text(PRESET)
    begin_study(plan_study(tmp_path / "p.toml"), tmp_path / "runs", {})
    return tmp_path / "runs"


def as_task(monkeypatch: pytest.MonkeyPatch, restarts: int = 0) -> slurm.Scheduler:
    values = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0", "SLURM_RESTART_COUNT": str(restarts)}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    job = slurm.this_task()
    assert job == slurm.Scheduler("7_0", restarts)
    return job


REQUEUED = ("queued", 143, ["requeue 7_0"])


@pytest.mark.parametrize(
    ("state", "restarts", "gained", "scontrol", "expected", "sentence"),
    [
        ("RUNNING", 0, True, 0, REQUEUED, "requeued as 7_0"),
        # The first start may be preempted before its first step.
        ("RUNNING", 0, False, 0, REQUEUED, "requeued as 7_0"),
        ("RUNNING", 3, True, 0, REQUEUED, "requeued as 7_0"),
        ("RUNNING", 3, False, 0, ("stopped", 143, []), "no step was gained"),
        # scancel, and Slurm's own requeue.
        ("COMPLETING", 0, True, 0, ("stopped", 143, []), "for Slurm the task is COMPLETING"),
        ("", 0, True, 0, ("stopped", 143, []), "for Slurm the task is over"),
        ("RUNNING", 0, True, 1, ("stopped", 143, ["requeue 7_0"]), "not requeued: scontrol: Access denied"),
        ("RUNNING", 0, True, None, ("stopped", 143, []), "not requeued: scontrol cannot be started here"),
        (None, 0, True, 0, ("stopped", 143, []), "not requeued: squeue cannot be started here"),
    ],
)
def test_when_a_task_is_requeued(
    state: str | None, restarts: int, gained: bool, scontrol: int | None, expected: tuple[str, int, list[str]],
    sentence: str, study: Path, program: Callable[..., Callable[[], list[str]]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    job, folder = as_task(monkeypatch, restarts), study / RUN
    monkeypatch.setattr("lsc_engine.studies.task.KILL_SECONDS", 0)
    if state is not None:
        program("squeue", state)
    calls = program("scontrol", "Access denied" if scontrol else "", scontrol) if scontrol is not None else list
    write_status(folder, Status(state="stopped", exit_code=143, attempt=1, message="stopped at step 5"))
    task = Task(argparse.Namespace(run=RUN, needs=[], runs_dir=study), job, Signals())
    code = task.queue_again(folder, None if not gained else -1)
    assert (read_status(folder).state, code, calls()) == expected
    assert sentence in capsys.readouterr().out
    if expected == REQUEUED:
        assert read_status(folder).scheduler == job


def test_a_failed_need_ends_the_task_with_a_sentence(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control.record_exit(study / RUN, "failed", 1, "broken")
    needs = argparse.Namespace(run="p/second/seed-0", needs=[RUN], runs_dir=study, tuned=False)
    with pytest.raises(LscError, match="p/second/seed-0 needs p/first/seed-0, which is failed; submit the study again"):
        Task(needs, as_task(monkeypatch), Signals()).train()
    assert read_status(study / "p/second/seed-0").state == "failed"


def run_task(processes: int, runs: Path, run: str, *words: str) -> list[tuple[int, str]]:
    """The exit code and output of every process of a task, which srun would start."""
    argv = [sys.executable, "-P", "-m", "lsc_engine.studies.task", run, "--runs-dir", runs, "--device", "cpu", *words]
    # Below the ports that outgoing connections take by themselves.
    port = 20_000 + os.getpid() % 10_000
    step = {
        "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_TASKS": f"{processes}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}",
        "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    environments = [{**os.environ, **step, "SLURM_PROCID": f"{n}", "SLURM_LOCALID": f"{n}"} for n in range(processes)]
    started = [
        subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for environment in environments
    ]
    outputs = [started[0].communicate()[0]]
    for process in started[1:]:
        if started[0].returncode:
            process.kill()
        outputs.append(process.communicate()[0])
    return [(process.returncode, output) for process, output in zip(started, outputs, strict=True)]


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_trained_elsewhere_ends_a_task_with_0_and_a_sentence(
    processes: int, study: Path, program: Callable[..., Callable[[], list[str]]]
) -> None:
    program("squeue")
    writer = RunWriter.open(study / RUN, device="cpu", total_steps=9, echo=False)
    try:
        (code, output), *others = run_task(processes, study, RUN)
    finally:
        writer.close()
    assert code == 0, output
    assert output.startswith(f"{study / RUN}: pid {os.getpid()} on ")
    assert "trains it: starting at step 0 of 9" in output
    assert output.endswith(" ago. If it does not finish, submit the study again\n")
    assert others == [(0, "")] * (processes - 1)
    assert read_status(study / RUN).attempt == 1


@pytest.mark.slow
def test_a_grid_grows_on_two_processes_as_on_one_host(
    tmp_path: Path, program: Callable[..., Callable[[], list[str]]]
) -> None:
    changes = {"train.parts": 2, "train.deterministic": True, "train.duration": "2 steps", "data.classes": 96}
    tune = TUNE.replace("1e-4, 1e-3", "1e-6, 1e-5").replace("1 steps", "8 steps")
    (tmp_path / "p.toml").write_text(tiny(changes) + tune)
    host = processes.call("run", "p.toml", "--runs-dir", "host", "--device", "cpu", cwd=tmp_path, code=0)
    program("squeue")
    program("sbatch", "41")
    runs, plan = tmp_path / "runs", plan_study(tmp_path / "p.toml")
    submit.submit(plan, ExecutionOptions(runs), submit.Resources(gpus_per_run=2), {})
    assert plan.tune is not None
    for attempt in plan.tune.runs:
        shutil.rmtree(runs / attempt.id)
        shutil.copytree(tmp_path / "host" / attempt.id, runs / attempt.id)
    (code, output), other = run_task(2, runs, "p/default/seed-0", "--tuned")
    assert (code, other[0]) == (0, 0), output + other[1]
    grown = [line for line in output.splitlines() if "which grows to lr = " in line]
    assert len(grown) == 2
    assert all(line in host.stderr for line in grown)

    def weights(root: Path) -> dict[str, bytes]:
        return {str(file.relative_to(root)): file.read_bytes() for file in root.glob("p*/**/model.safetensors")}

    assert weights(runs) == weights(tmp_path / "host")
    assert len({name.split("/")[1] for name in weights(runs) if name.startswith("p.tune/")}) == 4
    chosen = open_run(runs / "p/default/seed-0").config["optimizer"]["lr"]
    assert chosen == open_run(tmp_path / "host/p/default/seed-0").config["optimizer"]["lr"]


def test_without_an_answer_of_squeue_no_run_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit.slurm, "installed", lambda: True)
    monkeypatch.setattr(submit.slurm, "query", lambda: None)
    with pytest.raises(LscError, match="squeue does not answer"):
        submit.submit(plan_study("demo"), ExecutionOptions(tmp_path / "runs"), submit.Resources(), {})
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".slurm"]


@pytest.mark.parametrize(
    ("tune", "named", "runs", "arrays"),
    [
        # The arrays have tasks of other variants too.
        ("", "p/first", ["p/first/seed-0", "p/first/seed-1"], []),
        ("", "p", ["p/first/seed-0", "p/first/seed-1", "p/second/seed-0", "p/second/seed-1"], ["41", "41"]),
        # The runs that are trained after the tries have no folders yet.
        (
            TUNE,
            "p",
            [f"p.tune/{name}+lr=0.00{lr}/seed-9" for lr in ("1", "01") for name in ("first", "second")],
            ["41"] * 4,
        ),
    ],
    ids=["variant", "study", "tune"],
)
def test_stopping_a_study_cancels_what_waits_of_it(
    tune: str, named: str, runs: list[str], arrays: list[str],
    tmp_path: Path, program: Callable[..., Callable[[], list[str]]],
) -> None:  # fmt: skip
    (tmp_path / "p.toml").write_text(PRESET + tune)
    root, waiting = tmp_path / "runs", "".join(f"41_{task}|PENDING|Priority||N/A\n" for task in range(8))
    program("squeue")
    program("sbatch", "41")
    submit.submit(plan_study(tmp_path / "p.toml"), ExecutionOptions(root), submit.Resources(), {})
    program("squeue", waiting)
    cancelled = program("scancel")
    argv = [sys.executable, "-m", "lsc_engine", "stop", named, "--runs-dir", str(root), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, calls = json.loads(done.stdout), cancelled()
    assert sorted(found["asked"]) == sorted(runs)
    assert found["cancelled"] == arrays
    assert calls[: bool(arrays)] == ([f"--state=PENDING {' '.join(arrays)}"] if arrays else [])
    assert len(calls) == len(runs) + bool(arrays)
    assert {read_status(root / run).state for run in runs} == {"stopped"}


@pytest.mark.parametrize("here", [False, True])
def test_stop_now_cancels_a_job_and_records_what_it_did_not(
    here: bool, study: Path, program: Callable[..., Callable[[], list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "REMOTE_SECONDS", 0.0)
    who = asdict(this_process()) if here else {"host": "n7", "pid": 5, "boot_id": "other"}
    write_status(study / RUN, Status(state="running", attempt=1, scheduler=slurm.Scheduler("9_0"), **who))
    program("sbatch")
    program("squeue", "COMPLETING")
    cancelled = program("scancel")
    with pytest.raises(LscError, match="job 9_0 is cancelled, but still COMPLETING"):
        control.kill(study / RUN)
    assert read_status(study / RUN).state == "running"
    program("squeue")
    ended = control.kill(study / RUN)
    assert (ended.state, ended.exit_code, ended.message) == ("stopped", 137, "stopped on request: killed")
    assert cancelled() == ["9_0", "9_0"]


@pytest.mark.slow
def test_processes_that_do_not_meet_end_with_a_sentence(study: Path) -> None:
    port = 20_000 + os.getpid() % 10_000
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("", port))
        taken.listen()
        (code, output), _ = run_task(2, study, RUN)
    assert code == 1
    assert f"the 2 processes of this task do not meet at port {port} of 127.0.0.1: " in output
    status = read_status(study / RUN)
    assert (status.state, status.exit_code) == ("failed", 1)
    assert "Submit again, or export MASTER_PORT" in status.message


def test_listed_with_the_reason_or_the_node_of_its_job(
    study: Path, program: Callable[..., Callable[[], list[str]]]
) -> None:
    program("squeue", "9_0|RUNNING|None|n7|now\n9_1|PENDING|Priority||N/A")
    for task, state in enumerate(("running", "queued")):
        status = Status(
            state=state, host="n7", pid=5, boot_id="other", attempt=1, scheduler=slurm.Scheduler(f"9_{task}", 2)
        )
        write_status(study / f"p/first/seed-{task}", status)
    listed = json.loads(processes.call("list", "--json", "--runs-dir", study, code=0).stdout)
    found = {row["id"]: row["scheduler"] for row in listed}
    about = {"kind": "slurm", "restarts": 2}
    assert found[RUN] == {**about, "job": "9_0", "state": "RUNNING", "reason": "", "node": "n7"}
    assert found["p/first/seed-1"] == {**about, "job": "9_1", "state": "PENDING", "reason": "Priority", "node": ""}
    assert found["p/second/seed-0"] is None


def test_without_slurm_nothing_is_created_and_a_dry_run_works(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(PRESET)

    def command(*more: str) -> subprocess.CompletedProcess[str]:
        return processes.call("submit", "p.toml", *more, cwd=tmp_path)

    before = sorted(tmp_path.iterdir())
    refused = command()
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", submit.NO_SLURM + "\n")
    shown = command("--dry-run", "--time", "1d12h", "--sbatch", "--account=x")
    assert shown.returncode == 0, shown.stderr
    for text in ("# runs.sbatch\n", "# needs.sbatch, after runs\n", "#SBATCH --time=2160\n", "#SBATCH --account=x\n"):
        assert text in shown.stdout
    wrong = command("--time", "4 hors")
    assert wrong.returncode == 1
    wrong = command("--to", "skypilot", "--partition", "x")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("--to skypilot: --partition is for Slurm")
    assert sorted(tmp_path.iterdir()) == before


SCRIPT = """#!/bin/sh
#SBATCH --job-name=p.STAGE
#SBATCH --array=TASKS%4
#SBATCH --nodes=2
#SBATCH --ntasks=4
#SBATCH --ntasks-per-node=2
#SBATCH --gpus-per-task=1
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=FOLDER/%A_%a.out
#SBATCH --account=site
#SBATCH --time=240
#SBATCH --partition=gpu
#SBATCH --qos=long

module load cuda
# srun does not take this from sbatch by itself.
[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
task=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" FOLDER/tasks.txt)
exec srun --kill-on-bad-exit=1 PYTHON -P -m lsc_engine.studies.task $task --runs-dir RUNS --device autoMORE
"""


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"time": "4 hors"}, '--time: "4 hors" is not a time. Write 4h, 90m or 1d12h'),
        ({"time": "0h"}, '--time: "0h" is not a time.'),
        ({"extra": ("account=x",)}, '--sbatch: "account=x" is no option; write --sbatch "--account=x"'),
        ({"extra": ("--array=0-5",)}, '--sbatch: "--array=0-5" is not for sbatch here: --at-once limits the tasks'),
        ({"extra": ("-N2",)}, '--sbatch: "-N2" is not for sbatch here: use --nodes-per-run'),
        ({"extra": ("--ntasks 4",)}, '--sbatch: "--ntasks 4" is not for sbatch here: use --gpus-per-run'),
    ],
)
def test_options_that_no_job_can_have(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence)):
        submit.Resources(**given).chosen()


def test_scripts_and_tasks_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.toml").write_text(PRESET + TUNE)
    (tmp_path / "site.sh").write_text("#!/bin/bash\n#SBATCH --account=site\nmodule load cuda\n")
    monkeypatch.setenv("LSC_SLURM", str(tmp_path / "site.sh"))
    options = ExecutionOptions(tmp_path / "runs")
    chosen = submit.Resources("4h", "gpu", 2, 2, 4, ("--qos=long",))
    found = submit.arrays(plan_study(tmp_path / "p.toml"), options, chosen, None)
    assert [(stage.name, stage.after) for stage in found.stages] == [
        ("tries", ()),
        ("tries-needs", ("tries",)),
        ("runs", ("tries", "tries-needs")),
        ("needs", ("tries", "tries-needs", "runs")),
    ]
    for stage, array, more in zip(found.stages, ("0-1", "2-3", "4-5", "6-7"), ("", "", *[" --tuned"] * 2), strict=True):
        text = SCRIPT.replace("STAGE", stage.name).replace("TASKS", array).replace("MORE", more)
        for name, value in (("FOLDER", found.folder), ("RUNS", tmp_path / "runs"), ("PYTHON", sys.executable)):
            text = text.replace(name, str(value))
        assert stage.text == text
    assert found.lines[4:] == (
        "p/first/seed-0",
        "p/first/seed-1",
        "p/second/seed-0 p/first/seed-0",
        "p/second/seed-1 p/first/seed-1",
    )
    assert not (tmp_path / "runs").exists()


def test_a_stage_larger_than_slurms_arrays_has_several(
    study: Path, program: Callable[..., Callable[[], list[str]]]
) -> None:
    program("squeue")
    program("scontrol", "Configuration data\nMaxArraySize            = 3")
    sbatch = program("sbatch", "41")
    plan = plan_study(study.parent / "p.toml")
    done = submit.submit(plan, ExecutionOptions(study), submit.Resources(), {})
    # Four lines of tasks.txt in arrays of at most three tasks, whose numbers begin at 0.
    assert [(stage.name, sorted(stage.tasks), stage.after) for stage in done.stages] == [
        ("runs", [0, 1], ()),
        ("needs", [2], ("runs",)),
        ("needs.2", [0], ("runs", "needs")),
    ]
    assert "SLURM_ARRAY_TASK_ID + 1))p" in done.stages[1].text
    assert "SLURM_ARRAY_TASK_ID + 4))p" in done.stages[2].text
    assert sbatch()[2] == f"--parsable --dependency=afterany:41:41 {done.folder / 'needs.2.sbatch'}"
    assert done.lines[3].startswith(done.stages[2].tasks[0])
    assert read_status(study / done.stages[2].tasks[0]).scheduler == slurm.Scheduler("41_0")


def test_submitting_records_jobs_and_submits_nothing_twice(
    study: Path, program: Callable[..., Callable[[], list[str]]]
) -> None:
    plan, options = plan_study(study.parent / "p.toml"), ExecutionOptions(study)
    program("squeue")
    sbatch = program("sbatch", "41;here")
    done = submit.submit(plan, options, submit.Resources(), {})
    scripts = [str(done.folder / f"{name}.sbatch") for name in ("runs", "needs")]
    assert sbatch() == [f"--parsable {scripts[0]}", f"--parsable --dependency=afterany:41 {scripts[1]}"]
    assert read_status(study / RUN).scheduler == slurm.Scheduler("41_0")
    waiting = "".join(f"41_{task}|PENDING|Priority||N/A\n" for task in range(4))
    queries = program("squeue", waiting)
    slurm.forget()
    again = submit.submit(plan, options, submit.Resources(), {})
    assert again.stages == ()
    assert again.left[RUN] == "Slurm has it as 41_0: Priority"
    assert len(sbatch()) == 2
    # Seen by all, and left alone by what trains here.
    run = open_run(study / RUN, [study])
    seen = run.scheduled_status()
    assert (seen.shown_state, seen.news) == ("queued", "Slurm 41_0: Priority")
    with pytest.raises(UsageError, match="p/first/seed-0 waits in Slurm as 41_0: Priority; lsc-engine stop cancels"):
        check_not_waiting([run.path])
    run.scheduled_status()
    assert sum("-j" not in call for call in queries()) == 3, "once for each submit, and once for all looks"
    cancelled = program("scancel")
    control.stop(run.path, seen)
    assert cancelled() == ["41_0"]
    assert read_status(run.path).message == "stopped on request while it waited in Slurm"
    # One task alone keeps its number.
    program("squeue", "")
    slurm.forget()
    (study / RUN / "status.json").unlink()
    write_status(study / RUN, Status(state="finished"))
    last = submit.submit(plan, options, submit.Resources(), {})
    assert [sorted(stage.tasks) for stage in last.stages] == [[1], [2, 3]]


def test_what_slurm_does_not_know_is_lost_and_its_silence_changes_nothing(
    study: Path, program: Callable[..., Callable[[], list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, job = study / RUN, slurm.Scheduler("9_0")
    calls = program("squeue", "8_1|RUNNING|None|n1|now")
    assert Run(folder, RUN, study).scheduled_status().shown_state == "queued"
    assert calls() == [], "no run has a job"
    dead = Status(
        state="running", host="n7", pid=5, boot_id="other", step=4, step_seconds=0.1, attempt=1, scheduler=job
    )
    write_status(folder, dead)
    os.utime(folder / "status.json", (1e9, 1e9))
    run = Run(folder, RUN, study)
    seen = run.scheduled_status()
    assert (seen.shown_state, seen.news) == ("lost", "Slurm no longer has job 9_0, which left no exit record")
    # One that writes is not lost: its job may be of another cluster.
    write_status(folder, dead)
    assert run.scheduled_status().shown_state != "lost"
    os.utime(folder / "status.json", (1e9, 1e9))
    program("squeue", "Unable to contact slurm controller", 1)
    slurm.forget()
    assert run.scheduled_status().shown_state == "stalled"
    program("squeue", "9_0|RUNNING|None|n7|now\n9_1|PENDING|(Resources)||now")
    slurm.forget()
    assert run.scheduled_status().scheduler == slurm.Scheduler("9_0", state="RUNNING", node="n7")


def test_an_attempt_that_is_over_for_slurm_is_taken_over(
    study: Path, program: Callable[..., Callable[[], list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = study / RUN
    as_task(monkeypatch)
    writer = RunWriter.open(folder, device="cpu", total_steps=9, echo=False)
    writer.status(state="running", step=3)
    writer.close()
    held = read_status(folder)
    assert held.scheduler == slurm.Scheduler("7_0")
    # As another host sees it: the process cannot be looked for, and its last sign of life is new.
    write_status(folder, replace(held, host="n7", boot_id="other", machine="m"))
    monkeypatch.setattr("lsc_engine.studies.task.STILL_SECONDS", 1.0)
    task = Task(argparse.Namespace(run=RUN, needs=[], runs_dir=study), as_task(monkeypatch, 1), Signals())
    assert task.free(folder) is None
    now = read_status(folder)
    assert (now.state, now.message) == ("stopped", "stopped at step 3: its task 7_0 was started anew by Slurm")


@pytest.mark.parametrize("launcher", [True, False])
def test_a_repeated_sigterm_of_slurm_does_not_leave_at_once(launcher: bool) -> None:
    code = (
        "import sys, time\nfrom lsc_engine.training.signals import Signals\n"
        "with Signals() as signals:\n    print('ready', flush=True)\n    sys.stdin.readline()\n    time.sleep(0.5)\n"
        "    print(signals.stop)\n"
    )
    environment = {**os.environ, **({"SLURM_JOB_ID": "1"} if launcher else {})}
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    if launcher:
        for _ in range(3):
            child.send_signal(signal.SIGTERM)
            signal.sigtimedwait([], 0.3)
    else:
        # Signals that come before the process takes the first are one to it.
        wait_until(lambda: child.poll() is not None or child.send_signal(signal.SIGTERM), every=0.1)
    out, _ = child.communicate("go\n")
    assert (child.returncode, out) == ((0, "15\n") if launcher else (143, ""))


def test_a_study_on_a_spot_cloud(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(PRESET)
    (tmp_path / "own.py").write_text("")
    words = ("submit", "p.toml", "--to", "skypilot", "--json", "--plugin", "own.py")
    done = processes.call(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["command"] == "sky jobs launch runs/.launch/p.sky.yaml"
    text = (tmp_path / document["file"]).read_text()
    assert text == document["yaml"]
    assert (
        "lsc-engine run /lsc/preset.toml --name p --runs-dir /lsc/runs --wait --gpus auto --plugin /lsc/plugin-0.py\n"
        in text
    )
    assert f"  /lsc/plugin-0.py: {tmp_path / 'own.py'}\n" in text
    assert plan_study(tmp_path / "runs/.launch/p.toml", name="p").runs


def test_outputs_in_the_log_of_a_job_have_no_curves(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = RunWriter.open(study / RUN, device="cpu", total_steps=9, echo=False)
    for step in range(1, 9):
        writer.metrics(step, step / 9, 0.0, {"train/loss": 1 / step})
    writer.finish("finished", 0)
    found = compare([open_run(study / RUN)])
    assert "train/loss" in study_text("p", found)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    table = study_text("p", found)
    assert "first" in table
    assert len(table.splitlines()) < 8


@pytest.mark.parametrize(
    ("visible", "found"),
    [(None, "0 1 2"), ("1", "1"), ("GPU-c,0", "2 0"), ("", ""), ("7", ""), ("2,-1,0", "2"), ("NoDevFiles", "")],
)
def test_only_gpus_that_slurm_gave_are_used(visible: str | None, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = SimpleNamespace(
        NVMLError=OSError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 3,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=["GPU-a", "GPU-b", "GPU-c"].__getitem__,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=0),
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [],
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if not found:
        with pytest.raises(UsageError, match="none of the 0 GPUs is free"):
            gpu_slots("auto")
    else:
        assert [slot.label.removeprefix("GPU ") for slot in gpu_slots("auto")] == found.split()


def test_threads_are_those_that_slurm_gave() -> None:
    code = "import torch; torch.set_num_threads(7); from lsc_engine.training import devices; print(devices.THREADS)"
    for given, threads in (({"SLURM_CPUS_PER_TASK": "3"}, "3"), ({}, "7")):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **given}, capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == threads, done.stderr
