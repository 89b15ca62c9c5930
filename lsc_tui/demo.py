"""Example runs that travel with the program: recordings of real training, one of them played again as if it ran now.

python -m lsc_tui.demo record RUNS_DIR STUDY…     makes the archive anew from finished runs
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from lsc_engine.runs import control
from lsc_engine.runs.layout import LOG, METRICS, PRESET, SOURCE, STATUS
from lsc_engine.runs.rows import parse_line
from lsc_engine.runs.run import list_runs
from lsc_engine.runs.status import Status, read_status, write_status
from lsc_engine.runs.writer import RunWriter

ARCHIVE = Path(__file__).parent / "demo_runs.tar.xz"
# The run that is played again, and the share of it that is there at once.
PLAYED = "PLAYED"
START_SHARE = 0.35
_KEPT = (PRESET, SOURCE, STATUS, METRICS, LOG)
_ANONYMOUS = {"host": "demo", "owner": "demo", "pid": None, "pid_start": 0.0, "boot_id": "", "machine": "",
              "pid_namespace": ""}  # fmt: skip


def demo_folder(*, play: bool = True) -> Path | None:
    """A fresh temporary copy of the example runs, removed at the end; None where this build carries none.

    With `play` one run goes on in a process of its own, which ends with this one.
    """
    if not ARCHIVE.is_file():
        return None
    folder = Path(tempfile.mkdtemp(prefix="lsc-demo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    named = folder / PLAYED
    if play and named.is_file():
        argv = [sys.executable, "-m", "lsc_tui.demo", "play", str(folder / "runs" / named.read_text().strip())]
        child = subprocess.Popen(
            [*argv, str(os.getpid())], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        atexit.register(child.terminate)
    return folder / "runs"


def play(folder: Path, parent: int, *, pace: float = 1.0) -> None:
    """Write a recorded run again, as fast as it was trained (times `pace`), while process `parent` lives.

    A stop asked of it ends it, as it ends training; a checkpoint has nothing to save and is only told.
    """
    lines = [row for row in map(parse_line, (folder / METRICS).read_bytes().splitlines()) if row is not None]
    total = max(step for step, _, _ in lines)
    for name in (METRICS, LOG):
        (folder / name).unlink(missing_ok=True)
    write_status(folder, Status(state="queued", host="demo", owner="demo"))
    writer = RunWriter.open(folder, device="cpu", total_steps=total, echo=False)
    writer.status(state="running")
    seconds = 0.0
    first = round(START_SHARE * len(lines))
    for number, (step, _, values) in enumerate(lines):
        epoch, now = values.pop("epoch", 0.0), values.pop("time", 0.0)
        deadline = time.monotonic() + (max(0.0, now - seconds) * pace if number >= first else 0.0)
        seconds = now
        while time.monotonic() < deadline:
            if os.getppid() != parent:
                return
            asked = control.pending(folder) and writer.requests()
            if asked and "stop" in asked:
                writer.finish("stopped", 143, "stopped on request; a recording keeps no checkpoint")
                return
            if asked:
                writer.message("a recording has nothing to save")
            time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))
        writer.metrics(step, epoch, now, values)
        told = "  ".join(f"{name} {value:.4g}" for name, value in values.items() if name != "lr")
        writer.message(f"epoch {epoch:.2f}  step {step} of {total}  {told}")
        last = lines[-1][2].get("time", 0.0) if number < len(lines) - 1 else now
        writer.heartbeat(step, eta=max(0.0, last - now) * pace)
    writer.finish("finished", 0, "")


def record(root: Path, studies: list[str], archive: Path = ARCHIVE) -> int:
    """Make the archive from the finished runs of `studies`, without checkpoints and without names of a machine."""
    runs = [run for run in list_runs([root]) if run.study in studies and read_status(run.path).state == "finished"]
    with tempfile.TemporaryDirectory() as scratch:
        top = Path(scratch)
        for run in runs:
            target = top / "runs" / run.id
            target.mkdir(parents=True)
            for name in _KEPT:
                if (run.path / name).is_file():
                    shutil.copyfile(run.path / name, target / name)
            _anonymous(target, run.id)
        if runs:
            # The last variant of the first study is the one that is seen training.
            (top / PLAYED).write_text(max(run.id for run in runs if run.study == studies[0]) + "\n")
        with tarfile.open(archive, "w:xz") as out:
            for path in sorted(top.rglob("*")):
                if path.is_file():
                    out.add(path, path.relative_to(top).as_posix(), filter=_plain)
    return len(runs)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _anonymous(folder: Path, identifier: str) -> None:
    status = json.loads((folder / STATUS).read_bytes())
    (folder / STATUS).write_text(json.dumps({**status, **_ANONYMOUS}, indent=1))
    source: dict[str, Any] = json.loads((folder / SOURCE).read_bytes())
    source = {k: v for k, v in source.items() if k not in ("host", "platform")}
    source["command"] = f"lsc-engine run {identifier.rsplit('/', 2)[0]}"
    (folder / SOURCE).write_text(json.dumps(source, indent=1))


def main(words: list[str]) -> None:
    """`record RUNS_DIR STUDY…`, or `play FOLDER PARENT` as `demo_folder` starts it."""
    if words[:1] == ["play"] and len(words) == 3:
        play(Path(words[1]), int(words[2]))
    elif words[:1] == ["record"] and len(words) > 2:
        print(f"{record(Path(words[1]), words[2:])} runs in {ARCHIVE.name}, {ARCHIVE.stat().st_size} bytes")
    else:
        sys.exit("python -m lsc_tui.demo record RUNS_DIR STUDY…")


if __name__ == "__main__":
    main(sys.argv[1:])
