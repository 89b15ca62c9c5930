"""What follows from the form, in lines: one variant at 80 columns, all variants side by side where there is room."""

from __future__ import annotations

import contextlib
from typing import Any

from lsc_engine.common.formatting import grouped
from lsc_tui.data.preset_form import Form
from lsc_tui.data.reports import PAGE
from lsc_tui.data.run_view import Store
from lsc_tui.lines import Line, clean, day_text, fit, frame, millions, near_text, pad, point, rule, size_text, wrap
from lsc_tui.screens.new_run.preset_list import short_clock, speed_like
from lsc_tui.services.form_check import Outcome

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
            out.append(("vectors", f"{grouped(got['count'])}, {share(got['in_use'])} used"))
            if got.get("min_angle_deg") is not None:
                near = got.get("near_in_use")
                out.append(("nearest", f"{got['min_angle_deg']:.1f}°{f', {near_text(near)} near' if near else ''}"))
            if got.get("sure_below") is not None and got.get("loss_kind") == "c":
                out.append(("sure below", f"loss {point(got['sure_below'])} an image"))
            if got.get("table_sha256"):
                out.append(("file", f"sha256 {got['table_sha256'][:12]}"))
        elif got.get("method") == "ce":
            out.append(("vectors", "learnt, no system"))
        if got.get("parameters") is None:
            out.append(("parameters", self.silent))
        else:
            words = millions(got["parameters"] + got["head_parameters"])
            other = millions(got["parameters"] + got["class_layer_parameters"])
            words += f"  (CE: {other})" if got["method"] == "lsc" else " with class layer"
            gpu = next((g.memory_total for g in self.store.hardware.gpus if g.memory_total), None)
            of = f" of {size_text(gpu)}" if gpu else ""
            out += [("parameters", words), ("memory", f"~{size_text(got['memory_bytes'])}{of} (guess)")]
        if got.get("total_steps") is not None:
            steps = f"{'' if got['images_counted'] else 'about '}{grouped(got['total_steps'])}"
            warm = f"{grouped(got['warmup_steps'])} steps" if got["warmup_steps"] else "none"
            out += [("steps", f"{steps}, {grouped(got['steps_per_epoch'])} an epoch"), ("warmup", warm)]
        return out

    def whole(self) -> list[tuple[str, str]]:
        form, out = self.form, self.outcome
        runs = len(out.runs) if out is not None else 0
        on, seeds = len(form.on), len(form.seeds.split())
        word = "variant" if on == 1 else "variants"
        rows = [("runs", f"{on} {word} × {seeds} = {on * seeds}" if form.source != "fork" else "1, from a checkpoint")]
        if out is not None and out.tries:
            rows.append(("", f"and {out.tries} short ones first"))
        if out is not None and out.done and runs:
            rows.append(("", f"{out.done} of them {'is' if out.done == 1 else 'are'} finished"))
        seconds, study = self.seconds()
        if seconds is not None:
            rows.append(("time", f"~{short_clock(seconds / max(1, runs))} each, as {clean(study)}"))
        else:
            rows.append(("time", "? nothing like it ran"))
        gpus = self.store.hardware.gpus
        free = sum(1 for gpu in gpus if not gpu.busy)
        rows.append(("GPUs", f"{free} of {len(gpus)} free" if gpus else "none here: on the CPU"))
        if seconds is not None and out is not None:
            tries = seconds * form.try_share * out.tries / max(1, runs)
            rows.append(("ends in", f"about {short_clock((seconds + tries) / max(1, min(free, runs)))}"))
        disk = self.disk()
        if disk is not None:
            have = self.store.hardware.disk_free
            rows.append(("disk", f"~{runs} × {size_text(disk)}" + (f" of {size_text(have)}" if have else "")))
        if self.logout:
            words = {"yes": "runs survive it here", "no": "ends runs: see doctor"}
            rows.append(("logout", words.get(self.logout, "survival not known")))
        return rows

    def seconds(self) -> tuple[float | None, str]:
        """Training seconds of all runs one after the other, estimated from a run like them, and its study."""
        if self.outcome is None or not self.outcome.runs:
            return None, ""
        total, study = 0.0, ""
        seeds = max(1, len(self.form.seeds.split()))
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
        return max(found) if found else None


def _made(facts: Facts, width: int) -> list[Line]:
    form, out = facts.form, facts.outcome
    rows = [("kind", f"{form.kind}: a report"), ("", "nothing is trained"), *(out.makes if out is not None else ())]
    rows.append(("into", f"{form.study.rpartition('/')[2]}/report"))
    there = form.runs_dir / form.study / "report" / PAGE
    if form.kind == "bench":
        rows.append(("time", "seconds to minutes, by the benchmark"))
        if facts.store.hardware.gpus:
            rows.append(("GPU", "used by what asks for one"))
    with contextlib.suppress(OSError):
        rows.append(("there", f"made {day_text(there.stat().st_mtime)}; made anew"))
    lines: list[Line] = []
    for what, words in rows:
        for number, text in enumerate(wrap(clean(words), width - 12)[:4]):
            lines.append([(fit("" if number else clean(what), 12), "dim"), (fit(text, width - 12), "")])
    return lines


def narrow(facts: Facts, width: int, height: int) -> list[Line]:
    """What follows from the settings of the highlighted variant, at 80 columns."""
    form = facts.form
    name = form.variant
    title = f"{form.letter(name)}: {clean(form.label(name))}"
    body: list[Line] = []
    if form.kind != "train":
        title = "what it makes"
        body = [[("│ ", "rule"), *line] for line in _made(facts, width - 2)]
    for what, words in () if form.kind != "train" else [*facts.variant(name), *facts.whole()]:
        body.append(
            [
                ("│ ", "rule"),
                (fit(what, 12) if what or len(words) < width - 14 else "", "dim"),
                (fit(words, width - 14 if what or len(words) < width - 14 else width - 2), ""),
            ]
        )
    body += [[("│", "rule")] for _ in range(height - 1 - len(body))]
    head = rule(width - 1, title)
    return [[("┬", "rule"), *head], *body]


_ROWS = (
    "system",
    "file",
    "n",
    "vectors",
    "in use",
    "nearest",
    "near in use",
    "sure below",
    "parameters",
    "CE would add",
    "memory",
    "steps",
    "an epoch",
    "warmup",
)


def wide(facts: Facts, width: int, height: int) -> list[Line]:
    """The framed pane with a column per variant; those around the highlighted one where there are many."""
    form, inner = facts.form, width - 2
    if form.kind != "train":
        return frame([[(" ", ""), *line] for line in _made(facts, inner - 2)], width, height, "what it makes")
    names = form.names
    fits = max(1, (inner - 14) // CELL)
    start = max(0, min(names.index(form.variant) - fits // 2, len(names) - fits))
    shown = names[start : start + fits]
    tables = {name: cells(facts.numbers(name), facts.form.mark("model.dim", name)) for name in shown}
    head: Line = [(" " * 14, "")]
    for name in shown:
        style = "accent" if name == form.variant else "dim" if name not in form.on else "bold"
        head.append((fit(form.letter(name), CELL - 1, ">") + " ", style))
    body = [head]
    for row in _ROWS:
        if row == "file" and not any(row in table for table in tables.values()):
            continue
        line: Line = [(fit(f" {row}", 14), "dim")]
        for name in shown:
            style = "dim" if name not in form.on else ""
            line.append((fit(tables[name].get(row, "-"), CELL - 1, ">") + " ", style))
        body.append(line)
    if not facts.sizes and facts.outcome is not None and facts.outcome.variants:
        body.append([(fit(f" {facts.silent}", inner), "dim")])
    body.append([])
    body += [[(fit(f" {what}", 14), "dim"), (fit(words, inner - 14), "")] for what, words in facts.whole()]
    right = f"{form.letter(form.variant)}: {clean(form.label(form.variant))}"
    return frame([pad(line, inner) for line in body], width, height, "what follows", right)


def cells(got: Numbers, mark: str) -> dict[str, str]:
    """Row of the wide table -> what one variant has there."""
    if not got:
        return {}
    # Of a file its name, with the end, where names differ.
    name = clean(got.get("system") or got.get("method") or "-")
    name = name.rpartition("/")[2] if name.startswith("file:") else name
    name = name if len(name) < CELL else "…" + name[-(CELL - 2) :]
    n = grouped(got["n"]) if got.get("n") is not None else "?"
    out = {"system": name, "n": f"{n}{'*' if mark == '*' else ''}"}
    if got.get("system"):
        out["vectors"] = short(got["count"])
        out["in use"] = share(got["in_use"])
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
        out["steps"] = short(got["total_steps"])
        out["an epoch"] = short(got["steps_per_epoch"])
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
