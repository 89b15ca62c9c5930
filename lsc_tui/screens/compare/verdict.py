"""What stands below the table of Compare, as lines: the verdict, by accuracy and by loss, and the settings."""

from __future__ import annotations

from lsc_engine.analysis.verdict import OPEN, Verdict
from lsc_engine.runs.settings import settings_of
from lsc_tui.data.run_view import value_text
from lsc_tui.lines import Line, clean, ends, fit, flow, pad, width_of, wrap
from lsc_tui.screens.compare.comparison import (
    Compared,
    disagreement,
    finished,
    kinds_without_level,
    level_name,
    rows_behind,
    shown_levels,
    tried_text,
    unequal,
)
from lsc_tui.screens.compare.table import style_of, telling
from lsc_tui.services.verdicts import Claims


def verdict_title(found: Compared) -> tuple[str, str]:
    """`verdict so far`, and where the levels come from."""
    title = "verdict" if finished(found) else "verdict so far"
    names = [level_name(found.base.levels[i].metric, found.base.levels[i].level) for i in shown_levels(found)]
    whose = "set here" if found.set_here else "fixed in the preset"
    word = "level" if len(names) == 1 else "levels"
    return title, f"{word} {' and '.join(names)} {whose}" if names else "no level: v sets one at the cursor"


def claim_lines(claims: Claims, width: int) -> list[Line]:
    """The preset's claims with the verdicts of its report, a line or more each."""
    out: list[Line] = []
    for text, result in claims:
        words = wrap(text, max(20, width - len(result) - 5))
        mood = (
            "good" if result.endswith("holds") and "," not in result else "error" if "does not hold" in result else ""
        )
        for number, line in enumerate(words):
            ending: Line = [(result, mood)] if number == len(words) - 1 else []
            out.append(pad(ends([("▸ " if number == 0 else "  ", "dim"), (line, "")], ending, width), width))
    return out


def verdict_narrow(found: Compared, width: int, claims: Claims = ()) -> list[Line]:
    """The claims, one line by accuracy, one by loss, then what has to be added."""
    out = claim_lines(claims, width)
    base = found.letters[found.base.key]
    missing = kinds_without_level(found)
    for kind in ("accuracy", "loss"):
        lead: Line = [(f"{kind:<9} ", "dim")]
        if any(v.kind == kind for v in found.verdicts):
            name = clean(found.base.label)
            lead += [("faster than ", ""), (base, style_of(base)), (f" {name if len(name) <= 24 else ''}".rstrip(), "")]
            lead.append((": ", ""))
            out += flow(lead, _by_kind(found, kind), width, 10)
        elif kind in missing and len(found.rows) > 1:
            out.append(pad([*lead, (NO_LEVEL, "dim")], width))
    if len(found.rows) < 2:
        out.append([("mark a second run, or p here to pin this one", "dim")])
    sentences = [s for s in (disagreement(found), *unequal(found)) if s]
    return out + [[(line, "dim")] for sentence in sentences for line in wrap(sentence, width)]


def _by_kind(found: Compared, kind: str) -> list[Line]:
    letters = {row.label: found.letters[row.key] for row in found.rows}
    alike: dict[tuple[str, str], list[str]] = {}
    for verdict in found.verdicts:
        if verdict.kind == kind:
            alike.setdefault((_short(verdict), _mood(verdict)), []).append(letters[verdict.row])
    out: list[Line] = []
    for (words, mood), own in alike.items():
        piece: Line = []
        for letter in own:
            piece += [(" " if piece else "", ""), (letter, style_of(letter))]
        out.append([*piece, (f" {words}", mood)])
    return out


NO_LEVEL = "no level is set for it: m shows it, ← → and v set one"


def _short(verdict: Verdict) -> str:
    count = verdict.count.lstrip(",").removesuffix(" seeds").removesuffix(" seed")
    if verdict.note or (verdict.open and verdict.so_far == OPEN):
        return verdict.result
    return f"open, so far {verdict.so_far}{count}" if verdict.open else f"{verdict.so_far}{count}"


def _mood(verdict: Verdict) -> str:
    return {"holds": "good", "fails": "error"}.get(verdict.result, "")


def verdict_wide(found: Compared, width: int, claims: Claims = ()) -> list[Line]:
    """The claims, then one row by accuracy and one by loss per variant, with the speed-up at the hardest level."""
    out: list[Line] = [[(" ", ""), *line] for line in claim_lines(claims, width - 2)]
    out += [[]] if out else []
    room = max(12, width - 51)
    base = found.letters[found.base.key]
    labels = list(dict.fromkeys(v.row for v in found.verdicts))
    letters = {row.label: found.letters[row.key] for row in found.rows}
    waiting = [label for label in labels if all(v.so_far == OPEN for v in found.verdicts if v.row == label)]
    for label in labels:
        if label in waiting:
            continue
        letter = letters[label]
        for number, verdict in enumerate(v for v in found.verdicts if v.row == label):
            head: Line = [("", "")]
            if number == 0:
                text = f"{clean(label)} faster than {base}"
                head = [(f" {letter} ", style_of(letter)), (fit(text, room), "")]
            line = [*pad(head, room + 3), (f" {verdict.kind:<9}", "dim"), (f"{verdict}", _mood(verdict))]
            if verdict.levels:
                names = [level_name(metric, level) for metric, level in verdict.levels]
                at = f" at {names[0]}" + (f" to {names[-1]}" if len(names) > 1 else "")
                line += [(at, "dim")] if width_of(line) + len(at) <= width else []
            out.append(pad(line, width))
    if waiting:
        open_ones: Line = []
        for label in waiting:
            open_ones += [(" ", ""), (letters[label], style_of(letters[label]))]
        out.append(pad([*open_ones, (" faster than ", ""), (base, style_of(base)), (": open", "dim")], width))
    if len(found.rows) < 2:
        out.append([(" mark a second run, or p here to pin this one", "dim")])
    else:
        for kind in kinds_without_level(found):
            out.append([(f" by {kind:<9}", "dim"), (NO_LEVEL, "dim")])
    sentence = disagreement(found)
    if sentence:
        out += [[], *([(f" {line}", "")] for line in wrap(sentence[0].upper() + sentence[1:], width - 2))]
    return out


def settings_table(found: Compared, width: int, everything: bool) -> list[Line]:
    """Keys down, rows across; only those that differ, or all."""
    if everything:
        tables = [settings_of(row.runs[0].config) for row in found.rows]
        keys = list(dict.fromkeys(key for one in tables for key in one))
        values = {key: [one.get(key) for one in tables] for key in keys}
    else:
        values = telling(found)
    known = [found.behind[row.key] for row in found.rows]
    below = rows_behind(known)
    # A setting that was tried is shown with what was taken, though all took the same.
    for key in dict.fromkeys(key for one in known for key in one.tried):
        values.setdefault(key, [row.settings.get(key) for row in found.rows])
    key_width = min(24, max([len(key) for key in values], default=8) + 2)
    cell = max(6, min(14, (width - key_width - 1) // max(1, len(found.rows))))
    head: Line = [(" " * (key_width + 1), "")]
    for row in found.rows:
        letter = found.letters[row.key]
        head.append((fit(letter, cell), style_of(letter)))
    out = [pad(head, width)]
    for key, cells in values.items():
        changed = key in found.comparison.differing
        line: Line = [(fit(f" {clean(key)}", key_width + 1), "" if changed else "dim")]
        line += [(fit(clean(value_text(value)), cell - 1) + " ", "" if changed else "dim") for value in cells]
        out.append(pad(line, width))
    if not values:
        out.append([(" the rows differ in no setting", "dim")])
    for name, words in below:
        line = [(fit(f" {name}", key_width + 1), "dim"), *((fit(word, cell - 1) + " ", "") for word in words)]
        out.append(pad(line, width))
    if tried := tried_text(known):
        out += [[], *([(f" {text}", "dim")] for text in wrap(clean(tried), width - 2))]
    return out
