"""What follows from the form, in lines: one variant at 80 columns, all variants side by side where there is room."""

from __future__ import annotations

import contextlib
from typing import Any

from lsc_engine.common.formatting import grouped
from lsc_tui.data.preset_form import Form
from lsc_tui.data.reports import PAGE
from lsc_tui.data.run_view import Store
from lsc_tui.lines import Line, clean, day_text, fit, millions, near_text, point, size_text, wrap
from lsc_tui.screens.new_run.preset_list import short_clock, speed_like
from lsc_tui.services.form_check import Outcome
from lsc_tui.widgets.panel import Sheet

Numbers = dict[str, Any]
CELL = 9


class Facts:
    """Words for the numbers of one form: what check found, what is measured here, what the machine has."""

    def __init__(
        self, form: Form, outcome: Outcome | None, sizes: Numbers | str | None, store: Store, logout: str
    ) -> None:
        self.form, self.outcome, self.store, self.logout = form, outcome, store, logout
        self.sizes = sizes if isinstance(sizes, dict) else {}
        self.silent = clean(sizes) if isinstance(sizes, str) else "counting …"

    def sheet(self, width: int, height: int, *, wide: bool) -> Sheet:
        """The pane: at 80 columns the highlighted variant, else a column per variant."""
        form, name = self.form, self.form.variant
        if form.kind != "train":
            return "what it makes", "", [[(" ", ""), *line] for line in self._report(width - 1 - wide)]
        label = f"{form.letter(name)}: {clean(form.label(name))}"
        if wide:
            return "what follows", label, self._wide(width)
        body: list[Line] = []
        for what, words in (*self.variant(name), *self.whole()):
            head = f" {fit(what, 12)}" if what or len(words) < width - 13 else " "
            body.append([(head, "dim"), (fit(words, width - len(head)), "")])
        return label, "", body

    def _wide(self, width: int) -> list[Line]:
        """The table of the variants, those around the highlighted one where there are many, and what is of all."""
        form, names = self.form, self.form.names
        fits = max(1, (width - 14) // CELL)
        start = max(0, min(names.index(form.variant) - fits // 2, len(names) - fits))
        shown = names[start : start + fits]
        tables = {name: cells(self.numbers(name), form.mark("model.dim", name)) for name in shown}
        body: list[Line] = [[(" " * 14, "")]]
        for name in shown:
            style = "accent" if name == form.variant else "dim" if name not in form.on else "bold"
            body[0].append((fit(form.letter(name), CELL - 1, ">") + " ", style))
        for row in _ROWS:
            if row == "file" and not any(row in table for table in tables.values()):
                continue
            found = [(tables[name].get(row, "-"), "dim" if name not in form.on else "") for name in shown]
            body.append([(fit(f" {row}", 14), "dim"), *((fit(text, CELL - 1, ">") + " ", st) for text, st in found)])
        if not self.sizes and self.outcome is not None and self.outcome.variants:
            body.append([(fit(f" {self.silent}", width), "dim")])
        return [*body, [], *([(fit(f" {what}", 14), "dim"), (words, "")] for what, words in self.whole())]

    def numbers(self, name: str) -> Numbers:
        """The summary of a variant, with its sizes where they have come."""
        found = self.outcome.variants.get(name, {}) if self.outcome is not None else {}
        return {**found, **{k: v for k, v in self.sizes.get(name, {}).items() if v is not None}}

    def variant(self, name: str) -> list[tuple[str, str]]:
        """(what, words) of one variant, for the narrow layout."""
        got = self.numbers(name)
        if not got:
            return [("", "what follows comes when no ✗ is left" if self.outcome else "checking …")]
        out: list[tuple[str, str]] = []
        if got.get("n") is not None:
            least = self.form.given("model.dim", name) in (None, "min") and got.get("system")
            out.append(("n", f"{grouped(got['n'])}{', smallest possible' if least else ''}"))
        if got.get("system"):
            near = f", {near_text(got['near_in_use'])} near" if got.get("near_in_use") else ""
            out.append(("vectors", f"{grouped(got['count'])}, {share(got['in_use'])} used"))
            if got.get("min_angle_deg") is not None:
                out.append(("nearest", f"{got['min_angle_deg']:.1f}°{near}"))
            if got.get("sure_below") is not None and got.get("loss_kind") == "c":
                out.append(("sure below", f"loss {point(got['sure_below'])} an image"))
            if got.get("table_sha256"):
                out.append(("file", f"sha256 {got['table_sha256'][:12]}"))
        elif got.get("method") == "ce":
            out.append(("vectors", "learnt, no system"))
        if got.get("parameters") is None:
            out.append(("parameters", self.silent))
        else:
            other = millions(got["parameters"] + got["class_layer_parameters"])
            beside = f"  (CE: {other})" if got["method"] == "lsc" else " with class layer"
            gpu = next((g.memory_total for g in self.store.hardware.gpus if g.memory_total), None)
            of = f" of {size_text(gpu)}" if gpu else ""
            out.append(("parameters", millions(got["parameters"] + got["head_parameters"]) + beside))
            out.append(("memory", f"~{size_text(got['memory_bytes'])}{of} (guess)"))
        if got.get("total_steps") is not None:
            steps = f"{'' if got['images_counted'] else 'about '}{grouped(got['total_steps'])}"
            out.append(("steps", f"{steps}, {grouped(got['steps_per_epoch'])} an epoch"))
            out.append(("warmup", f"{grouped(got['warmup_steps'])} steps" if got["warmup_steps"] else "none"))
        return out

    def whole(self) -> list[tuple[str, str]]:
        """(what, words) of all runs together."""
        form, out, hw = self.form, self.outcome, self.store.hardware
        runs, done, tries = (len(out.runs), out.done, out.tries) if out is not None else (0, 0, 0)
        on, seeds = len(form.on), len(form.seeds.split())
        word = "variant" if on == 1 else "variants"
        rows = [("runs", f"{on} {word} × {seeds} = {on * seeds}" if form.source != "fork" else "1, from a checkpoint")]
        rows += [("", f"and {tries} short ones first")] if tries else []
        rows += [("", f"{done} of them {'is' if done == 1 else 'are'} finished")] if done and runs else []
        seconds, study = self.seconds()
        each = "? nothing like it ran"
        if seconds is not None:
            each = f"~{short_clock(seconds / max(1, runs))} each, as {clean(study)}"
        free = sum(1 for gpu in hw.gpus if not gpu.busy)
        rows.append(("time", each))
        rows.append(("GPUs", f"{free} of {len(hw.gpus)} free" if hw.gpus else "none here: on the CPU"))
        if seconds is not None:
            whole = seconds * (1 + form.try_share * tries / max(1, runs))
            rows.append(("ends in", f"about {short_clock(whole / max(1, min(free, runs)))}"))
        if (disk := self.disk()) is not None:
            of = f" of {size_text(hw.disk_free)}" if hw.disk_free else ""
            rows.append(("disk", f"~{runs} × {size_text(disk)}{of}"))
        words = {"yes": "runs survive it here", "no": "ends runs: see doctor"}
        return rows + ([("logout", words.get(self.logout, "survival not known"))] if self.logout else [])

    def seconds(self) -> tuple[float | None, str]:
        """Training seconds of all runs one after the other, estimated from a run like them, and its study."""
        if self.outcome is None or not self.outcome.runs:
            return None, ""
        total, study, seeds = 0.0, "", max(1, len(self.form.seeds.split()))
        for name in self.form.on:
            config, got = self.outcome.resolved.get(name), self.numbers(name)
            like = speed_like(config, self.store.runs.values(), self.store.host) if config else None
            if config is None or like is None or not got.get("total_steps"):
                return None, ""
            speed, study = like
            total += seeds * got["total_steps"] * config["train.batch_size"] / speed
        return total, study

    def disk(self) -> float | None:
        """Bytes of the checkpoints of one run: weights and the optimizer's two moments, as often as kept."""
        found = []
        for name in self.form.on:
            config = self.outcome.resolved.get(name) if self.outcome is not None else None
            got = self.numbers(name)
            if config is None or got.get("parameters") is None:
                return None
            copies = config["checkpoint.keep"] + 1 + len(config["checkpoint.also_at"])
            found.append(12.0 * (got["parameters"] + got["head_parameters"]) * copies)
        return max(found, default=None)

    def _report(self, width: int) -> list[Line]:
        """What a kind that does not train makes."""
        form, out = self.form, self.outcome
        rows = [("kind", f"{form.kind}: a report"), ("", "nothing is trained"), *(out.makes if out is not None else ())]
        rows.append(("into", f"{form.study.rpartition('/')[2]}/report"))
        if form.kind == "bench":
            rows.append(("time", "seconds to minutes, by the benchmark"))
            rows += [("GPU", "used by what asks for one")] if self.store.hardware.gpus else []
        with contextlib.suppress(OSError):
            there = (form.runs_dir / form.study / "report" / PAGE).stat()
            rows.append(("there", f"made {day_text(there.st_mtime)}; made anew"))
        lines: list[Line] = []
        for what, words in rows:
            for number, text in enumerate(wrap(clean(words), width - 12)[:4]):
                lines.append([(fit("" if number else clean(what), 12), "dim"), (fit(text, width - 12), "")])
        return lines


_ROWS = (
    "system", "file", "n", "vectors", "in use", "nearest", "near in use", "sure below", "parameters", "CE would add",
    "memory", "steps", "an epoch", "warmup",
)  # fmt: skip


def cells(got: Numbers, mark: str) -> dict[str, str]:
    """Row of the wide table -> what one variant has there."""
    if not got:
        return {}
    # Of a file its name, with the end, where names differ.
    name = clean(got.get("system") or got.get("method") or "-")
    name = name.rpartition("/")[2] if name.startswith("file:") else name
    n = grouped(got["n"]) if got.get("n") is not None else "?"
    out = {"system": name if len(name) < CELL else "…" + name[-(CELL - 2) :], "n": f"{n}{'*' if mark == '*' else ''}"}
    if got.get("system"):
        out |= {"vectors": short(got["count"]), "in use": share(got["in_use"])}
        if got.get("min_angle_deg") is not None:
            out["nearest"] = f"{got['min_angle_deg']:.1f}°"
        if got.get("near_in_use"):
            out["near in use"] = near_text(got["near_in_use"])
        if got.get("sure_below") is not None and got.get("loss_kind") == "c":
            out["sure below"] = point(got["sure_below"])
        if got.get("table_sha256"):
            out["file"] = got["table_sha256"][: CELL - 1]
    if got.get("parameters") is not None:
        out["parameters"] = millions(got["parameters"] + got["head_parameters"])
        out["CE would add"] = millions(got["class_layer_parameters"]) if got["method"] == "lsc" else "-"
        out["memory"] = f"~{size_text(got['memory_bytes'])}"
    if got.get("total_steps") is not None:
        out |= {"steps": short(got["total_steps"]), "an epoch": short(got["steps_per_epoch"])}
        out["warmup"] = short(got["warmup_steps"]) if got["warmup_steps"] else "none"
    return out


def short(number: float) -> str:
    """A count that fits a cell of the table."""
    text = grouped(number)
    for limit, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if len(text) > CELL - 1 and number >= limit:
            return f"{number / limit:.1f} {letter}"
    return text


def share(value: float) -> str:
    """`97.7%`; very small shares as `6e-5`."""
    return f"{100 * value:.1f}%" if value >= 0.001 else f"{value:.0e}".replace("e-0", "e-")
