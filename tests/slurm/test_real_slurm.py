"""`submit` and its tasks on a real Slurm: every scenario in a thread of its own, all side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lsc_engine.runs.folder.status import Status, read_status
from tests.waiting import wait_until

from .cluster import Cluster

pytestmark = pytest.mark.slow

# The loss, and no network: submitting then needs no torch.
PLUGIN = """
import time
from pathlib import Path

from lsc_engine.plugins import register


class Slow:
    def __init__(self, system):
        self.system, self.steps, self.go = system, 0, Path(__file__).with_name("go")

    def __call__(self, z, index):
        if z.requires_grad and not self.go.exists():
            self.steps += 1
            time.sleep(0.05 if self.steps < 50 else 1)
        return 1 - self.system.cosine(z, index)


register("losses", "slow", Slow)
"""
PRESET = """
[data]
dataset = "digits"
labels = "unique"
classes = 96

[model]
name = "mlp"
width = 0.05
dim = 16

[target]
method = "lsc"
system = "V21"
loss = "slow"

[train]
duration = "STEPS steps"
batch_size = 16

[eval]
every = "1000 steps"

[checkpoint]
every = "10 steps"
"""


@dataclass
class Place:
    """A folder of one scenario, with its preset and its runs."""

    cluster: Cluster
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        # The names of the nodes do not resolve.
        network = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
        return {**os.environ, **self.cluster.environment, **network, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}

    def engine(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "lsc_engine", *words],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def submit(self, *words: str, steps: int = 1000, more: str = "") -> list[dict[str, Any]]:
        """The arrays submitted for a study `p` of this many steps, the first 50 of which take 0.05 s and the others 1 s
        as long as there is no file `go`: a training is never over before a busy machine lets its scenario look."""
        before, _, after = more.partition("---")
        for name, text in (
            ("plugin.py", PLUGIN),
            ("p.toml", f"{before}{PRESET.replace('STEPS', str(steps))}{after}"),
        ):
            # Another submit may be reading it.
            if not (file := self.folder / name).exists() or file.read_text() != text:
                file.write_text(text)
        base = ["submit", "p.toml", "--plugin", "plugin.py", "--device", "cpu", "--time", "50m", "--json"]
        return list(json.loads(self.engine(*base, *words).stdout)["jobs"])

    def go(self) -> None:
        """Let what trains come to its end."""
        (self.folder / "go").touch()

    def status(self, run: str = "p/default/seed-0") -> Status:
        return read_status(self.folder / "runs" / run)

    def listed(self, run: str = "p/default/seed-0") -> dict[str, Any]:
        return next(row for row in json.loads(self.engine("list", "--json").stdout) if row["id"] == run)

    def wait(self, condition: Callable[[Status], bool], run: str = "p/default/seed-0") -> Status:
        self.until(lambda: condition(self.status(run)), lambda: self.status(run))
        return self.status(run)

    def until(self, condition: Callable[[], object], what: Callable[[], object]) -> None:
        """All scenarios are played at once, on as many processors as there are."""
        wait_until(condition, lambda: f"{what()}\n{self.logs()}", limit=800.0, every=0.2)

    def trains(self, step: int = 12, run: str = "p/default/seed-0") -> Status:
        return self.wait(lambda status: status.state == "running" and status.step >= step, run)

    def state(self, job: str) -> str:
        return self.cluster.run("squeue", "-h", "-r", "-j", job, "-o", "%T").strip()

    def ended(self, job: str) -> str:
        """How Slurm recorded the end of a job: its state, then its exit code."""

        def found() -> dict[str, str]:
            words = self.cluster.run("scontrol", "show", "job", job).split()
            return dict(word.split("=", 1) for word in words if "=" in word)

        self.until(lambda: found()["JobState"] not in ("PENDING", "RUNNING", "COMPLETING"), found)
        return f"{found()['JobState']} {found()['ExitCode']}"

    def start_again(self, job: str) -> None:
        """A job that was requeued would wait for two minutes; it gets all the time that there is."""
        self.until(lambda: self.state(job) == "PENDING", lambda: f"{job} {self.state(job)}")
        self.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now", "TimeLimit=50")

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("runs/.slurm/p/*.out")))

    def attempts(self, run: str = "p/default/seed-0") -> list[int]:
        """The attempt of every line of the metrics, in the order they were written."""
        lines = (self.folder / "runs" / run / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["attempt"] for line in lines]


def array_trains_each_run_once(place: Place) -> None:
    more = "seeds = [0, 1, 2]\n---"
    place.go()

    def submit(*words: str) -> list[dict[str, Any]]:
        return place.submit("--at-once", "2", "--sbatch", "--exclude=n[3-14]", *words, steps=20, more=more)

    assert [array["job"] for array in submit("--dry-run")] == [None, None]
    assert not (place.folder / "runs").exists()
    # Of two submits at once one finds what Slurm has of the other.
    with ThreadPoolExecutor(2) as pool:
        nothing, arrays = sorted(pool.map(lambda _: submit(), range(2)), key=len)
    # The arrays of this cluster have at most two tasks.
    first, second = arrays
    assert nothing == submit() == []
    for seed, job in enumerate((f"{first['job']}_0", f"{first['job']}_1", f"{second['job']}_0")):
        run = f"p/default/seed-{seed}"
        assert place.wait(lambda status: status.state == "finished", run).attempt == 1
        assert place.ended(job) == "COMPLETED 0:0"
    assert submit() == []
    # No charts.
    assert max(map(ord, place.logs())) < 128


def preempted_run_goes_on(place: Place) -> None:
    (array,) = place.submit("--sbatch", "--nodelist=n3")
    job = f"{array['job']}_0"
    place.trains()
    place.cluster.run("sbatch", "-p", "high", "-w", "n3", "-N", "1", "-n", "4", "-o", "/dev/null", "--wrap", "sleep 1")
    place.wait(lambda status: status.state == "queued")
    place.start_again(job)
    row = place.listed()
    assert (row["scheduler"]["kind"], row["scheduler"]["job"]) == ("slurm", job)
    saved = place.status().step
    status = place.wait(lambda status: status.attempt == 2 and status.state == "running" and status.step > saved)
    assert status.scheduler is not None
    assert status.scheduler.restarts == 1
    place.engine("stop", "p/default/seed-0")
    assert place.ended(job) == "COMPLETED 0:0"


def time_limit_is_no_end(place: Place) -> None:
    (array,) = place.submit("--sbatch", "--signal=TERM@90", "--sbatch", "--nodelist=n4")
    job = f"{array['job']}_0"
    place.trains()
    # However long the start took, the limit is near now.
    minutes = place.cluster.run("squeue", "-h", "-r", "-j", job, "-o", "%M").strip().split(":")[-2]
    place.cluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={int(minutes) + 2}")
    place.wait(lambda status: status.state == "queued")
    place.start_again(job)
    place.wait(lambda status: status.attempt == 2 and status.state == "running")
    place.cluster.run("scancel", job)


def cancelled_job_stays_cancelled(place: Place) -> None:
    (array,) = place.submit("--sbatch", "--nodelist=n5")
    job = f"{array['job']}_0"
    place.trains()
    place.cluster.run("scancel", job)
    assert place.wait(lambda status: status.state == "stopped").exit_code == 143
    assert place.ended(job).startswith("CANCELLED")
    assert "requeued" not in place.logs()
    # The same command goes on with it.
    (array,) = place.submit("--sbatch", "--nodelist=n5", "--sbatch", "--hold")
    assert place.listed()["state"] == "queued"


def crashed_node_is_taken_over(place: Place) -> None:
    """As often as LSC_NODE_CRASHES says, in one run."""
    crashes, where = int(os.environ.get("LSC_NODE_CRASHES", "1")), "--exclude=n[1-6,9-14]"
    (array,) = place.submit("--sbatch", where, "--sbatch", "--hold", steps=100 * (crashes + 1))
    job = f"{array['job']}_0"
    place.cluster.run("scontrol", "release", array["job"])
    for number in range(1, crashes + 1):
        place.wait(lambda status, n=number: status.state == "running" and status.attempt == n)
        place.trains(place.status().step + 12)
        node = place.cluster.run("squeue", "-h", "-r", "-j", job, "-o", "%N").strip()
        place.cluster.crash(node)
        place.start_again(job)
        place.wait(lambda status, n=number: status.attempt == n + 1)
        place.cluster.up(node)
    place.go()
    status = place.wait(lambda status: status.state == "finished")
    assert (status.attempt, status.scheduler and status.scheduler.restarts) == (crashes + 1, crashes)
    assert place.ended(job) == "COMPLETED 0:0"
    assert place.attempts() == sorted(place.attempts())


def cut_node_leaves_one_writer(place: Place) -> None:
    (array,) = place.submit("--sbatch", "--exclude=n[1-8,11-14]")
    job = f"{array['job']}_0"
    place.trains()
    node = place.cluster.run("squeue", "-h", "-r", "-j", job, "-o", "%N").strip()
    place.cluster.cut(node)
    place.start_again(job)
    place.wait(lambda status: status.attempt == 2 and status.state == "running")
    place.engine("stop", "p/default/seed-0")
    assert place.ended(job) == "COMPLETED 0:0"
    assert place.attempts() == sorted(place.attempts())
    assert "a stop is requested" in place.logs()


def stages_of_tune_and_needs(place: Place) -> None:
    more = """---
[tune]
"optimizer.lr" = [1e-4, 1e-2]
duration = "8 steps"
by = "train/loss"

[[variants]]
name = "first"

[[variants]]
name = "second"
start_from = "@first"
optimizer.lr = 1e-3
"""
    place.go()
    arrays = place.submit("--sbatch", "--exclude=n[3-14]", steps=12, more=more)
    names = [array["stage"] for array in arrays]
    assert (names[0], *names[-2:]) == ("tries", "runs", "needs")
    for variant in ("first", "second"):
        place.wait(lambda status: status.state == "finished", f"p/{variant}/seed-0")
    assert place.status("p/second/seed-0").started > (place.status("p/first/seed-0").heartbeat or 0)


def waiting_run_is_seen_and_left_to_slurm(place: Place) -> None:
    (array,) = place.submit("--sbatch", "--hold")
    job = f"{array['job']}_0"
    row = place.listed()
    assert (row["state"], row["message"]) == ("queued", f"Slurm {job}: JobHeldUser")
    assert row["scheduler"]["state"] == "PENDING"
    for words in (["resume", row["id"]], ["run", "p.toml"]):
        refused = place.engine(*words, "--plugin", "plugin.py", code=2)
        assert f"waits in Slurm as {job}" in refused.stderr
    place.engine("stop", row["id"])
    assert place.state(job) == ""
    assert place.listed()["state"] == "stopped"
    (array,) = place.submit("--sbatch", "--hold", more="seeds = [0, 1]\n---")
    place.engine("stop", "p")
    assert place.state(array["job"]) == ""
    assert [place.listed(f"p/default/seed-{seed}")["state"] for seed in (0, 1)] == ["stopped", "stopped"]


def users_stop_is_no_failure(place: Place) -> None:
    (array,) = place.submit("--sbatch", "--nodelist=n6")
    place.trains()
    place.engine("stop", "p/default/seed-0")
    assert place.wait(lambda status: status.state == "stopped").message.startswith("stopped on request")
    assert place.ended(f"{array['job']}_0") == "COMPLETED 0:0"
    assert "stopped on request" in place.logs()


def two_nodes_train_one_run_and_one_goes_on(place: Place) -> None:
    (array,) = place.submit("--nodes-per-run", "2", "--sbatch", "--nodelist=n11,n12")
    assert "#SBATCH --ntasks=2" in array["text"]
    place.trains()
    place.engine("stop", "p/default/seed-0")
    place.wait(lambda status: status.state == "stopped")
    assert place.ended(f"{array['job']}_0") == "COMPLETED 0:0"
    step = place.status().step
    (array,) = place.submit("--sbatch", "--nodelist=n11")
    assert "#SBATCH --ntasks=1" in array["text"]
    place.trains(step + 5)
    place.engine("stop", "p/default/seed-0")
    assert place.ended(f"{array['job']}_0") == "COMPLETED 0:0"
    assert place.attempts() == sorted(place.attempts())


def two_nodes_are_preempted_together(place: Place) -> None:
    (array,) = place.submit("--nodes-per-run", "2", "--sbatch", "--nodelist=n[13-14]")
    job = f"{array['job']}_0"
    place.trains()
    place.cluster.run("sbatch", "-p", "high", "-w", "n14", "-N", "1", "-n", "4", "-o", "/dev/null", "--wrap", "sleep 1")
    place.wait(lambda status: status.state == "queued")
    place.until(lambda: place.state(job) == "PENDING", lambda: place.state(job))
    place.engine("stop", "p/default/seed-0")
    place.until(lambda: place.state(job) == "", lambda: place.state(job))


def stop_now_from_another_host(place: Place) -> None:
    (array,) = place.submit("--sbatch", "--nodelist=n6")
    place.trains()
    place.engine("stop", "p/default/seed-0", "--now")
    assert place.status().state == "stopped"
    assert place.ended(f"{array['job']}_0").startswith("CANCELLED")


SCENARIOS = [
    array_trains_each_run_once, preempted_run_goes_on, time_limit_is_no_end, cancelled_job_stays_cancelled,
    crashed_node_is_taken_over, cut_node_leaves_one_writer, stages_of_tune_and_needs,
    waiting_run_is_seen_and_left_to_slurm, users_stop_is_no_failure, stop_now_from_another_host,
    two_nodes_train_one_run_and_one_goes_on, two_nodes_are_preempted_together,
]  # fmt: skip


@pytest.fixture(scope="session")
def played(
    cluster: Cluster, request: pytest.FixtureRequest, tmp_path_factory: Any
) -> Iterator[dict[str, Future[None]]]:
    """All chosen scenarios, begun at once."""
    chosen = {
        item.callspec.params["scenario"]
        for item in request.session.items
        if hasattr(item, "callspec") and "scenario" in item.callspec.params
    }
    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        yield {
            play.__name__: pool.submit(play, Place(cluster, tmp_path_factory.mktemp(play.__name__)))
            for play in SCENARIOS
            if play.__name__ in chosen
        }


@pytest.mark.parametrize("scenario", [play.__name__ for play in SCENARIOS])
def test_scenario(played: dict[str, Future[None]], scenario: str) -> None:
    played[scenario].result()
