"""The panels of Monitor as lines: head, machine, settings, events; and which metrics share a chart. Pure functions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from rich.cells import cell_len

from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import clock, duration, grouped
from lsc_engine.common.hardware import Gpu
from lsc_engine.common.settings import lookup
from lsc_engine.runs.metrics.machine import Sample
from lsc_engine.runs.settings import settings_of
from lsc_tui.data.run_view import (
    ACCURACY,
    LOSS,
    SPEED,
    Curves,
    RunView,
    Store,
    finite,
    gpu_number,
    reference_of,
    reference_words,
    setting_differences,
    value_text,
)
from lsc_tui.lines import STATES, Line, bar, clean, ends, fit, loss_text, pad, size_text, time_of_day, width_of, wrap
from lsc_tui.widgets.chart import Look, is_share, loss_word, waiting_words
from lsc_tui.widgets.panel import Sheet

MARKS = {"paper": "P", "inferred": "I", "ours": "O"}
# States whose sentence stands in place of the epochs; of a run at work it stands in the rule above the machine.
_EXPLAINED = ("queued", "starting", "failed", "diverged", "lost", "stalled", "stopped", "unreadable")
_STAMP = re.compile(r"(\d\d:\d\d:\d\d) (.*)")

Family = tuple[str, ...]  # metrics on one chart
GRIDS = ((2, 1), (2, 2), (3, 3), (4, 4))  # columns and rows of charts
SMALLEST_CHART = (18, 5)
LETTER_WORDS = {"t": "train", "v": "val", "o": "old", "n": "new"}
# What is drawn beside the first of them, on one chart.
_BESIDE = {LOSS: ("val/loss",), ACCURACY: ("val/accuracy", "train/accuracy_augmented")}
_FIRST = (SPEED, "lr", "speed/data_wait")
# A metric per layer, and one of the classes known before and of the new ones, share a chart.
_ONE_OF_MANY = re.compile(r"^(.*?)[_/.-]?(\d+|old|new)$")


def families(names: tuple[str, ...], words: str = "") -> list[Family]:
    """The metrics that share a chart, loss and accuracy first, then speed and learning rate, then the others. `words`:
    only those one of whose names holds them, as a regular expression where they are one."""
    out = [(first, *(n for n in beside if n in names)) for first, beside in _BESIDE.items()]
    placed = {name for family in out for name in family}
    many: dict[str, list[tuple[int, str]]] = {}
    for name in sorted(n for n in names if n not in placed):
        found, number = _ONE_OF_MANY.match(name), re.search(r"(\d+)$", name)
        many.setdefault(found[1] if found else name, []).append((int(number[1]) if number else -1, name))
    rest = [tuple(name for _, name in sorted(group)) for group in many.values()]
    rest.sort(key=lambda group: (_FIRST.index(group[0]) if group[0] in _FIRST else len(_FIRST), group[0]))
    try:
        holds = re.compile(words, re.IGNORECASE)
    except re.error:
        holds = re.compile(re.escape(words), re.IGNORECASE)
    return [family for family in out + rest if any(map(holds.search, family))]


def letter_of(name: str, family: Family) -> str:
    """What stands at the end of a curve that shares its chart: t, v, the number of the layer, o, n."""
    if len(family) < 2 or name.endswith("augmented"):
        return ""
    found, first = _ONE_OF_MANY.match(name), _ONE_OF_MANY.match(family[0])
    if found and found[1] == (first[1] if first else ""):
        return found[2] if found[2].isdigit() else found[2][0]
    return {"train": "t", "val": "v"}.get(name.partition("/")[0], "")


def title_words(view: RunView, family: Family, look: Look, *, wide: bool) -> str:
    """The title of the chart of a family."""
    name = family[0]
    if name == LOSS:
        smooth = look.smoothing_words + (", raw dim" if wide else "")
        words = [name, loss_word(view.loss_group), smooth if look.smoothing else ""]
    elif name == ACCURACY:
        count = lookup(view.config, "eval.images")
        images = f", {grouped(count)} fixed images" if isinstance(count, int) else ""
        words = [f"{name} %", f"eval mode{images}"] if wide else ["accuracy %"]
    else:
        found = _ONE_OF_MANY.match(name) if len(family) > 1 else None
        letters = f" {letter_of(name, family)}…{letter_of(family[-1], family)}" if found else ""
        words = [clean(found[1] if found else name) + letters + (" %" if is_share(name) else "")]
    words += [look.y_words(name), look.axis if look.axis != "epoch" else ""]
    return " · ".join(word for word in words if word)


def head(view: RunView, width: int, *, wide: bool, ahead: Sequence[RunView] = (), most: int = 2) -> list[Line]:
    """State line and progress bar; with them, where one says why the run waits or what went wrong, its sentence, in at
    most `most` lines."""
    status, total = view.status, view.epochs
    speed = finite(view.last(SPEED)) if view.state in ("running", "stopping") else None
    pace = f"took {clock(status.seconds)}" if status.seconds else ""
    if status.active and view.state != "stalled":
        pace = (f"{grouped(speed)} img/s   " if speed is not None else "") + f"ETA {clock(status.eta)}"
    epochs = ""
    if status.epoch is not None and total:
        whole = f"{total:.0f}" if total >= 100 or total == round(total) else f"{total:.1f}"
        epochs = f"epoch {status.epoch:.1f} of {whole}"
    name = f"{' ' * wide}{STATES.get(view.state, ('✗', 'x'))[0]} {fit(view.state, 9)} "
    left: Line = [(name, f"state-{view.state}"), (clean(f"{view.study} › {view.label} · s{view.seed}"), "bold")]
    if wide:
        steps = f"step {grouped(status.step)} of {grouped(status.total_steps)}" if status.total_steps else ""
        attempt = f"attempt {status.attempt}" if status.attempt else ""
        pace = "   ".join(filter(None, (attempt, epochs, steps, pace)))
        # Short id, host, device and process, as many of them as there is room for.
        number, host = gpu_number(status.device), status.host.split(".")[0]
        place = f"   {host} GPU {number}" if number is not None else f"   {host} {status.device}"
        pid = f"   pid {status.pid}" if status.pid else ""
        texts = [clean(f"   {view.short}{text}") for text in (f"   {place}{pid}", place, "")]
        room = width - width_of(left) - cell_len(pace) - 1
        left.append((next((text for text in texts if cell_len(text) <= room), ""), "dim"))
    first = pad(ends(left, [(pace, "")], width), width)
    text, style = _news(view, ahead)
    if text and (view.state in _EXPLAINED or not status.step):
        progress: Line = [(bar(view.done, max(10, width // 4)), "bar"), (f" {100 * view.done:.0f}%  ", "")]
        lines = [text] if width_of(progress) + cell_len(text) <= width else ["", *wrap(text, width - 1)]
        if len(lines) > most:
            lines = [*lines[: most - 1], fit(f"{lines[most - 1]} … all of it in the log", width - 1)]
        return [first, pad([*progress, (lines[0], style)], width), *([(f" {line}", style)] for line in lines[1:])]
    tail = f"   {100 * view.done:.1f}%" if wide else f"   {100 * view.done:.0f}%  {epochs}"
    room = max(4, width - len(tail) - 2 * wide)
    return [first, pad([(" " * wide, ""), (bar(view.done, room), "bar"), (tail, "")], width)]


def _news(view: RunView, ahead: Sequence[RunView]) -> tuple[str, str]:
    """The sentence that stands in place of the epochs, why it waits or what went wrong, and its style."""
    status, state = view.status, view.state
    if state == "queued":
        behind = f" after {clean(ahead[0].label)} s{ahead[0].seed}" if ahead else ""
        then = "S cancels its job" if status.scheduler else "R starts it out of its turn"
        return f"{waiting_words(view)}{behind}. {then}", "state-queued"
    if state == "starting" and not status.step:
        return "starting: reading data and compiling the model (usually under 2 min)", "state-starting"
    if state not in _EXPLAINED and not status.message:
        return "", ""
    code = f"exit {status.exit_code}: " if state == "failed" and status.exit_code is not None else ""
    return clean(f"{code}{' '.join(status.news.split())}").strip(), f"state-{state}" if state in STATES else "error"


def gpu_of(store: Store, view: RunView) -> Gpu | None:
    """The GPU that a run of this host uses: by its process, else by the index of its device."""
    if view.status.host.split(".")[0] != store.host:
        return None
    for gpu in store.hardware.gpus:
        if any(pid == view.status.pid for pid, _ in gpu.processes):
            return gpu
    number = gpu_number(view.status.device)
    return next((gpu for gpu in store.hardware.gpus if gpu.index == number), None)


def _text(value: float | None, form: str = "{:.0f}%", unit: float = 1.0) -> str:
    return "n/a" if value is None else form.format(value / unit)


def _giga(value: float | None, form: str = "{:.1f}") -> str:
    return _text(value, form, 1e9)


def _share(value: float | None, of: float | None = 100.0) -> float | None:
    return None if value is None or not of else value / of


def _heat(gpu: Gpu, unit: str = "/{:.0f}W", gap: str = "  ") -> str:
    """Power, with its limit where that is known, and temperature."""
    limit = unit.format(gpu.power_limit) if gpu.power_limit is not None else unit[-1:] if unit[0] == "/" else ""
    return f"{_text(gpu.power, '{:.0f}' + limit)}{gap}{_text(gpu.temperature, '{:.0f}°C')}"


def _sampled(sample: Sample, now: float, width: int) -> list[Line]:
    """What a run's process last sampled of its machine, for a run of another host."""
    hw = sample.hardware
    values = [(hw.cpu, "cpu {:.0f}%", 1.0), (sample.load, "load {:.2f}/cpu", 1.0), (hw.memory, "ram {:.0f}G", 1e9)]
    values.append((hw.disk_free, "disk {:.0f}G free", 1e9))
    parts = [_text(value, form, unit) for value, form, unit in values if value is not None]
    groups = [(hw.cpu, [*parts, f"{duration(now - sample.time, 0)} ago"])]
    for gpu in hw.gpus:
        speed = [] if gpu.clock is None else [f"{gpu.clock:.0f} MHz"]
        parts = [f"GPU {gpu.index} {_text(gpu.util)}", f"mem {_giga(gpu.memory)}G", _heat(gpu), *speed]
        groups.append((gpu.util, [*parts, *map(clean, gpu.throttled)]))
    out: list[Line] = []
    for value, found in groups:
        out.append([(bar(_share(value), 8), "bar")])
        for part in found:
            if width_of(out[-1]) + 2 + cell_len(part) > width:
                out.append([(" " * 8, "")])
            out[-1] = [*out[-1], (f"  {part}", "")]
    return out


def machine(store: Store, view: RunView, width: int, *, framed: bool, last_event: str, now: float) -> Sheet:
    """GPU, processor, memory and disk of the run's machine: as seen from here, else as its process sampled them."""
    hw, status, gpu, curves = store.hardware, view.status, gpu_of(store, view), store.curves.get(view.key)
    here = status.host.split(".")[0] == store.host or not status.host
    wait = finite(status.metrics.get("speed/data_wait"))
    waiting = "" if wait is None else f"data wait {100 * wait:.0f}%"
    disk = "" if hw.disk_free is None else f"{_giga(hw.disk_free, '{:.0f}')}G free"
    sample = curves.machine if curves is not None and not here else None
    memory, whole = (_giga(value, "{:.0f}") for value in (hw.memory, hw.memory_total))
    where = clean(status.device if here else f"{status.host} {status.device}")
    others = [user or "someone" for pid, user in gpu.processes if pid != status.pid] if gpu is not None else []
    alone = f"shared with {clean(', '.join(dict.fromkeys(others)))}" if others else "only this run"
    sampled = _sampled(sample, now, width - 2 * framed) if sample else []
    body: list[Line] = []

    def meter(name: str, room: int, share: float | None, cells: int, text: str) -> None:
        body.append([(fit(name, room), ""), (bar(share, cells), "bar"), (text, "")])

    if not framed:
        if gpu is not None:
            name = f"GPU {gpu.index} {clean(gpu.name).replace('NVIDIA ', '').split('-')[0]}"
            text = f"mem {_giga(gpu.memory)}/{_giga(gpu.memory_total)}G  {_heat(gpu)}  {alone}"
            meter(name, 17, _share(gpu.util), 8, f" {_text(gpu.util)}  {text}")
        if here and hw.cpu is not None:
            text = "  ".join(filter(None, (f"ram {memory:>4}/{whole}G", waiting, disk and f"disk {disk}")))
            meter(f"host {clean(store.host)}", 17, hw.cpu / 100, 8, f" {hw.cpu:.0f}%  {text}")
        if not here:
            body += [*sampled, [(where if sample else f"{where}: cannot see that host from here", "dim")]]
        elif gpu is None:
            body.append([(f"{where or 'no device yet'}  {clean(hw.gpu_problem)}", "dim")])
        return "machine", last_event, body
    if gpu is not None:
        memory_used = f"{_giga(gpu.memory)} of {_giga(gpu.memory_total)} GB"
        body.append([(fit(f"GPU {gpu.index}   {clean(gpu.name)}   {alone}", width - 2), "")])
        meter("util", 8, _share(gpu.util), 16, f"  {_text(gpu.util)}")
        meter("memory", 8, _share(gpu.memory, gpu.memory_total), 16, f"  {memory_used}")
        heat = _heat(gpu, " of {:.0f} W", "   ").removesuffix("   n/a")
        meter("power", 8, _share(gpu.power, gpu.power_limit), 16, f"  {heat}")
        if gpu.throttled:
            body.append([(fit(f"held down: {', '.join(map(clean, gpu.throttled))}", width - 2), "warn")])
    if here and hw.cpu is not None:
        meter("host", 8, hw.cpu / 100, 16, f"  {hw.cpu:.0f}% of {hw.cpus}   ram {memory}/{whole} GB")
    if not here:
        body += [[(where, "")], *(sampled or [[("cannot see that host from here", "dim")]])]
    elif gpu is None:
        problem = f"   ({clean(hw.gpu_problem)})" if hw.gpu_problem and not status.device.startswith("cpu") else ""
        lines = wrap(f"{where or 'none yet'}{problem}", width - 12)
        body += [[(f"{'device' * (not i):<8}{line}", "")] for i, line in enumerate(lines)]
    step = f"{1000 * status.step_seconds:.2f} ms" if status.step_seconds else ""
    body += [[(f"{name:<8}{text}", "")] for name, text in (("data", waiting), ("step", step), ("disk", disk)) if text]
    if status.active and status.changed is not None:
        body.append([(f"news    {duration(now - status.changed, 0)} ago", "dim")])
    return "machine", "every 2 s", [[(" ", ""), *line] for line in body]


def difference_line(store: Store, view: RunView, width: int) -> Sheet:
    """The settings that differ from the pinned run or the baseline, in a line."""
    base, _ = reference_of(store, view)
    if base is None:
        system, n = (value_text(lookup(view.config, name)) for name in ("target.system", "model.dim"))
        ce = lookup(view.config, "target.method") == "ce"
        title, text = "settings", f"{'cross-entropy' if ce else system} n = {n}"
    else:
        title = f"settings that differ from {reference_words(store, base)}"
        text = "   ".join(f"{name} {own} ({other})" for name, own, other in setting_differences(view, base))
    return title, "d all settings", [[(fit(clean(text or "no setting differs"), width), "")]]


def nearest_text(view: RunView) -> str:
    """The smallest angle of the vectors in use and the loss under which a label is surely right."""
    names = ("target.system", "model.dim", "data.classes")
    name, n, classes = (lookup(view.config, key) for key in names)
    if not isinstance(name, str) or not isinstance(n, int) or lookup(view.config, "target.method") == "ce":
        return ""
    from lsc_engine.vectors.registry import facts

    try:
        known = facts(name, n, classes if isinstance(classes, int) else None)
    except (LscError, ValueError, OverflowError):
        return ""
    angle, sure = known.min_angle_deg, known.guaranteed_below
    return "" if math.isnan(angle) else f"{angle:.1f}°, surely right below {loss_text(sure)}"


def settings_panel(view: RunView, width: int, height: int) -> Sheet:
    """The main settings in words: name, value, whose (P, I or O, as the preset says)."""
    body: list[Line] = []
    for name, text, key in _main_settings(view)[: height - 1]:
        value: Line = [(fit(clean(text), width - 17), ""), (f"  {_whose(view, key)}", "accent")]
        body.append([(" ", ""), (fit(name, 11), "dim"), *value])
    body += [[] for _ in range(height - 1 - len(body))]
    return "settings", "d all", [*body, _WHOSE]


def all_settings(view: RunView) -> list[Line]:
    """Every setting that acts: whose, name, value."""
    settings = settings_of(view.config)
    room, out = max(map(len, settings), default=0), list[Line]()
    for name, value in settings.items():
        mark = (f" {_whose(view, name)} ", "accent")
        out.append([mark, (f"{name:<{room}}  ", "dim"), (clean(value_text(value)), "")])
    return [_WHOSE, [], *out]


def _whose(view: RunView, key: str) -> str:
    provenance = view.config.get("provenance")
    words = str(provenance.get(key) or "") if isinstance(provenance, dict) else ""
    return MARKS.get(words.partition(":")[0].strip(), " ") if key else "-"


def _main_settings(view: RunView) -> list[tuple[str, str, str]]:
    """The main settings: name, words, the key whose provenance is theirs."""
    c = view.config

    def get(*names: str) -> str:
        return " ".join(value_text(lookup(c, name)) for name in names)

    classes = lookup(c, "data.classes")
    count = grouped(classes) if isinstance(classes, int) else ""
    lsc = lookup(c, "target.method") != "ce"
    fixed = "" if lookup(c, "model.etf_layers") is None else f", ETF {get('model.etf_layers', 'model.etf_frame')}"
    optimizer = f"{get('optimizer.name')} lr {get('optimizer.lr')} wd {get('optimizer.weight_decay')}"
    rows = [
        ("data", f"{get('data.dataset', 'data.labels')} {count}, {get('data.image_size')} px", "data.classes"),
        ("model", get("model.name") + fixed, "model.name"),
        ("dim", get("model.dim"), "model.dim"),
        ("system", f"{get('target.system', 'target.order')}, seed {view.seed}" if lsc else "-", "target.system"),
        ("nearest", nearest_text(view), ""),
        ("loss", get("target.loss") if lsc or lookup(c, "target.loss") else "cross-entropy", "target.loss"),
        ("optimizer", f"{optimizer}, {get('optimizer.schedule')}", "optimizer.lr"),
        ("train", f"batch {', '.join(map(get, _TRAIN))}", "train.batch_size"),
        ("augment", get("data.augment"), "data.augment"),
    ]
    return [row for row in rows if row[1]]


_WHOSE: Line = [(" P paper  I inferred  O ours", "dim")]
_TRAIN = ("train.batch_size", "train.duration", "train.precision")


def events_of(log: Sequence[str]) -> list[tuple[str, str]]:
    """Time and text of the log's lines that are not the regular ones, newest first."""
    found = ((m[1], m[2]) for m in map(_STAMP.match, reversed(log)) if m is not None)
    return [(stamp, text) for stamp, text in found if not text.startswith("epoch ") and text.strip()]


def events_panel(
    view: RunView, curves: Curves | None, log: Sequence[str], width: int, height: int, *, framed: bool = True
) -> Sheet:
    """What happened, newest first, and (framed) below it what evaluation says of the embeddings."""
    found, inner, body = events_of(log), width - (2 if framed else 0), list[Line]()
    below = list[str]()
    if framed:
        # How many images lie nearest a wrong centre, and how many are closer to their own than half the angle.
        accuracy, inside = (finite(view.status.metrics.get(name)) for name in (ACCURACY, "train/inside"))
        lsc = lookup(view.config, "target.method") != "ce"
        if lsc and accuracy is not None:
            below.append(f"images nearest a wrong centre: {100 * (1 - accuracy):.1f} %")
        if lsc and inside is not None:
            below.append(f"images closer than half the angle: {100 * inside:.1f} %")
        if curves is not None and curves.checkpoints:
            step, _, size = curves.checkpoints[-1]
            below.append(f"checkpoints {len(curves.checkpoints)}, newest step {grouped(step)}, {size_text(size)}")
        if view.status.message and view.state not in _EXPLAINED:
            body += [[(f" {line}", "warn")] for line in wrap(clean(view.status.message), inner)[:2]]
        if view.status.started is not None:
            attempt = f", attempt {view.status.attempt}" if view.status.attempt else ""
            found.append((time_of_day(view.status.started), f"started{attempt}"))
    lines = [(stamp * (not i), line) for stamp, text in found for i, line in enumerate(wrap(clean(text), inner - 11))]
    for stamp, line in lines[: max(0, height - len(body) - len(below) - bool(below))]:
        body.append([(" " * framed, ""), (f"{stamp:<8}  ", "dim"), (line, "")])
    if below:
        body += [[] for _ in range(height - len(below) - len(body))]
        body += [[(fit(f" {line}", inner), "dim")] for line in below]
    # What the signs on the charts' axes say.
    resumed, fixed = (bool(curves.resumed), bool(curves.fixed)) if curves is not None and framed else (False, False)
    signs = ", ".join(["R"] * resumed + ["| layers fixed"] * fixed)
    return "events", f"{signs} in the charts" if signs else "", body


def last_event(view: RunView, log: Sequence[str], width: int) -> str:
    """What the run says of itself, else the newest event that is not a checkpoint: for the machine rule at 80
    columns, and for the message line where there is one."""
    attempt = f"attempt {view.status.attempt}: " if view.status.attempt > 1 else ""
    text = next((text for _, text in events_of(log) if not text.startswith("checkpoint")), "")
    words = f"{attempt}{text}" if text else attempt.rstrip(": ")
    if view.status.message and view.state not in _EXPLAINED:
        words = view.status.message
    return fit(clean(words), min(width - 16, len(words))).rstrip()
