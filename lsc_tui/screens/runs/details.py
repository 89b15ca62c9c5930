"""The right column of Runs: the GPUs with their owners, and the details of the highlighted run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lsc_engine.common.formatting import clock, duration, grouped
from lsc_engine.common.settings import lookup
from lsc_engine.common.userpaths import home_path
from lsc_engine.runs.settings import differing, settings_of
from lsc_tui.data.reports import Report
from lsc_tui.data.run_view import RunView, Store, reference_of, reference_words, setting_differences, value_text
from lsc_tui.lines import STATES, Line, bar, clean, day_text, fit, labelled, size_text, wrap
from lsc_tui.widgets.panel import Sheet


def gpu_lines(store: Store, width: int) -> Sheet | None:
    """This machine's GPUs, processors and memory, and other hosts whose runs gave no news for long; None while nothing
    is known of them."""
    hw, body = store.hardware, list[Line]()
    quiet = {v.status.host: v for v in store.runs.values() if v.state == "stalled" and v.status.host != store.host}
    if not hw.gpus and hw.cpu is None and not quiet:
        return None
    if hw.gpus:
        body.append([(" GPU UTIL         MEM GB  POWER OWNER", "dim")])
    for gpu in hw.gpus:
        util = f"{gpu.util:3.0f}%" if gpu.util is not None else " n/a"
        known = gpu.memory is not None and gpu.memory_total
        memory = f"{(gpu.memory or 0) / 1e9:.1f}/{(gpu.memory_total or 0) / 1e9:.1f}" if known else "n/a"
        power = f"{gpu.power:.0f}W" if gpu.power is not None else "n/a"
        text, owner = f" {util} {memory:>9} {power:>6} ", store.owner_of(gpu)
        share = bar(None if gpu.util is None else gpu.util / 100, 6)
        words = (fit(clean(owner), width - 10 - len(text)), "dim" if owner == "free" else "")
        body.append([(f" {gpu.index:<2} ", ""), (share, "bar"), (text, ""), words])
    if hw.cpu is None:
        body.append([(" cpu n/a", "dim")])
    else:
        ram = f"{(hw.memory or 0) / 1e9:.0f}/{(hw.memory_total or 0) / 1e9:.0f} GB"
        ram = ram if hw.memory is not None and hw.memory_total else "n/a"
        text = fit(f" {hw.cpu:.0f}% of {hw.cpus}", 12)
        body.append([(" cpu ", ""), (bar(hw.cpu / 100, 8), "bar"), (f"{text}  ram {ram}", "")])
    for host, view in sorted(quiet.items())[:3]:
        body.append([(f" {clean(host)}: last news {duration(view.status.age(), 0)} ago (other host)", "dim")])
    return clean(store.host), "every 2 s", body


def details(store: Store, views: Sequence[RunView], kind: str, width: int, height: int, now: float) -> Sheet:
    """What is known of the highlighted run, or of the highlighted study."""
    if not views:
        return "nothing highlighted", "", []
    view, width = views[0], width - 2
    if kind == "study":
        body = _study(views, width)
        body += [[], *([(" ", ""), *line] for line in _settings(views, width, height - 1 - len(body)))]
        return clean(view.study), "", body
    state, folder = _state(view, width, max(4, height // 3)), _folder(store, view, width, now)
    about = _differences(store, view, width)
    if (room := height - len(state) - 1 - len(folder)) < len(about):
        about = [*about[: max(0, room - 2)], [("  … more: Enter, then d", "dim")], []]
    body = [*state, [], *about, *folder]
    body += [[], *_settings(views, width - 1, height - 1 - len(body))]
    return f"{clean(view.label)} · s{view.seed}", "n note  t tag", [[(" ", ""), *line] for line in body]


def _state(view: RunView, width: int, most: int) -> list[Line]:
    status = view.status
    glyph = STATES.get(view.state, ("✗", ""))[0]
    took = f" {duration(status.seconds, 0)}" if status.seconds else ""
    attempt = f", attempt {status.attempt}" + (" (resumed)" if status.attempt > 1 else "") if status.attempt else ""
    out: list[Line] = [[(f"{glyph} {view.state}", f"state-{view.state}"), (f"{took}{attempt}", "")]]
    total = f" of {grouped(status.total_steps)}" if status.total_steps else ""
    eta = f"   ETA {clock(status.eta)}" if status.active and status.eta is not None else ""
    out.append([(f"step {grouped(status.step)}{total}{eta}", "")])
    if status.news:
        lines = wrap(clean(status.news), width)
        lines = lines if len(lines) <= most else [*lines[: most - 1], "… all of it: Enter, in the log"]
        out += [[(line, "warn")] for line in lines]
    return out


def _differences(store: Store, view: RunView, width: int) -> list[Line]:
    base, group = reference_of(store, view)
    out: list[Line] = []
    if base is not None:
        differences = setting_differences(view, base)[:8]
        names = max([16, *(len(name) for name, _, _ in differences)])
        found = [f"{name:<{names}} {own} ({other})" for name, own, other in differences]
        out.append([(fit(f"differs from {reference_words(store, base)}", width), "dim")])
        out += [[(fit(clean(f"  {text}"), width), "")] for text in found or ["in no setting"]]
        out.append([])
    out.append([(f"same in all {len(group)}" if len(group) > 1 else "settings", "dim")])
    changed = differing([settings_of(other.config) for other in group])
    # The settings that one asks for first, in words.
    values = {name: lookup(view.config, name) for name in _FIRST if name not in changed}
    words = [_FIRST[name].format(value_text(value)) for name, value in values.items() if value is not None]
    return [*out, *([(f"  {line}", "")] for line in wrap(clean(", ".join(words)), width - 2)[:4]), []]


_FIRST = {
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


def _folder(store: Store, view: RunView, width: int, now: float) -> list[Line]:
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
    out = labelled(rows, 12, width)
    out.append([(fit(clean(home_path(view.run.path)), width), "dim")])
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
    out += [[(" differing settings", "dim")]] if changed else []
    for name, values in [*changed.items()][:12]:
        words = ", ".join(dict.fromkeys(map(value_text, values)))
        out.append([(fit(clean(f"   {name}  {words}"), width), "")])
    out += [[]] if changed else []
    for state, count in Counter(view.state for view in views).items():
        glyph = STATES.get(state, ("✗", ""))[0]
        out.append([(f" {glyph} {count} {state}", f"state-{state}")])
    return out


def report_details(report: Report, width: int, height: int) -> Sheet:
    """What is known of a highlighted study that has a report and no runs."""
    inner = width - 2
    body: list[Line] = []
    for text, style in ((report.title, ""), (report.claim, "bold"), (report.source, "dim")):
        body += [[(line, style)] for line in wrap(clean(text), inner)[:5]]
    body.append([])
    body += [*labelled(report.makes, 12, inner, 6), []]
    if report.made is None:
        body.append([("no report yet", "warn")])
    else:
        body.append([(f"made {day_text(report.made)}   Enter reads it", "")])
        body += [[(fit(f"  {clean(name)}", inner), "dim")] for name in report.files[: max(1, height - len(body) - 3)]]
    body.append([(fit(clean(home_path(report.page.parent)), inner), "dim")])
    return clean(report.study), "", [[(" ", ""), *line] for line in body]
