"""From the form to runs: launching asks once and starts the command that the command line starts; saving a preset."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import tomli_w

from lsc_engine.common.ids import name_fault, suggested_name
from lsc_engine.common.safe_io import read_bytes
from lsc_engine.config.load import LARGEST_FILE, own_folder
from lsc_engine.errors import LscError
from lsc_engine.runs.folder.process import python_command
from lsc_engine.runs.read.studies import STUDIES
from lsc_engine.studies.detach import detach, reap
from lsc_engine.studies.prepare import free_name
from lsc_engine.textfiles import decoded
from lsc_engine.userpaths import home_path
from lsc_tui.data.reports import PAGE
from lsc_tui.data.run_view import RunView, Store
from lsc_tui.lines import clean
from lsc_tui.screens.new_run.form import Form
from lsc_tui.screens.new_run.presets import own_words
from lsc_tui.services.actions import DEMO
from lsc_tui.services.form_check import Outcome, form_sets, has_sbatch
from lsc_tui.widgets.form_rows import device_words, problem_words

if TYPE_CHECKING:
    from lsc_tui.screens.base import LscScreen

    _Base = LscScreen
else:
    _Base = object

LAUNCH_SECONDS = 180.0
LARGEST_LOG = 8 << 20


def form_of_run(view: RunView, kind: str, own: Path) -> Form:
    """The form of a run's own settings: for a new run like it (`copy`), or to go on from its checkpoint (`fork`). A run
    like one of another's goes to the `own` runs folder."""
    text = decoded(read_bytes(view.run.path / "preset.toml", LARGEST_FILE))
    root = own if view.read_only else view.run.root or Path(".")
    if kind == "fork":
        form = Form.of(text, f"fork of {view.id}", view.study, root, source="fork", parent=view.id)
        form.before.pop("run", None)
        form.raw.pop("run", None)
        return form
    raw = tomllib.loads(text)
    raw.pop("run", None)
    raw["variants"] = [{"name": view.variant, "label": view.label}]
    if isinstance(raw.get("compare"), dict):
        raw["compare"].pop("baseline", None)
    leaf = view.study.rpartition("/")[2]
    return Form.of(tomli_w.dumps(raw), f"as {view.id}", free_name(root, leaf), root, source="copy")


def launch_argv(form: Form, preset: Path | None) -> list[str]:
    """The command line of a form whose TOML is in `preset`."""
    argv = python_command("-m", "lsc_engine")
    if form.source == "fork":
        argv += ["fork", form.parent, *(part for text in form_sets(form) for part in ("--set", text))]
        argv += ["--at", form.at] if form.at else []
    else:
        argv += ["run", str(preset), "--name", form.study]
        if set(form.names) - form.on:
            argv += [part for name in form.names if name in form.on for part in ("--variant", name)]
    argv += ["--runs-dir", str(form.runs_dir.absolute())]
    return argv + (["--data-dir", form.data_dir] if form.data_dir else [])


def device_argv(form: Form, store: Store) -> list[str]:
    """--gpus or --device of a form."""
    if form.device[:1].isdigit() and form.source != "fork":
        return ["--gpus", form.device.replace(" ", "")]
    if form.device[:1].isdigit():
        return ["--device", f"cuda:{form.device}"]
    if form.device == "auto" and store.hardware.gpus and form.source != "fork":
        return ["--gpus", "auto"]
    return ["--device", form.device]


def keep_toml(form: Form) -> Path:
    """The file that the launched command reads: what the form says, in the runs folder. A preset's own file may have
    been changed since it was shown."""
    folder = form.runs_dir / ".launch"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder.absolute() / f"{suggested_name(form.study.replace('/', '.'))}.toml"
    path.write_text(form.toml())
    return path


def start(argv: list[str]) -> str:
    """Start the command, which leaves its runs to a session of their own and returns; a sentence where it failed."""
    try:
        done = subprocess.run(
            [*argv, "--detach"], capture_output=True, text=True, timeout=LAUNCH_SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"the command did not answer within {LAUNCH_SECONDS:.0f} s"
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return clean(lines[0] if lines else f"it ended with {done.returncode}").removeprefix("error: ")


def batch_script(form: Form, argv: list[str]) -> str:
    """A Slurm script that trains the runs of a form one after the other on one GPU."""
    job = suggested_name(form.study.replace("/", "."))
    return (
        f"#!/bin/sh\n#SBATCH --job-name={job}\n#SBATCH --gres=gpu:1\n#SBATCH --signal=B:TERM@120\n"
        f"#SBATCH --output={job}.%j.log\n\ncd {shlex.quote(os.getcwd())} || exit 1\nexec {shlex.join(argv)}\n"
    )


class LaunchCommands(_Base):
    """Mixed into New run: L and w."""

    form: Form | None
    outcome: Outcome | None
    checking: bool

    def reload(self, chosen: str = "") -> None:
        """Read the list of presets again."""
        raise NotImplementedError

    def why_not_launch(self) -> str:
        if self.app.demo:
            return DEMO
        form, out = self.form, self.outcome
        if form is None:
            return "open a preset first, Enter does"
        if out is None or self.checking:
            return "still checking, in a moment"
        faults = out.faults
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            return f"off while a ✗ is open: {problem_words(form, faults[0])}{more}"
        gpus = self.app.store.hardware.gpus
        if form.kind == "train" and form.device == "auto" and gpus and all(gpu.busy for gpu in gpus):
            owners = ", ".join(f"{gpu.index} {clean(self.app.store.owner_of(gpu))}" for gpu in gpus)
            return f"no GPU is free (GPU {owners}); choose some by number in device"
        return ""

    def do_launch(self) -> None:
        form, out = self.form, self.outcome
        if form is None or out is None:
            return
        word = "launch" if form.kind == "train" else "make it"
        answers: dict[str, tuple[str, Callable[[], None]]] = {"y": (word, self._launch)}
        if has_sbatch():
            answers["s"] = ("sbatch script instead", self._batch)
        self.ask(launch_words(form, out, self.app.store), answers)

    def _launch(self) -> None:
        form = self.form
        if form is None:
            return
        if form.kind != "train":
            self._make_report(form.copy())
            return
        form, store, plugins = form.copy(), self.app.store, self.app.plugin_words
        runs = len(self.outcome.runs) if self.outcome is not None else 0
        self.say(f"starting {form.study} …")

        def work() -> None:
            try:
                preset = None if form.source == "fork" else keep_toml(form)
            except OSError as error:
                self.app.call_soon(self.say, f"launch: {error.strerror or error}", "error")
                return
            fault = start([*launch_argv(form, preset), *device_argv(form, store), *plugins])
            self.app.call_soon(done, fault)

        def done(fault: str) -> None:
            if fault:
                self.say(f"launch: {fault}", "error")
                return
            self.app.store.launched = form.study
            self.app.look_at(form.runs_dir)
            if self.idle:
                self.app.go("runs")
            word = "run goes" if runs == 1 else "runs go"
            self.app.lsc_screen.say(f"{form.study}: {runs} {word} on when this terminal is closed")

        self.run_worker(work, thread=True, group="launch", exit_on_error=False)

    def _make_report(self, form: Form) -> None:
        """Start what makes the report of a kind that does not train, in a session of its own; say when it is there."""
        app, plugins = self.app, self.app.plugin_words
        root = next((i for i, folder in enumerate(app.folders) if folder.absolute() == form.runs_dir.absolute()), -1)
        key = f"report:{root}:{form.study}"
        self.say(f"{form.study}: its report is being made …")

        def work() -> None:
            began = time.time()
            try:
                log = form.runs_dir.absolute() / ".launch" / f"{suggested_name(form.study.replace('/', '.'))}.log"
                pid = detach([*launch_argv(form, keep_toml(form)), *plugins], log)
            except (OSError, LscError) as error:
                app.call_soon(self.say, f"launch: {error}", "error")
                return
            app.call_soon(started, pid)
            known = False
            while _runs(pid):
                time.sleep(0.3)
                if not known and _written_since(form.runs_dir / STUDIES / f"{form.study}.toml", began):
                    known = True
                    app.poller.rescan()
            page = form.runs_dir / form.study / "report" / PAGE
            app.call_soon(ended, _written_since(page, began), log)

        def started(pid: int) -> None:
            app.store.making[key] = pid
            app.store.launched = form.study
            app.look_at(form.runs_dir)
            if self.idle:
                app.go("runs")
            app.lsc_screen.say(f"{form.study}: its report is being made; closing this terminal does not end it")

        def ended(there: bool, log: Path) -> None:
            app.store.making.pop(key, None)
            app.poller.rescan()
            if there:
                app.lsc_screen.say(f"{form.study}: its report is there, Enter on it in Runs reads it")
            else:
                app.lsc_screen.say(f"{form.study}: no report: {last_words(log)}", "error")

        # Not a worker, which the program would wait for at its end.
        threading.Thread(target=work, name="report", daemon=True).start()

    def _batch(self) -> None:
        form = self.form
        if form is None:
            return
        try:
            preset = None if form.source == "fork" else keep_toml(form)
            path = form.runs_dir.absolute() / ".launch" / f"{suggested_name(form.study.replace('/', '.'))}.sbatch"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                batch_script(form, [*launch_argv(form, preset), "--device", "auto", *self.app.plugin_words])
            )
        except OSError as error:
            self.say(f"sbatch script: {error.strerror or error}", "error")
            return
        self.say(f"wrote {home_path(path)}; sbatch it")

    # --- save ---------------------------------------------------------------------------------------------------

    def why_not_save(self) -> str:
        if self.form is None:
            return "open a preset first, Enter does"
        return "a fork is no preset; N on the run makes one" if self.form.source == "fork" else ""

    def do_save(self) -> None:
        form = self.form
        if form is not None:
            near = suggested_name(f"{form.heading.rpartition('/')[2]}-mine" if form.source == "preset" else form.study)
            self.prompt(f"name of the preset in {own_words()}", self._save, value=near)

    def _save(self, name: str) -> None:
        form, name = self.form, name.strip().removesuffix(".toml")
        if form is None:
            return
        fault = name_fault(name)
        if fault is not None:
            self.say(f"w: {fault}", "error")
            return
        path = own_folder() / f"{name}.toml"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(form.toml())
        except FileExistsError:
            self.say(f"w: {home_path(path)} exists and is not overwritten; give another name", "error")
            return
        except OSError as error:
            self.say(f"w: {home_path(path)}: {error.strerror or error}", "error")
            return
        off = [clean(variant) for variant in form.names if variant not in form.running]
        more = f" with all variants, also {', '.join(off)}, off here" if off else ""
        self.say(f"saved {home_path(path)}{more}")
        self.reload(f"yours:{name}")


def _runs(pid: int) -> bool:
    """Whether a process that this one started goes on."""
    reap()
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _written_since(path: Path, began: float) -> bool:
    """Whether a file was written after this time."""
    try:
        return path.stat().st_mtime >= began - 1
    except OSError:
        return False


def last_words(log: Path) -> str:
    """What a command that failed said last."""
    try:
        lines = [line for line in read_bytes(log, LARGEST_LOG).decode("utf-8", "replace").splitlines() if line.strip()]
    except LscError as error:
        return str(error)
    return clean(lines[-1]).removeprefix("error: ") if lines else f"see {home_path(log)}"


def launch_words(form: Form, out: Outcome, store: Store) -> str:
    """`launch 12 runs, 1 now on GPU 1, 11 queued?`"""
    if form.kind != "train":
        return f"make the report {form.study}?"
    total = len(out.runs) + out.tries - out.done
    count = f"{total - out.tries} run{'s' if total - out.tries != 1 else ''}"
    if form.source == "fork":
        return f"launch a fork of {form.parent} on {device_words(form.device, store.hardware.gpus)}?"
    gpus = store.hardware.gpus
    if form.device == "auto" and gpus:
        slots = [str(gpu.index) for gpu in gpus if not gpu.busy]
    else:
        slots = form.device.split(",") if form.device[:1].isdigit() else []
    first = f" after {out.tries} tries" if out.tries else ""
    if not slots:
        where = "the CPU" if form.device in ("cpu", "auto") else form.device
        return f"launch {count}{first} on {where}" + (", one after the other?" if total > 1 else "?")
    now = min(len(slots), total)
    queued = f", {total - now} queued" if total > now else ""
    return f"launch {count}{first}, {now} now on GPU {', '.join(slots[:now])}{queued}?"
