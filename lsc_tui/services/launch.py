"""From the form to runs: the command line of a launch, which is the one that a user would type, and its start."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import tomli_w

from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import counted
from lsc_engine.common.hardware import Gpu
from lsc_engine.common.ids import suggested_name
from lsc_engine.common.safe_io import read_bytes, read_toml
from lsc_engine.common.settings import without
from lsc_engine.common.userpaths import home_path
from lsc_engine.runs.folder.layout import PRESET
from lsc_engine.runs.folder.process import python_command
from lsc_engine.runs.read.studies import STUDIES
from lsc_engine.studies.detach import detach
from lsc_engine.studies.prepare import free_name
from lsc_tui.data.preset_form import Form
from lsc_tui.data.reports import PAGE
from lsc_tui.data.run_view import RunView, Store
from lsc_tui.lines import clean
from lsc_tui.services.actions import engine
from lsc_tui.services.form_check import Outcome, form_sets

LAUNCH_SECONDS = 180.0
LARGEST_LOG = 8 << 20


def form_of_run(view: RunView, kind: str, own: Path) -> Form:
    """The form of a run's own settings: for a new run like it (`copy`), or to go on from its checkpoint (`fork`). A run
    like one of another's goes to the `own` runs folder."""
    raw = without(read_toml(view.run.path / PRESET), "run")
    raw["variants"] = [{"name": view.variant, "label": view.label}]
    root = own if view.read_only else view.run.root or Path(".")
    if kind == "fork":
        text, heading = tomli_w.dumps(raw), f"fork of {view.id}"
        return Form.of(text, heading, view.study, root, source="fork", parent=view.id)
    text, leaf = tomli_w.dumps(without(raw, "compare.baseline")), view.study.rpartition("/")[2]
    return Form.of(text, f"as {view.id}", free_name(root, leaf), root, source="copy")


def launch_argv(form: Form, preset: Path | None, command: str = "run") -> list[str]:
    """The words after `lsc-engine` for a form whose TOML is in `preset`: `run`, or `submit` for Slurm."""
    if form.source == "fork":
        argv = ["fork", form.parent, *(part for text in form_sets(form) for part in ("--set", text))]
        argv += ["--at", form.at] if form.at else []
    else:
        argv = [command, str(preset), "--name", form.study]
        off = set(form.names) - form.on
        argv += [part for name in form.names if off and name in form.on for part in ("--variant", name)]
    argv += ["--runs-dir", str(form.runs_dir.absolute())]
    return argv + (["--data-dir", form.data_dir] if form.data_dir else [])


def device_argv(form: Form, store: Store) -> list[str]:
    """The options that choose where the runs of a form are trained."""
    numbered, fork = form.device[:1].isdigit(), form.source == "fork"
    if numbered and not fork:
        return ["--gpus", form.device.replace(" ", "")]
    if form.device == "auto" and store.hardware.gpus and not fork:
        return ["--gpus", "auto"]
    return ["--device", f"cuda:{form.device}" if numbered else form.device]


def launch_file(form: Form, ending: str) -> Path:
    """A file of this form's launch in the runs folder."""
    folder = form.runs_dir.absolute() / ".launch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{suggested_name(form.study.replace('/', '.'))}.{ending}"


def keep_toml(form: Form) -> Path:
    """The form as the launched command reads it: a preset's own file may have been changed since it was shown."""
    path = launch_file(form, "toml")
    path.write_text(form.toml())
    return path


def start(words: list[str]) -> None:
    """Run a command that leaves its runs to a session of their own or to Slurm. LscError if it fails."""
    engine(*words, seconds=LAUNCH_SECONDS)


def make_report(
    form: Form, plugin_words: Sequence[str], started: Callable[[int], object], listed: Callable[[], object]
) -> tuple[bool, Path]:
    """Start what makes the report of a kind that does not train, in a session of its own, and wait for its end. Whether
    the report is there, and the log. `started` gets the process, `listed` is called once the study is to be seen."""
    began, log = time.time(), launch_file(form, "log")
    child = detach(python_command("-m", "lsc_engine", *launch_argv(form, keep_toml(form)), *plugin_words), log)
    started(child.pid)
    preset, known = form.runs_dir / STUDIES / f"{form.study}.toml", False
    while child.poll() is None:
        time.sleep(0.3)
        if not known and _written_since(preset, began):
            known = True
            listed()
    return _written_since(form.runs_dir / form.study / "report" / PAGE, began), log


def _written_since(path: Path, began: float) -> bool:
    try:
        return path.stat().st_mtime >= began - 1
    except OSError:
        return False


def last_words(log: Path) -> str:
    """The last line that a failed command printed."""
    try:
        lines = [line for line in read_bytes(log, LARGEST_LOG).decode("utf-8", "replace").splitlines() if line.strip()]
    except LscError as error:
        return str(error)
    return clean(lines[-1]).removeprefix("error: ") if lines else f"see {home_path(log)}"


def device_words(device: str, gpus: Sequence[Gpu]) -> str:
    """Where runs go, in words."""
    if device == "auto":
        return "any free GPU" if gpus else "the CPU"
    return f"GPU {device}" if device[:1].isdigit() else device


def launch_words(form: Form, out: Outcome, store: Store) -> str:
    """`launch 12 runs, 1 now on GPU 1, 11 queued?`"""
    if form.kind != "train":
        return f"make the report {form.study}?"
    gpus, total = store.hardware.gpus, len(out.runs) + out.tries - out.done
    if form.source == "fork":
        return f"launch a fork of {form.parent} on {device_words(form.device, gpus)}?"
    if form.device == "auto" and gpus:
        slots = [str(gpu.index) for gpu in gpus if not gpu.busy]
    else:
        slots = form.device.split(",") if form.device[:1].isdigit() else []
    what = counted(total - out.tries, "run") + (f" after {counted(out.tries, 'try', 'tries')}" if out.tries else "")
    # Its name is taken by other runs: these go into a study beside it.
    what += f" as {form.study}" if form.wanted not in ("", form.study) else ""
    if not slots:
        where = "the CPU" if form.device in ("cpu", "auto") else form.device
        return f"launch {what} on {where}" + (", one after the other?" if total > 1 else "?")
    now = min(len(slots), total)
    queued = f", {total - now} queued" if total > now else ""
    return f"launch {what}, {now} now on GPU {', '.join(slots[:now])}{queued}?"
