"""What follows from a form: faults, the runs it makes, the numbers of each variant. Run in a worker, never in `show`.

Everything comes from the engine's own functions; parameters and memory from `lsc-engine check --json` in another
process, since they need torch.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lsc_engine.common.errors import FULL, LscError, UsageError
from lsc_engine.common.formatting import counted
from lsc_engine.common.ids import study_fault, suggested_name
from lsc_engine.config.derived import summary
from lsc_engine.config.load import check_text
from lsc_engine.runs.folder.checkpoints import list_checkpoints
from lsc_engine.runs.folder.process import python_command
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies.plan import new_study_fault, plan_study
from lsc_engine.studies.prepare import first_actions, free_name
from lsc_tui.data.preset_form import SETTINGS, Form, toml_text
from lsc_tui.data.reports import made_words

CHECK_SECONDS = 120.0


@dataclass(frozen=True)
class Problem:
    """A fault, or a warning, at a setting; `variant` None where it is the whole form's."""

    key: str
    message: str
    variant: str | None = None
    warning: bool = False


@dataclass
class Outcome:
    """What was found. `variants` holds the numbers of each variant (config.derived.summary)."""

    text: str = ""
    problems: list[Problem] = field(default_factory=list)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    resolved: dict[str, dict[str, Any]] = field(default_factory=dict)  # dotted settings of the runs, by variant
    runs: tuple[str, ...] = ()
    done: int = 0
    tries: int = 0
    draft: Path | None = None
    makes: tuple[tuple[str, str], ...] = ()  # what a kind that does not train makes, in words
    study: str = ""  # the study's name, a free one where nobody gave one and the preset's is taken

    @property
    def faults(self) -> list[Problem]:
        """Those that stand in the way of a launch."""
        return [p for p in self.problems if not p.warning]


@lru_cache(maxsize=1)
def _drafts() -> Path:
    """A folder for the TOML of forms while they are being written; it goes with the program."""
    folder = Path(tempfile.mkdtemp(prefix="lsc-form-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _write_draft(text: str, study: str) -> Path:
    path = _drafts() / f"{suggested_name(study.replace('/', '.')) or 'form'}.toml"
    path.write_text(text)
    return path


def examine(form: Form) -> Outcome:
    """Check a form and count what follows from it. Faults of every kind at once; never raises for bad input."""
    out = Outcome(text=form.toml(), study=form.wanted or form.study)
    form.study = out.study
    data = form.data_dir or None
    out.problems = _place_problems(form)
    if form.source == "fork":
        return _examine_fork(form, out, data)
    try:
        preset, faults, warnings = check_text(out.text, form.study)
    except UsageError as error:  # a plugin's data set or system, whose facts only the plugin knows
        for sentence in error.faults:
            key, _, words = sentence.partition(": ")
            out.problems.append(Problem(key, words or sentence))
        return out
    out.problems += [Problem(f.key, f.message, f.variant) for f in faults]
    out.problems += [Problem(f.key, f.message, f.variant, True) for f in warnings]
    if preset is None:
        return out
    if preset.kind != "train":
        out.makes = made_words(form.raw)
        if any(form.runs_dir.joinpath(form.study).glob("*/seed-*/status.json")):
            words = f"{form.study} has runs; {free_name(form.runs_dir, form.study)} is a free name"
            out.problems.append(Problem("study", words))
        return out
    out.resolved = {variant.name: variant.settings.flat() for variant in preset.variants}
    out.variants = {variant.name: summary(variant.settings, data) for variant in preset.variants}
    out.draft = _write_draft(out.text, form.study)
    chosen = [name for name in form.names if name in form.on]
    if not chosen:
        out.problems.append(Problem("variants", "none is on; space turns one on"))
    if chosen and not any(p.key == "study" for p in out.faults):
        _plan(form, out, chosen)
    _missing(out, chosen)
    return out


def _place_problems(form: Form) -> list[Problem]:
    folder, found = form.runs_dir, list[Problem]()
    fault = study_fault(form.study) or new_study_fault(form.study)
    if lacks := next((name for name in FULL if find_spec(name) is None), ""):
        words = f"training needs {lacks}, which this light installation lacks; in the folder of lsc: pip install ."
        found.append(Problem("device", words))
    found += [Problem("study", fault)] if fault is not None and form.source != "fork" else []
    there = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
    if not os.access(there, os.W_OK):
        found.append(Problem("runs", f"{folder} cannot be written to; name another folder"))
    elif folder.exists() and not folder.is_dir():
        found.append(Problem("runs", f"{folder} is a file; name a folder"))
    return found


def _plan(form: Form, out: Outcome, chosen: list[str]) -> None:
    assert out.draft is not None
    try:
        plan = plan_study(out.draft, name=form.study, variants=chosen)
        found = first_actions(plan, form.runs_dir)
    except (LscError, OSError) as error:
        free = free_name(form.runs_dir, form.study)
        faults = error.faults if isinstance(error, UsageError) else [str(error)]
        if form.wanted == form.study and any("with other settings" in sentence for sentence in faults):
            # Nobody chose this very name: other settings get another study.
            form.study = out.study = free
            _plan(form, out, chosen)
            return
        for sentence in faults:
            words = sentence.replace(f"{out.draft}: ", "").partition(". Give --name")[0]
            out.problems.append(Problem("study", f"{words}; {free} is a free name" if words != sentence else words))
        return
    out.runs = tuple(run.id for run in plan.runs)
    out.tries = len(plan.tune.runs) if plan.tune is not None else 0
    out.done, busy = (sum(run.action == action for run in found) for action in ("done", "busy"))
    out.resolved |= {run.config.variant: run.config.flat() for run in reversed(plan.runs)}
    if busy:
        are = "is" if busy == 1 else "are"
        out.problems.append(Problem("study", f"{busy} of its runs {are} being trained already", None, True))
    elif out.done == len(found) and found:
        free = f"{free_name(form.runs_dir, form.study)} is a free name"
        message = f"{counted(out.done, 'run is', 'runs are')} finished, none is left; {free}"
        out.problems.append(Problem("study", message))


def _missing(out: Outcome, chosen: list[str]) -> None:
    sentences = [text for name in chosen for text in out.variants.get(name, {}).get("missing", ())]
    for key, _, words in (sentence.partition(": ") for sentence in dict.fromkeys(sentences)):
        if not any(p.key == key and p.message == words for p in out.problems):
            others = "spectrum" if words.startswith("digits ") else "digits or spectrum"
            out.problems.append(Problem(key, f"{words}; or use {others}"))


def _examine_fork(form: Form, out: Outcome, data: str | None) -> Outcome:
    from lsc_engine.studies.fork import fork_config

    try:
        parent = open_run(form.parent, [form.runs_dir])
        if not (sets := form_sets(form)):
            raise UsageError("fork: change a setting first; R on the run resumes it unchanged")
        config = fork_config(parent, sets, None)
    except LscError as error:
        for sentence in error.faults if isinstance(error, UsageError) else [str(error)]:
            head, _, words = sentence.removeprefix("--set ").partition(": ")
            out.problems.append(Problem(head, words or sentence))
        return out
    steps = {str(c.step) for c in list_checkpoints(parent.path)}
    if form.at and form.at not in steps:
        there = ", ".join(sorted(steps, key=int)) or "none"
        out.problems.append(Problem("at", f"{parent.id} has no checkpoint of step {form.at}. It has: {there}"))
    out.resolved = {form.variant: config.flat()}
    out.variants = {form.variant: summary(config, data)}
    out.runs = (config.run_id,)
    out.draft = _write_draft(config.to_toml(), form.study)
    _missing(out, [form.variant])
    return out


def form_sets(form: Form) -> list[str]:
    """The changes of a form as `a.b=value` for --set."""
    changed = {key: form.given(key, form.variant) for key in SETTINGS if form.changed(key, form.variant)}
    return [f"{key}={'' if value is None else toml_text(value)}" for key, value in changed.items()]


# Answers by TOML, of all forms of this program.
_KNOWN: dict[str, dict[str, Any] | str] = {}


class Sizes:
    """`check --json` of one draft at a time; a newer one ends the one before."""

    def __init__(self, plugin_words: Sequence[str] = ()) -> None:
        self._plugin_words = plugin_words
        self._process: subprocess.Popen[str] | None = None

    def known(self, text: str) -> dict[str, Any] | str | None:
        """The answer for this TOML: per variant its sizes, or a sentence; None where it was not computed yet."""
        return _KNOWN.get(text)

    def ask(self, outcome: Outcome, data_dir: str) -> dict[str, Any] | str | None:
        """Ask in another process; None where a newer question ended this one."""
        if outcome.draft is None or outcome.text in _KNOWN:
            return _KNOWN.get(outcome.text)
        self.stop()
        argv = python_command("-m", "lsc_engine", "check", str(outcome.draft), "--json")
        argv += ["--data-dir", data_dir] if data_dir else []
        argv += self._plugin_words
        try:
            pipe, env = subprocess.PIPE, {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace", env=env
            )
        except OSError as error:
            return str(error)
        self._process = process
        with process:
            try:
                printed, words = process.communicate(timeout=CHECK_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                return f"no answer within {CHECK_SECONDS:.0f} s"
        if process.returncode < 0 or self._process is not process:
            return None
        answer: dict[str, Any] | str
        try:
            answer = json.loads(printed)["variants"]
        except (ValueError, KeyError):
            answer = (words.strip().splitlines() or ["check did not answer"])[-1]
        _KNOWN[outcome.text] = answer
        return answer

    def stop(self) -> None:
        """End the question that is being answered."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()


@lru_cache(maxsize=1)
def survives() -> tuple[str, str]:
    """Whether runs survive logout here, as doctor says: "yes", "no" or "unknown", and what to do."""
    from lsc_engine.cli.doctor import logout

    found = logout()
    return found.survive, found.do or found.why
