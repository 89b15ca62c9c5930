"""The right column of Runs: the GPUs with their owners, and the details of the highlighted run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from lsc_engine.common.formatting import clock, duration, grouped
from lsc_engine.common.hardware import Gpu
from lsc_engine.common.settings import lookup
from lsc_engine.common.userpaths import home_path
from lsc_engine.runs.settings import differing, settings_of
from lsc_tui.data.reports import Report
from lsc_tui.data.run_view import RunView, Store, reference_of, reference_words, setting_differences, value_text
from lsc_tui.lines import STATES, Line, bar, clean, day_text, fit, frame, size_text, wrap


def gpu_lines(store: Store, width: int) -> list[Line]:
    """The framed panel of this machine's GPUs, processors and memory; nothing while nothing is known of them."""
    hw = store.hardware
    inner = width - 2
    if not hw.gpus and hw.cpu is None and not _other_hosts(store):
        return []
    body: list[Line] = []
    if hw.gpus:
        body.append([(fit(" GPU UTIL         MEM GB  POWER OWNER", inner), "dim")])
        body += [_gpu_line(store, gpu, inner) for gpu in hw.gpus]
    body.append(_cpu_line(store, inner))
    body += [[(fit(f" {line}", inner), "dim")] for line in _other_hosts(store)]
    return frame(body, width, len(body) + 2, clean(store.host), "every 2 s")


def _gpu_line(store: Store, gpu: Gpu, width: int) -> Line:
    util = f"{gpu.util:3.0f}%" if gpu.util is not None else " n/a"
    memory = "n/a"
    if gpu.memory is not None and gpu.memory_total:
        memory = f"{gpu.memory / 1e9:.1f}/{gpu.memory_total / 1e9:.1f}"
    power = f"{gpu.power:.0f}W" if gpu.power is not None else "n/a"
    owner = store.owner_of(gpu)
    text = f" {util} {memory:>9} {power:>6} "
    share = None if gpu.util is None else gpu.util / 100
    used = 4 + 6 + len(text)
    style = "dim" if owner == "free" else ""
    return [(f" {gpu.index:<2} ", ""), (bar(share, 6), "bar"), (text, ""), (fit(clean(owner), width - used), style)]


def _cpu_line(store: Store, width: int) -> Line:
    hw = store.hardware
    if hw.cpu is None:
        return [(fit(" cpu n/a", width), "dim")]
    ram = "n/a"
    if hw.memory is not None and hw.memory_total:
        ram = f"{hw.memory / 1e9:.0f}/{hw.memory_total / 1e9:.0f} GB"
    text = f" {hw.cpu:.0f}% of {hw.cpus}"
    return [(" cpu ", ""), (bar(hw.cpu / 100, 8), "bar"), (fit(text, 12), ""), (fit(f"  ram {ram}", width - 25), "")]


def _other_hosts(store: Store) -> list[str]:
    """Hosts whose runs gave no news for long."""
    quiet = {v.status.host: v for v in store.runs.values() if v.state == "stalled" and v.status.host != store.host}
    return [
        f"{clean(host)}: last news {duration(v.status.age(), 0)} ago (other host)"
        for host, v in sorted(quiet.items())[:3]
    ]


def details(
    store: Store,
    views: Sequence[RunView],
    kind: str,
    width: int,
    height: int,
    now: float,
    place: Callable[[Path], str] = home_path,
) -> list[Line]:
    """What is known of the highlighted run, or of the highlighted study."""
    if not views:
        return frame([], width, height, "nothing highlighted")
    view = views[0]
    if kind == "study":
        body = _study(views, width - 4)
        body += [[], *([(" ", ""), *line] for line in _settings(views, width - 4, height - 3 - len(body)))]
        return frame(body, width, height, clean(view.study))
    body = [*_state(view), []]
    body += _differences(store, view, width - 4)
    body += _folder(store, view, width - 4, now, place)
    body += [[], *_settings(views, width - 5, height - 3 - len(body))]
    return frame(
        [[(" ", ""), *line] for line in body], width, height, f"{clean(view.label)} · s{view.seed}", "n note  t tag"
    )


def _state(view: RunView) -> list[Line]:
    status = view.status
    glyph = STATES.get(view.state, ("✗", ""))[0]
    took = f" {duration(status.seconds, 0)}" if status.seconds else ""
    attempt = f", attempt {status.attempt}" + (" (resumed)" if status.attempt > 1 else "") if status.attempt else ""
    out: list[Line] = [[(f"{glyph} {view.state}", f"state-{view.state}"), (f"{took}{attempt}", "")]]
    total = f" of {grouped(status.total_steps)}" if status.total_steps else ""
    eta = f"   ETA {clock(status.eta)}" if status.active and status.eta is not None else ""
    out.append([(f"step {grouped(status.step)}{total}{eta}", "")])
    if status.news:
        out += [[(line, "warn")] for line in wrap(clean(status.news), 41)[:4]]
    return out


def _differences(store: Store, view: RunView, width: int) -> list[Line]:
    base, group = reference_of(store, view)
    out: list[Line] = []
    if base is not None:
        out.append([(fit(f"differs from {reference_words(store, base)}", width), "dim")])
        found = setting_differences(view, base)
        for name, own, other in found[:8]:
            out.append([(fit(clean(f"  {name:<16} {own} ({other})"), width), "")])
        out += [[]] if found else [[("  in no setting", "")], []]
    out.append([(f"same in all {len(group)}" if len(group) > 1 else "settings", "dim")])
    changed = differing([settings_of(other.config) for other in group])
    same = [s for name, s in _summary(view).items() if name not in changed]
    out += [[(f"  {line}", "")] for line in wrap(clean(", ".join(same)), width - 2)[:4]]
    out.append([])
    return out


def _summary(view: RunView) -> dict[str, str]:
    """The settings that one asks for first, in words."""
    words = {
        "target.system": "{}",
        "target.order": "{}",
        "target.loss": "{}",
        "model.name": "{}",
        "model.dim": "n = {}",
        "optimizer.lr": "lr {}",
        "train.batch_size": "batch {}",
        "train.duration": "{}",
        "data.augment": "augment {}",
    }
    found = {name: lookup(view.config, name) for name in words}
    return {name: words[name].format(value_text(value)) for name, value in found.items() if value is not None}


def _settings(views: Sequence[RunView], width: int, height: int) -> list[Line]:
    """The settings that all these runs share, as many as there is room for."""
    own = settings_of(views[0].config)
    changed = differing([settings_of(view.config) for view in views]) if len(views) > 1 else {}
    rows = [(name, value_text(value)) for name, value in own.items() if name not in changed and value is not None]
    if height < 3 or not rows:
        return []
    out: list[Line] = [[("settings of all its runs" if len(views) > 1 else "all settings", "dim")]]
    out += [[(fit(clean(f"  {name:<22} {value}"), width), "")] for name, value in rows[: height - 1]]
    if len(rows) > height - 1:
        out[-1] = [(f"  and {len(rows) - height + 2} more: r shows the TOML", "dim")]
    return out


def _folder(store: Store, view: RunView, width: int, now: float, place: Callable[[Path], str]) -> list[Line]:
    rows: list[tuple[str, str]] = []
    curves = store.curves.get(view.key)
    if curves is not None and curves.checkpoints:
        step, when, size = curves.checkpoints[-1]
        rows.append(("checkpoint", f"{duration(now - when, 0)} ago, step {grouped(step)}, {size_text(size)}"))
    commit = lookup(view.source, "code.commit")
    if isinstance(commit, str) and commit:
        rows.append(("code", commit[:7] + (", changed" if lookup(view.source, "code.dirty") else ", clean")))
    rows += [("note", note) for note in view.notes[:-5:-1]]
    if view.tags:
        rows.append(("tags", " ".join(view.tags)))
    out: list[Line] = [[(fit(name, 12), "dim"), (fit(clean(text), width - 12), "")] for name, text in rows]
    out.append([(fit(clean(place(view.run.path)), width), "dim")])
    out.append([(fit(f"lsc-engine log {view.short} --follow", width), "dim")])
    return out


def _study(views: Sequence[RunView], width: int) -> list[Line]:
    view = views[0]
    out: list[Line] = []
    for name, style in (("title", ""), ("claim", "bold"), ("source", "dim")):
        text = view.config.get(name)
        if isinstance(text, str) and text:
            out += [[(f" {line}", style)] for line in wrap(clean(text), width)[:5]]
    out.append([])
    changed = differing([settings_of(view.config) for view in views])
    out.append([(" differing settings", "dim")])
    for name, values in [*changed.items()][:12]:
        words = ", ".join(dict.fromkeys(map(value_text, values)))
        out.append([(fit(clean(f"   {name}  {words}"), width), "")])
    out.append([])
    for state, count in Counter(view.state for view in views).items():
        glyph = STATES.get(state, ("✗", ""))[0]
        out.append([(f" {glyph} {count} {state}", f"state-{state}")])
    return out


def report_details(report: Report, width: int, height: int, place: Callable[[Path], str]) -> list[Line]:
    """What is known of a highlighted study that has a report and no runs."""
    inner = width - 4
    body: list[Line] = []
    for text, style in ((report.title, ""), (report.claim, "bold"), (report.source, "dim")):
        body += [[(line, style)] for line in wrap(clean(text), inner)[:5]]
    body.append([])
    for what, words in report.makes:
        for number, line in enumerate(wrap(clean(words), inner - 12)[:6]):
            body.append([(fit("" if number else clean(what), 12), "dim"), (line, "")])
    body.append([])
    if report.made is None:
        body.append([("no report yet", "warn")])
    else:
        body.append([(f"made {day_text(report.made)}   Enter reads it", "")])
        body += [[(fit(f"  {clean(name)}", inner), "dim")] for name in report.files[: max(1, height - len(body) - 5)]]
    body.append([(fit(clean(place(report.page.parent)), inner), "dim")])
    return frame([[(" ", ""), *line] for line in body], width, height, clean(report.study))
