"""What follows from the form, in lines: one variant at 80 columns, all variants side by side where there is room."""

from __future__ import annotations

import contextlib
from typing import Any

from lsc_engine.common.formatting import counted, grouped
from lsc_tui.data.preset_form import Form
from lsc_tui.data.reports import PAGE
from lsc_tui.data.run_view import Store
from lsc_tui.lines import Line, clean, day_text, fit, labelled, millions, near_text, point, share_text, short, size_text
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
        self.minutes: float | None = None  # what all runs took where they were measured
        self.silent = clean(sizes) if isinstance(sizes, str) else "counting …"

    def sheet(self, width: int, height: int, *, wide: bool) -> Sheet:
        """The pane: at 80 columns the highlighted variant, else a column per variant, those around the highlighted one
        where there are many; below it what is of all runs."""
        form, names = self.form, self.form.names
        if form.kind != "train":
            return "what it makes", "", [[(" ", ""), *line] for line in self._report(width - 1 - wide)]
        label = f"{form.letter(form.variant)}: {clean(form.label(form.variant))}"
        head, cell = 14, CELL if wide else width - 14
        fits = max(1, (width - head) // cell) if wide else 1
        start = max(0, min(names.index(form.variant) - fits // 2, len(names) - fits))
        shown = names[start : start + fits] if wide else [form.variant]
        tables = {name: cells(self.numbers(name), form.mark("model.dim", name), cell) for name in shown}
        body: list[Line] = []
        if wide:
            styles = ["accent" if n == form.variant else "dim" if n not in form.on else "bold" for n in shown]
            letters = [fit(form.letter(name), cell - 1, ">") + " " for name in shown]
            body.append([(" " * head, ""), *zip(letters, styles, strict=True)])
        # A variant with a system has the rows of one without, which at 80 columns is named in the form.
        rows = dict.fromkeys(row for table in sorted(tables.values(), key=len, reverse=True) for row in table)
        for row in list(rows)[not wide :]:
            texts = [fit(tables[name].get(row, "-"), cell - 1, ">" if wide else "<") + " " for name in shown]
            styles = ["dim" if wide and name not in form.on else "" for name in shown]
            body.append([(fit(f" {row}", head), "dim"), *zip(texts, styles, strict=True)])
        if not self.sizes or not rows:
            waits = self.silent if rows else "comes when no ✗ is left" if self.outcome else "checking …"
            body.append([(fit(f" {waits}", width), "dim")])
        whole = labelled(((f" {what}", words) for what, words in self.whole()), head, width)
        return ("what follows", label, [*body, [], *whole]) if wide else (label, "", [*body, *whole])

    def numbers(self, name: str) -> Numbers:
        """The summary of a variant, with its sizes where they have come."""
        found = self.outcome.variants.get(name, {}) if self.outcome is not None else {}
        return {**found, **{k: v for k, v in self.sizes.get(name, {}).items() if v is not None}}

    def whole(self) -> list[tuple[str, str]]:
        """(what, words) of all runs together."""
        form, out, hw = self.form, self.outcome, self.store.hardware
        runs, done, tries = (len(out.runs), out.done, out.tries) if out is not None else (0, 0, 0)
        on, seeds = len(form.on), len(form.seeds.split())
        word = "variant" if on == 1 else "variants"
        rows = [("runs", f"{on} {word} × {seeds} = {on * seeds}" if form.source != "fork" else "1, from a checkpoint")]
        rows += [("", f"after {counted(tries, 'short one')}")] if tries else []
        rows += [("", f"{done} of them finished")] if done and runs else []
        seconds, study = self.seconds()
        each = f"all: {short_clock(60 * self.minutes)} elsewhere" if self.minutes else "? nothing like it ran"
        if seconds is not None:
            each = f"~{short_clock(seconds / max(1, runs))} each, as {clean(study.rpartition('/')[2])}"
        free = sum(1 for gpu in hw.gpus if not gpu.busy)
        rows.append(("time", each))
        memory = next((f", {size_text(gpu.memory_total)}" for gpu in hw.gpus if gpu.memory_total), "")
        rows.append(("GPUs", f"{free} of {len(hw.gpus)} free{memory}" if hw.gpus else "none here: on the CPU"))
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
        return labelled(rows, 12, width, 4)


def cells(got: Numbers, mark: str, width: int) -> dict[str, str]:
    """Row of the pane -> what one variant has there."""
    if not got:
        return {}
    # Of a file its name, with the end, where names differ.
    name = clean(got.get("system") or got.get("method") or "-")
    name = name.rpartition("/")[2] if name.startswith("file:") else name
    name = name if len(name) < width else "…" + name[2 - width :]
    out = {"system": name, "n": f"{'?' if got.get('n') is None else grouped(got['n'])}{'*' if mark == '*' else ''}"}
    if got.get("system"):
        out |= {"vectors": short(got["count"], width - 1), "in use": share_text(got["in_use"])}
        if got.get("min_angle_deg") is not None:
            out["nearest"] = f"{got['min_angle_deg']:.1f}°"
        if got.get("near_in_use"):
            out["near in use"] = near_text(got["near_in_use"])
        if got.get("sure_below") is not None and got.get("loss_kind") == "c":
            out["sure below"] = point(got["sure_below"])
        if got.get("table_sha256"):
            out["file"] = got["table_sha256"][: min(12, width - 1)]
    if got.get("parameters") is not None:
        out["parameters"] = millions(got["parameters"] + got["head_parameters"])
        out["CE would add"] = millions(got["class_layer_parameters"]) if got["method"] == "lsc" else "-"
        out["memory"] = f"~{size_text(got['memory_bytes'])}"
    if got.get("total_steps") is not None:
        steps = short(got["total_steps"], width - 1)
        out |= {
            "steps": steps if got["images_counted"] else f"~{steps}",
            "an epoch": short(got["steps_per_epoch"], width - 1),
        }
        out["warmup"] = short(got["warmup_steps"], width - 1) if got["warmup_steps"] else "none"
    return out
