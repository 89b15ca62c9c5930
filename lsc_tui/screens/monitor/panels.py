"""The panels of Monitor as lines: head, machine, settings, events. Pure functions of views."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from rich.cells import cell_len

from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import clock, duration, grouped
from lsc_engine.common.hardware import Gpu
from lsc_engine.common.settings import lookup
from lsc_engine.runs.metrics.machine import Sample
from lsc_engine.runs.settings import settings_of
from lsc_tui.data.run_view import (
    ACCURACY,
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
from lsc_tui.lines import (
    STATES,
    Line,
    bar,
    clean,
    ends,
    fit,
    frame,
    loss_text,
    pad,
    rule,
    size_text,
    time_of_day,
    width_of,
    wrap,
)
from lsc_tui.widgets.series import place_words

# What draws the watched run in a panel of this width and height.
DrawRun = Callable[[RunView, int, int], list[Line]]
MARKS = {"paper": "P", "inferred": "I", "ours": "O"}


def _study_and_run(view: RunView) -> str:
    return clean(f"{view.study} › {view.label} · s{view.seed}")


def _pace(view: RunView) -> str:
    """Speed and ETA, or how long it took."""
    speed = finite(view.speed)
    images = f"{grouped(speed)} img/s   " if speed is not None and view.state in ("running", "stopping") else ""
    if view.status.active and view.state != "stalled":
        return f"{images}ETA {clock(view.status.eta)}"
    return f"took {clock(view.status.seconds)}" if view.status.seconds else ""


def head(view: RunView, width: int, *, wide: bool, ahead: Sequence[RunView] = (), most: int = 2) -> list[Line]:
    """State line and progress bar; with them, where one says why the run waits or what went wrong, its sentence, in at
    most `most` lines."""
    glyph = STATES.get(view.state, ("✗", "x"))[0]
    status = view.status
    epoch, total = status.epoch, view.epochs
    epochs = f"epoch {epoch:.1f} of {_epochs(total)}" if epoch is not None and total else ""
    steps = f"step {grouped(status.step)} of {grouped(status.total_steps)}" if status.total_steps else ""
    name = f"{' ' if wide else ''}{glyph} {fit(view.state, 9)} "
    left: Line = [(name, f"state-{view.state}"), (_study_and_run(view), "bold")]
    if wide:
        right = "   ".join(p for p in (f"attempt {status.attempt}", epochs, steps, _pace(view)) if p)
        room = width - width_of(left) - cell_len(right) - 1
        first = ends([*left, (_where(view, room), "dim")], [(right, "")], width)
    else:
        first = ends(left, [(_pace(view), "")], width)
    tail = f"   {100 * view.done:.0f}%  {epochs}" if not wide else f"   {100 * view.done:.1f}%"
    news = _update(view, ahead)
    if news and (view.state in _TOLD or not status.step):
        progress: Line = [(bar(view.done, max(10, width // 4)), "bar"), (f" {100 * view.done:.0f}%  ", "")]
        text, style = news
        lines = [text] if width_of(progress) + cell_len(text) <= width else ["", *wrap(text, width - 1)]
        if len(lines) > most:
            lines = [*lines[: most - 1], fit(f"{lines[most - 1]} … all of it in the log", width - 1)]
        return [
            pad(first, width),
            pad([*progress, (lines[0], style)], width),
            *(pad([(f" {line}", style)], width) for line in lines[1:]),
        ]
    room = max(4, width - len(tail) - (2 if wide else 0))
    progress = [(" " if wide else "", ""), (bar(view.done, room), "bar"), (tail, "")]
    return [pad(first, width), pad(progress, width)]


def _where(view: RunView, room: int) -> str:
    """Short id, host, device and process, as many of them as there is room for."""
    number, host = gpu_number(view.status.device), view.status.host.split(".")[0]
    place = f"{host} GPU {number}" if number is not None else f"{host} {view.status.device}"
    pid = f"   pid {view.status.pid}" if view.status.pid else ""
    texts = [
        clean(text) for text in (f"   {view.short}      {place}{pid}", f"   {view.short}   {place}", f"   {view.short}")
    ]
    return next((text for text in texts if cell_len(text) <= room), "")


def _epochs(total: float) -> str:
    return f"{total:.0f}" if total >= 100 or total == round(total) else f"{total:.1f}"


# States whose sentence stands in place of the epochs; of a run at work it stands in the rule above the machine.
_TOLD = ("queued", "starting", "failed", "diverged", "lost", "stalled", "stopped", "unreadable")


def _update(view: RunView, ahead: Sequence[RunView]) -> tuple[str, str] | None:
    """The sentence that stands in place of the epochs: why it waits, or what went wrong."""
    status = view.status
    if view.state == "queued":
        place = place_words(view.place)
        behind = f" after {clean(ahead[0].label)} s{ahead[0].seed}" if ahead else ""
        return (f"{place} in line{behind}. R starts it out of its turn", "state-queued")
    if view.state == "starting" and not status.step:
        return ("starting: reading data and compiling the model (usually under 2 min)", "state-starting")
    if view.state in _TOLD or status.message:
        code = f"exit {status.exit_code}  " if view.state == "failed" and status.exit_code is not None else ""
        text = clean(f"{code}{' '.join(status.news.split())}").strip()
        return (text, f"state-{view.state}" if view.state in STATES else "error") if text else None
    return None


def gpu_of(store: Store, view: RunView) -> Gpu | None:
    """The GPU that a run of this host uses: by its process, else by the index of its device."""
    if view.status.host.split(".")[0] != store.host:
        return None
    for gpu in store.hardware.gpus:
        if any(pid == view.status.pid for pid, _ in gpu.processes):
            return gpu
    number = gpu_number(view.status.device)
    return next((gpu for gpu in store.hardware.gpus if gpu.index == number), None)


def _giga(value: float | None, digits: int = 1) -> str:
    return "n/a" if value is None else f"{value / 1e9:.{digits}f}"


def _alone(gpu: Gpu, view: RunView) -> str:
    others = [user or "someone" for pid, user in gpu.processes if pid != view.status.pid]
    return f"shared with {clean(', '.join(dict.fromkeys(others)))}" if others else "only this run"


def _sampled(sample: Sample, now: float, width: int) -> list[Line]:
    """What a run's process last sampled of its machine, for a run of another host."""
    hw = sample.hardware
    parts = [
        "" if hw.cpu is None else f"cpu {hw.cpu:.0f}%",
        "" if sample.load is None else f"load {sample.load:.2f}/cpu",
        "" if hw.memory is None else f"ram {_giga(hw.memory, 0)}G",
        "" if hw.disk_free is None else f"disk {_giga(hw.disk_free, 0)}G free",
        f"{duration(now - sample.time, 0)} ago",
    ]
    groups = [(hw.cpu, [part for part in parts if part])]
    for gpu in hw.gpus:
        parts = [f"GPU {gpu.index} {_percent(gpu.util)}", f"mem {_giga(gpu.memory)}G", _heat(gpu)]
        parts += [] if gpu.clock is None else [f"{gpu.clock:.0f} MHz"]
        groups.append((gpu.util, [*parts, *map(clean, gpu.throttled)]))
    out: list[Line] = []
    for value, found in groups:
        out.append([(bar(None if value is None else value / 100, 8), "bar")])
        for part in found:
            if width_of(out[-1]) + 2 + cell_len(part) > width:
                out.append([(" " * 8, "")])
            out[-1] = [*out[-1], (f"  {part}", "")]
    return out


def machine(
    store: Store, view: RunView, width: int, height: int, *, framed: bool, last_event: str, now: float
) -> list[Line]:
    """GPU, processor, memory and disk of the run's machine: as seen from here, else as its process sampled them."""
    hw = store.hardware
    gpu = gpu_of(store, view)
    here = view.status.host.split(".")[0] == store.host or not view.status.host
    wait = view.status.metrics.get("speed/data_wait")
    waiting = f"data wait {100 * wait:.0f}%  " if finite(wait) is not None and wait is not None else ""
    disk = f"disk {hw.disk_free / 1e9:.0f}G free" if hw.disk_free is not None else ""
    curves = store.curves.get(view.key)
    sample = curves.machine if curves is not None else None
    body: list[Line] = []
    if not framed:
        if gpu is not None:
            body.append(_gpu_narrow(gpu, view))
        if here and hw.cpu is not None:
            ram = f"ram {_giga(hw.memory, 0):>4}/{_giga(hw.memory_total, 0)}G"
            cpu: Line = [(fit(f"host {clean(store.host)}", 17), ""), (bar(hw.cpu / 100, 8), "bar")]
            body.append([*cpu, (f" {hw.cpu:.0f}%  {ram}  {waiting}{disk}", "")])
        if not here:
            where = f"{clean(view.status.host)} {clean(view.status.device)}"
            body += _sampled(sample, now, width) if sample else []
            body.append([(where if sample else f"{where}: cannot see that host from here", "dim")])
        elif gpu is None:
            where = clean(view.status.device) or "no device yet"
            body.append([(f"{where}  {clean(hw.gpu_problem)}", "dim")])
        return [rule(width, "machine", last_event), *body]
    if gpu is not None:
        body += _gpu_wide(gpu, view, width - 4)
    if here and hw.cpu is not None:
        ram = f"ram {_giga(hw.memory, 0)}/{_giga(hw.memory_total, 0)} GB"
        body.append([("host    ", ""), (bar(hw.cpu / 100, 16), "bar"), (f"  {hw.cpu:.0f}% of {hw.cpus}   {ram}", "")])
    if not here:
        body.append([(f"{clean(view.status.host)} {clean(view.status.device)}", "")])
        body += _sampled(sample, now, width - 4) if sample else [[("cannot see that host from here", "dim")]]
    elif gpu is None:
        problem = f"   ({clean(hw.gpu_problem)})" if hw.gpu_problem and not view.status.device.startswith("cpu") else ""
        body.append([(f"device  {clean(view.status.device) or 'none yet'}{problem}", "")])
    if waiting:
        body.append([(f"data    {waiting}", "")])
    if view.status.step_seconds:
        body.append([(f"step    {1000 * view.status.step_seconds:.2f} ms", "")])
    if disk:
        body.append([(f"disk    {disk.removeprefix('disk ')}", "")])
    if view.status.active and view.status.changed is not None:
        body.append([(f"news    {duration(now - view.status.changed, 0)} ago", "dim")])
    lines: list[Line] = [[(" ", ""), *line] for line in body]
    return frame(lines, width, height, "machine", "every 2 s")


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.0f}%"


def _heat(gpu: Gpu) -> str:
    """Power, with its limit where that is known, and temperature."""
    limit = "" if gpu.power_limit is None else f"/{gpu.power_limit:.0f}"
    power = "n/a" if gpu.power is None else f"{gpu.power:.0f}{limit}W"
    return f"{power}  {'n/a' if gpu.temperature is None else f'{gpu.temperature:.0f}°C'}"


def _gpu_narrow(gpu: Gpu, view: RunView) -> Line:
    name = clean(gpu.name).replace("NVIDIA ", "").split("-")[0]
    memory = f"{_giga(gpu.memory)}/{_giga(gpu.memory_total)}G"
    text = f" {_percent(gpu.util)}  mem {memory}  {_heat(gpu)}  {_alone(gpu, view)}"
    share = None if gpu.util is None else gpu.util / 100
    return [(fit(f"GPU {gpu.index} {name}", 17), ""), (bar(share, 8), "bar"), (text, "")]


def _gpu_wide(gpu: Gpu, view: RunView, width: int) -> list[Line]:
    def row(name: str, share: float | None, text: str) -> Line:
        return [(f"{name:<8}", ""), (bar(share, 16), "bar"), (f"  {text}", "")]

    memory = gpu.memory / gpu.memory_total if gpu.memory is not None and gpu.memory_total else None
    power = gpu.power / gpu.power_limit if gpu.power is not None and gpu.power_limit else None
    heat = "" if gpu.temperature is None else f"   {gpu.temperature:.0f}°C"
    limit = "" if gpu.power_limit is None else f" of {gpu.power_limit:.0f} W"
    held = [[(fit(f"held down: {', '.join(map(clean, gpu.throttled))}", width), "warn")]] if gpu.throttled else []
    return [
        [(fit(f"GPU {gpu.index}   {clean(gpu.name)}   {_alone(gpu, view)}", width), "")],
        row("util", None if gpu.util is None else gpu.util / 100, _percent(gpu.util)),
        row("memory", memory, f"{_giga(gpu.memory)} of {_giga(gpu.memory_total)} GB"),
        row("power", power, "n/a" if gpu.power is None else f"{gpu.power:.0f}{limit}{heat}"),
        *held,
    ]


def mark_of(view: RunView, name: str) -> str:
    """P, I or O: whose setting it is, as the preset says."""
    table = view.config.get("provenance")
    whose = table.get(name) if isinstance(table, dict) else None
    return MARKS.get(str(whose).partition(":")[0].strip(), " ") if whose else " "


def difference_line(store: Store, view: RunView, width: int) -> tuple[str, Line]:
    """The title of the settings rule, and the settings that differ from the pinned run or the baseline."""
    base, _ = reference_of(store, view)
    if base is None:
        system, n = (value_text(lookup(view.config, name)) for name in ("target.system", "model.dim"))
        return "settings", [(fit(clean(f"{system} n = {n}"), width), "")]
    text = "   ".join(f"{name} {own} ({other})" for name, own, other in setting_differences(view, base))
    return f"settings that differ from {reference_words(store, base)}", [
        (fit(clean(text or "no setting differs"), width), "")
    ]


def nearest_text(view: RunView) -> str:
    """The smallest angle of the vectors in use and the loss under which a label is surely right."""
    name, n = lookup(view.config, "target.system"), lookup(view.config, "model.dim")
    classes = lookup(view.config, "data.classes")
    if not isinstance(name, str) or not isinstance(n, int) or lookup(view.config, "target.method") == "ce":
        return ""
    from lsc_engine.vectors.registry import facts

    try:
        known = facts(name, n, classes if isinstance(classes, int) else None)
    except (LscError, ValueError, OverflowError):
        return ""
    if math.isnan(known.min_angle_deg):
        return ""
    return f"{known.min_angle_deg:.1f}°, surely right below {loss_text(known.guaranteed_below)}"


def settings_panel(view: RunView, width: int, height: int, *, everything: bool, top: int = 0) -> list[Line]:
    """Name, value, whose: the main ones in words, or all, from line `top` on."""
    inner = width - 4
    rows: list[tuple[str, str, str]]
    if everything:
        rows = [(name, value_text(value), mark_of(view, name)) for name, value in settings_of(view.config).items()]
    else:
        rows = _main_settings(view)
    columns = 2 if everything and width >= 76 and len(rows) > height - 4 else 1
    each = inner // columns
    name_width = min(26, max(14, each // 2 + 1)) if everything else 11
    body: list[Line] = [
        [
            (" ", ""),
            (f"{fit(name, name_width - 1)} ", "dim"),
            (fit(clean(text), each - name_width - 4), ""),
            (f"  {mark}", "accent"),
        ]
        for name, text, mark in rows
    ]
    if columns == 2:
        half = -(-len(body) // 2)
        short = [list(pad(line, each)) for line in body]
        body = [[*short[i], *(short[i + half] if i + half < len(short) else [])] for i in range(half)]
    room = max(0, height - 3)
    top = max(0, min(top, len(body) - room))
    body = [*body[top : top + room], *([] for _ in range(room - len(body)))]
    body.append([(" P paper  I inferred  O ours", "dim")])
    return frame(body, width, height, "settings", "d differing only" if everything else "d all")


def _main_settings(view: RunView) -> list[tuple[str, str, str]]:
    c = view.config

    def get(name: str) -> str:
        return value_text(lookup(c, name))

    classes = lookup(c, "data.classes")
    count = grouped(classes) if isinstance(classes, int) else ""
    lsc = lookup(c, "target.method") != "ce"
    layers = lookup(c, "model.etf_layers")
    fixed = "" if layers is None else f", ETF {get('model.etf_layers')} {get('model.etf_frame')}"
    rows = [
        ("data", f"{get('data.dataset')} {get('data.labels')} {count}, {get('data.image_size')} px", "data.classes"),
        ("model", get("model.name") + fixed, "model.name"),
        ("dim", get("model.dim"), "model.dim"),
        ("system", f"{get('target.system')} {get('target.order')}, seed {view.seed}" if lsc else "-", "target.system"),
        ("nearest", nearest_text(view), ""),
        ("loss", get("target.loss") if lsc or lookup(c, "target.loss") else "cross-entropy", "target.loss"),
        (
            "optimizer",
            f"{get('optimizer.name')} lr {get('optimizer.lr')} wd {get('optimizer.weight_decay')}, "
            f"{get('optimizer.schedule')}",
            "optimizer.lr",
        ),
        (
            "train",
            f"batch {get('train.batch_size')}, {get('train.duration')}, {get('train.precision')}",
            "train.batch_size",
        ),
        ("augment", get("data.augment"), "data.augment"),
    ]
    return [(name, text, mark_of(view, key) if key else "-") for name, text, key in rows if text]


_STAMP = re.compile(r"(\d\d:\d\d:\d\d) (.*)")


def events_of(log: Sequence[str]) -> list[tuple[str, str]]:
    """Time and text of the log's lines that are not the regular ones, newest first."""
    out = []
    for line in reversed(log):
        found = _STAMP.match(line)
        if found is not None and not found[2].startswith("epoch ") and found[2].strip():
            out.append((found[1], found[2]))
    return out


def events_panel(
    view: RunView, curves: Curves | None, log: Sequence[str], width: int, height: int, *, framed: bool = True
) -> list[Line]:
    """What happened, newest first, and (framed) below it what evaluation says of the embeddings."""
    if not framed:
        newest = events_of(log)[: max(0, height - 1)]
        rows: list[Line] = [[(f"{stamp}  ", "dim"), (fit(clean(text), width - 10), "")] for stamp, text in newest]
        return [rule(width, "events"), *rows]
    inner = width - 4
    below = _embedding_lines(view)
    if curves is not None and curves.checkpoints:
        step, _, size = curves.checkpoints[-1]
        below.append(f"checkpoints {len(curves.checkpoints)}, newest step {grouped(step)}, {size_text(size)}")
    body: list[Line] = []
    if view.status.message and view.state not in _TOLD:
        body += [[(f" {line}", "warn")] for line in wrap(clean(view.status.message), inner)[:2]]
    room = max(0, height - 2 - len(body) - len(below) - bool(below))
    found = events_of(log)
    if view.status.started is not None:
        attempt = f", attempt {view.status.attempt}" if view.status.attempt else ""
        found.append((time_of_day(view.status.started), f"started{attempt}"))
    for stamp, text in found[:room]:
        body.append([(" ", ""), (f"{stamp}  ", "dim"), (fit(clean(text), inner - 10), "")])
    if below:
        body += [[] for _ in range(height - 2 - len(below) - len(body))]
        body += [[(fit(f" {line}", inner), "dim")] for line in below]
    return frame(body, width, height, "events", _marks(curves))


def _marks(curves: Curves | None) -> str:
    """What the signs on the charts' axes say."""
    resumed, fixed = (bool(curves.resumed), bool(curves.fixed)) if curves is not None else (False, False)
    words = ["R" if resumed else "", "| layers fixed" if fixed else ""]
    return f"{', '.join(word for word in words if word)} in the charts" if resumed or fixed else ""


def _embedding_lines(view: RunView) -> list[str]:
    """How many images lie nearest a wrong centre, and how many are closer to their own than half the angle."""
    metrics = view.status.metrics
    accuracy, inside = metrics.get(ACCURACY), metrics.get("train/inside")
    lsc = lookup(view.config, "target.method") != "ce"
    out = []
    if lsc and accuracy is not None and math.isfinite(accuracy):
        out.append(f"images nearest a wrong centre: {100 * (1 - accuracy):.1f} %")
    if lsc and inside is not None and math.isfinite(inside):
        out.append(f"images closer than half the angle: {100 * inside:.1f} %")
    return out


def last_event(view: RunView, log: Sequence[str], width: int) -> str:
    """What the run says of itself, else the newest event that is not a checkpoint: for the machine rule at 80
    columns, and for the message line where there is one."""
    if view.status.message and view.state not in _TOLD:
        return fit(clean(view.status.message), min(width - 16, len(view.status.message))).rstrip()
    attempt = f"attempt {view.status.attempt}: " if view.status.attempt > 1 else ""
    for _, text in events_of(log):
        if not text.startswith("checkpoint"):
            return fit(clean(f"{attempt}{text}"), min(width - 16, len(attempt) + len(text))).rstrip()
    return attempt.rstrip(": ")
