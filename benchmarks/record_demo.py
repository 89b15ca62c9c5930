"""Remake the example runs of `lsc-tui --demo`: real runs of small presets, packed without checkpoints.

    python -m benchmarks.record_demo [--runs-dir DIR]

Trains on the CPU for some minutes; with --runs-dir what is finished there already is not trained again. What would
name a machine or a user is replaced. Prints the size of the archive and the runs in it.
"""

from __future__ import annotations

import argparse
import io
import json
import shlex
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from lsc_engine.runs.folder.process import python_command
from lsc_engine.runs.read.embeddings import list_snapshots
from lsc_tui.demo import ARCHIVE, HOST

HERE = Path(__file__).parent
SPECTRUM, SPHERE = str(HERE / "demo_spectrum.toml"), str(HERE / "demo_sphere.toml")
# Study, preset, further arguments.
STUDIES = (
    ("too-fast", SPECTRUM, "--variant n=128 --set target.loss=distance --set optimizer.lr=30 --seeds 0"),
    ("spectrum-2k", SPECTRUM, "--seeds 0,1"),
    ("demo", "demo", "--seeds 0,1"),
    ("digits-sphere", SPHERE, "--seeds 0"),
)
# Shown at work: run id -> share of its lines that is there from the start; the later ones of a study wait for the
# earlier.
REPLAY = {"spectrum-2k/V21/seed-1": 0.4, "spectrum-2k/n_min/seed-1": 0.0, "digits-sphere/A-3/seed-0": 0.3}
FILES = ("preset.toml", "source.json", "metrics.jsonl", "status.json", "log.txt")
MOST_BYTES = 1_500_000


def train(study: str, preset: str, arguments: str, runs: Path) -> None:
    """Run one study; a loss that diverges (exit 3) is one of the examples."""
    argv = python_command("-m", "lsc_engine", "run", preset, "--name", study, *shlex.split(arguments))
    done = subprocess.run([*argv, "--device", "cpu", "--runs-dir", str(runs)], cwd=HERE.parent, check=False)
    if done.returncode not in (0, 3):
        sys.exit(f"{study}: exit {done.returncode}")


def cleaned(name: str, data: bytes, command: str) -> bytes:
    """A file of a run without what belongs to the machine it was recorded on."""
    if name not in ("source.json", "status.json"):
        return data
    document: dict[str, Any] = json.loads(data)
    document["host"] = HOST
    if name == "source.json":
        document["command"] = command
        document["platform"] = ""
    else:
        document |= {"owner": HOST, "pid": None, "pid_start": 0.0, "boot_id": "", "machine": HOST, "pid_namespace": ""}
    return (json.dumps(document, ensure_ascii=False, indent=1) + "\n").encode()


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """One file, the same bytes whoever packs it."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    archive.addfile(info, io.BytesIO(data))


def pack(runs: Path, out: Path) -> int:
    """Write the archive; the number of runs in it."""
    count = 0
    with tarfile.open(out, "w:xz") as archive:
        add(archive, "replay.json", json.dumps(REPLAY).encode())
        for study, preset, arguments in STUDIES:
            command = f"lsc-engine run {Path(preset).name} --name {study} {arguments}"
            for status in sorted((runs / study).rglob("status.json")):
                folder = status.parent
                count += 1
                for name in (name for name in FILES if (folder / name).is_file()):
                    data = cleaned(name, (folder / name).read_bytes(), command)
                    add(archive, f"runs/{folder.relative_to(runs)}/{name}", data)
                for _, path in list_snapshots(folder):
                    add(archive, f"runs/{path.relative_to(runs)}", path.read_bytes())
    return count


def main() -> None:
    """Train, pack, tell the size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs-dir", type=Path)
    parser.add_argument("--pack-only", action="store_true", help="train nothing, pack what lies in --runs-dir")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.runs_dir or Path(temporary)
        for study in STUDIES if not options.pack_only else ():
            train(*study, runs)
        count = pack(runs, ARCHIVE)
    size = ARCHIVE.stat().st_size
    print(f"{ARCHIVE.name}: {count} runs, {size / 1000:.0f} kB")
    if size > MOST_BYTES:
        sys.exit(f"more than {MOST_BYTES / 1e6} MB")


if __name__ == "__main__":
    main()
