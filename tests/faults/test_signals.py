"""Real signals in every phase of a run: a checkpoint within a step, the right exit code, nothing lost on resume."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.waiting import LIMIT

from .harness import PHASES, RUN, begun, go_on, good, in_slow_phase, outcome, place, run_of, train, until

# What goes on when the signal comes, and only ends when it has been sent.
WHEN = {"data read": "d1", "data wait": "w9", "first step": "t1", "step": "t16", "evaluation": "e3", "save": "s2"}
CASES = [
    *((when, signal.SIGTERM) for when in WHEN),
    ("evaluation", signal.SIGINT),
    ("save", signal.SIGINT),
    ("step", signal.SIGHUP),
    ("data read", signal.SIGHUP),
]


@pytest.mark.parametrize(("when", "number"), CASES, ids=lambda case: getattr(case, "name", case))
def test_a_stop_in_every_phase_saves_and_the_resumed_run_is_bit_equal(
    straight: dict[str, Any], tmp_path: Path, when: str, number: signal.Signals
) -> None:
    folder = place(tmp_path / "t")
    process = train(folder, setup=PHASES, env={"FAULT_SLOW": WHEN[when]})
    in_slow_phase(folder, process)
    process.send(number)
    steps = begun(folder, "t")
    go_on(folder)
    assert process.wait() == 128 + number, process.log.read_text()
    status = run_of(folder).status()
    assert (status.state, status.exit_code) == ("stopped", 128 + number)
    assert begun(folder, "t") - steps <= 1
    if status.step:
        assert good(folder).step == status.step
        assert f"last good checkpoint step {status.step}" in status.message

    if number == signal.SIGTERM:
        assert train(folder, setup=PHASES).wait() == 0, process.log.read_text()
        assert outcome(folder) == straight


@pytest.mark.parametrize("when", ["data read", "evaluation", "save"])
def test_sigusr1_saves_and_goes_on(straight: dict[str, Any], tmp_path: Path, when: str) -> None:
    folder = place(tmp_path / "t")
    sets = ("--set", 'checkpoint.every="1000 steps"')
    process = train(folder, *sets, setup=PHASES, env={"FAULT_SLOW": WHEN[when].replace("s2", "s1")})
    # When it is "save", that is the only and last one: a wish that comes during it is answered by it.
    in_slow_phase(folder, process)
    process.send(signal.SIGUSR1)
    go_on(folder)
    assert process.wait() == 0
    saves = [line for line in process.log.read_text().splitlines() if "written and verified" in line]
    assert len(saves) == (1 if when == "save" else 2)
    same = outcome(folder)
    assert {k: v for k, v in same.items() if k != "optimizer"} == {
        k: v for k, v in straight.items() if k != "optimizer"
    }


def test_the_second_signal_leaves_at_once_with_its_number(tmp_path: Path) -> None:
    """Also while the main thread sits in a long computation that no handler can interrupt."""
    folder = place(tmp_path / "t")
    stuck = PHASES + (
        "import torch\n"
        "big = torch.ones(7000, 7000)\n"
        "def stuck(*words, **options):\n"
        "    os.write(_file, b'!')\n"
        "    big @ big @ big @ big\n"
        "    os.write(_file, b'?')\n"
        "checkpointing.save = stuck\n"
    )
    process = train(folder, setup=stuck)
    in_slow_phase(folder, process)
    process.send(signal.SIGTERM)
    time.sleep(0.4)
    assert not process.ended()
    # One that comes within BURST_SECONDS of the first is the first once more.
    until(lambda: process.ended() or process.send(signal.SIGINT), every=0.1)
    assert process.wait() == 130
    assert begun(folder, "?") == 0, "it waited for the end of the computation"
    assert run_of(folder).status().shown_state == "lost"
    assert train(folder).wait() == 0


def test_one_ctrl_c_that_comes_twice_is_one(tmp_path: Path) -> None:
    """Wrappers send on what the terminal has sent already."""
    folder = place(tmp_path / "t")
    patient = "from lsc_engine.training import signals\nsignals.BURST_SECONDS = 1000.0\n"
    process = train(folder, setup=PHASES + patient, env={"FAULT_SLOW": "t9"})
    in_slow_phase(folder, process)
    process.send(signal.SIGINT)
    time.sleep(0.02)
    process.send(signal.SIGINT)
    go_on(folder)
    assert process.wait() == 130
    assert run_of(folder).status().state == "stopped"
    assert good(folder).step == run_of(folder).status().step


@pytest.mark.parametrize("how", ["detached", "nohup"])
def test_hangup_changes_nothing_for_detached_runs_and_under_nohup(
    straight: dict[str, Any], tmp_path: Path, how: str
) -> None:
    folder = place(tmp_path / "t")
    env = {"FAULT_SLOW": "e2", **({"LSC_DETACHED": "1"} if how == "detached" else {})}
    nohup = "" if how == "detached" else "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    process = train(folder, setup=PHASES + nohup, env=env)
    in_slow_phase(folder, process)
    process.send(signal.SIGHUP)
    go_on(folder)
    assert process.wait() == 0
    assert outcome(folder) == straight


def test_a_terminal_that_is_closed_stops_an_attached_run_with_a_checkpoint(tmp_path: Path) -> None:
    """With bars drawn on that terminal; what draws there then fails, and must not end the run before it has saved."""
    folder = place(tmp_path / "t")
    master, slave = pty.openpty()
    # Opened for reading it becomes the terminal that controls the process.
    setup = PHASES + "os.open(os.ttyname(1), os.O_RDWR)\n"
    process = train(folder, setup=setup, env={"FAULT_SLOW": "t16"}, log=Path(os.ttyname(slave)))
    os.set_blocking(master, False)
    shown = b""

    def there() -> bool:
        nonlocal shown
        with contextlib.suppress(BlockingIOError):
            shown += os.read(master, 65536)
        return (begun(folder, "!") > 0 and b"loss" in shown) or process.ended()

    until(there, lambda: f"the slow phase, after {shown!r}")
    os.close(slave)
    os.close(master)
    go_on(folder)
    assert process.wait() == 129
    status = run_of(folder).status()
    assert (status.state, status.exit_code) == ("stopped", 129)
    assert good(folder).step == status.step >= 16


def test_a_reader_that_closes_the_pipe_ends_nothing(straight: dict[str, Any], tmp_path: Path) -> None:
    folder = place(tmp_path / "t")
    os.mkfifo(folder / "pipe")
    reader = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    process = train(folder, setup=PHASES, env={"FAULT_SLOW": "t16"}, log=folder / "pipe")
    in_slow_phase(folder, process)
    assert b"step 15" in os.read(reader, 65536)
    os.close(reader)
    go_on(folder)
    assert process.wait() == 0
    assert outcome(folder) == straight


def real(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """A process that has to import torch itself."""
    with open(folder / "out.txt", "wb") as log:
        return processes.start(
            "run", "t.toml", "--device", "cpu", *words, fresh=True, cwd=folder, env={"NO_COLOR": "1"},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signals_while_torch_is_being_imported_are_not_lost(tmp_path: Path, number: signal.Signals) -> None:
    folder = place(tmp_path / "t")
    process = real(folder)
    torch_is_loading = f"/proc/{process.pid}/maps"
    until(lambda: b"libtorch" in Path(torch_is_loading).read_bytes())
    process.send_signal(signal.SIGUSR1)
    process.send_signal(number)
    assert process.wait(LIMIT) == 128 + number, (folder / "out.txt").read_text()
    status = run_of(folder).status()
    # It had not begun: it waits, or was stopped before its first step.
    assert status.shown_state in ("queued", "stopped")
    assert status.step == 0


def test_signals_before_anything_is_there_end_the_command_with_their_code(tmp_path: Path) -> None:
    folder = place(tmp_path / "t")
    process = real(folder)
    until(lambda: _catches(process.pid, signal.SIGTERM))
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT) == 143
    assert not (folder / "runs" / RUN).exists() or run_of(folder).status().state == "queued"


def _catches(pid: int, number: int) -> bool:
    """Has the process a handler for the signal?"""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught >> (number - 1) & 1)
