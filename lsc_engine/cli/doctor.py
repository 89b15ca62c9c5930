"""What `lsc-engine doctor` finds out about this machine. Whatever may hang (importing torch on a broken driver, a dead
network disk, a bus that does not answer) runs in another process or thread and is abandoned after a while. Loads no
torch here."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lsc_engine.common.errors import UsageError
from lsc_engine.common.userpaths import user_name, user_path
from lsc_engine.data.dataset import NO_HOME, built_in_data_sets, data_folder, data_set
from lsc_engine.runs.folder.process import python_command

T = TypeVar("T")

_OLDEST_PYTHON = (3, 11)
_OLDEST_TORCH = (2, 10)
# Compute capabilities from which a GPU multiplies bf16, and from which Triton builds kernels for it.
_BF16, _TRITON = (8, 0), (7, 0)
# With less memory a GPU divides the batches of the larger presets.
_LITTLE_BYTES = 16 * 2**30
_TORCH_SECONDS = 60.0
_SECONDS = 5.0
# With what the sentence about missing data begins in a preset; here the name of the data set stands before it.
_KEY = "data.dataset: "
_LOGIND = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")

_TORCH_PROBE = """
import importlib.util, json, torch
gpu = torch.cuda.is_available()
print(json.dumps({"version": torch.__version__, "built_for": torch.version.cuda, "cuda": gpu,
                  "bf16": bool(gpu and torch.cuda.get_device_capability() >= (8, 0)),
                  "kernels": torch.cuda.get_arch_list(), "triton": importlib.util.find_spec("triton") is not None,
                  "threads": torch.get_num_threads()}))
"""
_NVML_PROBE = """
import json, pynvml as n
def text(x): return x.decode() if isinstance(x, bytes) else x
def attempt(query):
    try: return query()
    except n.NVMLError: return None
n.nvmlInit()
gpus = []
for i in range(n.nvmlDeviceGetCount()):
    h = n.nvmlDeviceGetHandleByIndex(i)
    memory = attempt(lambda: n.nvmlDeviceGetMemoryInfo(h, n.nvmlMemory_v2)) or attempt(
        lambda: n.nvmlDeviceGetMemoryInfo(h))
    mig = attempt(lambda: n.nvmlDeviceGetMigMode(h)[0])
    busy = attempt(lambda: len(n.nvmlDeviceGetComputeRunningProcesses(h)))
    gpus.append({"index": i, "name": text(n.nvmlDeviceGetName(h)), "uuid": text(n.nvmlDeviceGetUUID(h)),
                 "memory": memory and memory.total, "used": memory and memory.used, "processes": busy,
                 "divided": bool(mig), "capability": attempt(lambda: n.nvmlDeviceGetCudaComputeCapability(h))})
print(json.dumps({"driver": text(n.nvmlSystemGetDriverVersion()), "gpus": gpus,
                  "cuda": attempt(lambda: n.nvmlSystemGetCudaDriverVersion())}))
"""


class Logout(NamedTuple):
    """Whether a detached run outlives the user's logout: `survive` is "yes", "no" or "unknown"; `do` what helps."""

    survive: str
    why: str
    do: str | None = None


def examine(runs_dir: str | Path | None, data_dir: str | Path | None) -> dict[str, Any]:
    """Everything doctor reports, as plain data; "ok" is False where training cannot work."""
    recent = sys.version_info[:2] >= _OLDEST_PYTHON
    torch, nvml = _probe(_TORCH_PROBE, _TORCH_SECONDS), _probe(_NVML_PROBE, _SECONDS * 4)
    torch["ok"] = "version" in torch and tuple(map(int, torch["version"].split(".")[:2])) >= _OLDEST_TORCH
    if "version" in torch:
        message = f"CUDA {torch['built_for']}" if torch["cuda"] else "on the CPU"
        torch["message"] = message if torch["ok"] else "2.10 or later is needed"
    runs = user_path(runs_dir or os.environ.get("LSC_RUNS") or "runs")
    try:
        data: Path | None = data_folder(data_dir)
    except UsageError:
        data = None
    missing = _missing_for_triton(torch)
    gpus = [{**gpu, "remarks": remarks(gpu, torch, missing)} for gpu in nvml.get("gpus", [])]
    return {
        "ok": bool(recent and torch["ok"]),
        "python": {"version": platform.python_version(), "executable": sys.executable, "ok": recent},
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch,
        "driver": nvml.get("driver"),
        "driver_cuda": nvml.get("cuda"),
        "gpus": gpus,
        "gpu_message": nvml.get("message", "" if gpus else "the driver lists none"),
        "data": [_dataset(name, data_dir) for name in built_in_data_sets()],
        "packed": _within(_SECONDS, lambda: sorted(p.stem for p in (data / "packed").glob("*px.json"))) if data else [],
        "disk": [_disk("runs", runs), _disk("data", data)],
        "logout": logout()._asdict(),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The report of `examine` for reading."""
    torch, python, end = found["torch"], found["python"], found["logout"]
    rows: list[tuple[bool | None, str, str]] = [
        (python["ok"], f"Python {python['version']}", "" if python["ok"] else "3.11 or later is needed"),
        (torch["ok"], f"torch {torch.get('version', '')}".strip(), torch.get("message", "")),
        (True, f"{found['cores']} CPU cores", ""),
    ]
    unusable, built_for, driver = "", torch.get("built_for"), found.get("driver_cuda")
    if not torch.get("cuda"):
        unusable = f"this torch cannot use it (built for {f'CUDA {built_for}' if built_for else 'the CPU'})"
        if built_for and driver and driver // 1000 < int(built_for.split(".")[0]):
            old = f"driver {found['driver']} (CUDA {driver // 1000}.{driver % 1000 // 10}) is too old for this torch"
            unusable = f"{old} (CUDA {built_for}): update it, or install a torch built for CUDA {driver // 1000}"
    for gpu in found["gpus"]:
        gb = [None if gpu[key] is None else gpu[key] / 2**30 for key in ("used", "memory")]
        used = "" if None in gb else f", {gb[0]:.1f} of {gb[1]:.1f} GB used"
        rows.append((not unusable, f"GPU {gpu['index']} {gpu['name']}{used}", unusable))
        rows += [(None, f"GPU {gpu['index']}", remark) for remark in gpu["remarks"]]
    if not found["gpus"]:
        rows.append((None, "no GPU", f"training runs on the CPU ({found['gpu_message']})"))
    rows += [(True if row["found"] else None, row["name"], row["place"] or row["how"]) for row in found["data"]]
    if found["packed"]:
        rows.append((True, "packed", ", ".join(found["packed"])))
    for row in found["disk"]:
        free = "no answer" if row["free"] is None else f"{row['free'] / 2**30:.1f} GB free"
        denied = "" if row["writable"] else "; no folder that can be written to, name another one"
        note = NO_HOME if row["path"] is None else f"{row['path']}, {free}{denied}"
        rows.append((row["writable"], f"{row['what']} folder", note))
    why = " ".join(filter(None, (end["why"], end["do"])))
    rows.append(({"yes": True, "no": False}.get(end["survive"]), "runs survive logout: " + end["survive"], why))
    marks = {True: "ok", False: "!!", None: "--"}
    return [f"{marks[good]}  {what:<22} {note}".rstrip() for good, what, note in rows]


def remarks(gpu: dict[str, Any], torch: dict[str, Any], missing: str | None) -> list[str]:
    """What will be slow or missing on a GPU, as sentences. `gpu` and `torch`: as the probes answer, where everything
    may be absent; `missing`: what Triton lacks on this machine."""
    found, capability = [], tuple(gpu.get("capability") or ())
    words = f"compute capability {'.'.join(map(str, capability))}"
    built = [
        (kernel.startswith("compute"), kernel.partition("_")[2].rstrip("af")) for kernel in torch.get("kernels", ())
    ]
    versions = [(forward, (int(digits[:-1]), int(digits[-1]))) for forward, digits in built]
    # Code for "sm_90" runs on its major alone, that for "compute_90" on later ones too.
    fits = any(v <= capability and (forward or v[0] == capability[0]) for forward, v in versions if capability)
    if capability and versions and not fits:
        found.append(f"{words}: this torch has no kernels for it, nothing can be trained there")
    if capability and capability < _BF16:
        found.append(f"{words}: no bf16, train.precision = auto is float32 there")
    if capability and capability < _TRITON:
        found.append(f"{words}: Triton needs 7.0, steps are not compiled")
    elif missing is not None and torch.get("cuda"):
        found.append(f"steps are not compiled, which is slower: {missing}")
    if gpu.get("divided"):
        found.append("divided by MIG: a run gets one instance and its memory, several for one run are not possible")
    elif gpu.get("memory") is not None and gpu["memory"] < _LITTLE_BYTES:
        found.append(f"{gpu['memory'] / 2**30:.1f} GB: batches of ViT presets are computed in parts, which is slower")
    if gpu.get("processes"):
        found.append(f"processes on it: {gpu['processes']}; --gpus auto leaves it out, seconds there are not compared")
    return found


def _missing_for_triton(torch: dict[str, Any]) -> str | None:
    """What torch.compile lacks on this machine to build kernels for a GPU; None if nothing."""
    if torch.get("triton") is False:
        return "Triton is not installed (pip install triton)"
    if shutil.which(os.environ.get("CC", "cc")) is None and not (shutil.which("gcc") or shutil.which("clang")):
        return "there is no C compiler (apt install gcc, or set CC)"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return f"there is no {Path(sysconfig.get_path('include'), 'Python.h')} (apt install python3-dev)"
    return None


def logout() -> Logout:
    """Whether detached runs survive logout here, as systemd's logind is configured."""
    names = ("KillUserProcesses", "KillExcludeUsers", "KillOnlyUsers")

    def output(*command: str) -> str:
        printed, fault = _run(command, _SECONDS)
        return "" if fault else printed

    kill, excluded, only = (output("busctl", "get-property", *_LOGIND, name) for name in names)
    user, answers = user_name(), {"b true": True, "b false": False, "yes": True, "no": False}
    linger = answers.get(output("loginctl", "show-user", user, "--property=Linger", "--value"))
    spared = f'"{user}"' in excluded or ('"' in only and f'"{user}"' not in only)
    managed = False
    with contextlib.suppress(OSError):
        managed = f"/user@{os.getuid()}.service/" in Path("/proc/self/cgroup").read_text(encoding="utf-8")
    return judge_logout(answers.get(kill), linger, excluded=spared, under_user_manager=managed)


def judge_logout(kill: bool | None, linger: bool | None, *, excluded: bool, under_user_manager: bool) -> Logout:
    """Whether runs survive logout, from the settings of logind. `kill`: KillUserProcesses, which ends a session's
    processes at logout, even those in a session of their own; `excluded`: not for this user; `linger`: the user's
    manager outlives the last logout; `under_user_manager`: this process belongs to that manager instead of a login
    session. None: logind did not answer."""
    scope = "Start with: systemd-run --user --scope lsc-engine run … --detach"
    kills = "logind ends the processes of a session at logout (KillUserProcesses)."
    if kill is None:
        why = "logind does not answer (a container, or a system without it)."
        return Logout("unknown", why, "Use tmux, or ask its administrator; what ends the container ends its runs.")
    if under_user_manager and linger:
        return Logout("yes", "This process belongs to your systemd user manager, which lingers after logout.")
    if under_user_manager:
        why = "This process belongs to your systemd user manager, which ends with your last session."
        return Logout("no", why, "Run once: loginctl enable-linger")
    if not kill or excluded:
        return Logout("yes", "logind leaves your processes alone at logout.")
    return Logout("no", kills, scope if linger else f"Run once: loginctl enable-linger. {scope}")


def _probe(code: str, seconds: float) -> dict[str, Any]:
    """The JSON that `code` prints in a fresh interpreter, or {"message": why not}."""
    printed, fault = _run(python_command("-c", code), seconds)
    if fault:
        return {"message": fault}
    answer: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return answer


def _run(command: Sequence[str], seconds: float) -> tuple[str, str]:
    """What `command` prints, and why it did not end well."""
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    options: dict[str, Any] = {"encoding": "utf-8", "errors": "replace", "stdin": subprocess.DEVNULL, "env": env}
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds, **options)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {seconds:g} s"
    except OSError as error:
        return "", str(error)
    last = done.stderr.strip().splitlines()[-1:]
    return done.stdout.strip(), "".join(last) or f"ended with {done.returncode}" if done.returncode else ""


def _dataset(name: str, data_dir: str | Path | None) -> dict[str, Any]:
    chosen = data_set(name)
    how: str | None = chosen.facts.how or None
    if how and chosen.facts.places:
        how = chosen.missing(data_dir)[len(_KEY) :]
    place: object = "made from the index, no files"
    if not chosen.made_from_index:
        place = _within(_SECONDS, lambda: chosen.locate(data_dir))
    where = None if place is None else _within(_SECONDS * 6, chosen.describe) or str(place)
    return {"name": name, "title": chosen.facts.title, "found": place is not None, "place": where, "how": how}


def _disk(what: str, folder: Path | None) -> dict[str, Any]:
    """Free bytes where `folder` is or would be made; None for the data folder without a home folder."""

    def measure() -> tuple[int | None, int | None, bool]:
        if folder is None:
            return None, None, False
        place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        usage = shutil.disk_usage(place)
        return usage.free, usage.total, place.is_dir() and os.access(place, os.W_OK)

    free, total, writable = _within(_SECONDS, measure) or (None, None, False)
    path = None if folder is None else str(folder)
    return {"what": what, "path": path, "free": free, "total": total, "writable": writable}


def _within(seconds: float, work: Callable[[], T]) -> T | None:
    """`work()`, or None if it fails or takes longer: a dead network disk never answers."""
    results: list[T] = []

    def run() -> None:
        # Data sets are described with packages that a light installation lacks.
        with contextlib.suppress(OSError, ModuleNotFoundError):
            results.append(work())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return results[0] if results else None
