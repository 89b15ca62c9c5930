"""Colours, as variables only: own dark, light and high-contrast themes, and those that keep the terminal's palette.

Every theme sets the same variables; a .tcss file never names a colour. The curve colours are eight that stay apart
for the common colour-vision deficiencies (after Okabe and Ito 2008), made lighter or darker for the background.
"""

from __future__ import annotations

from textual.theme import BUILTIN_THEMES, Theme

SERIES = 8


def _variables(dim: str, rule: str, cursor: str, series: str, states: dict[str, str]) -> dict[str, str]:
    out = {"dim": dim, "rule": rule, "cursor-row": cursor}
    out |= {f"series-{i}": colour for i, colour in enumerate(series.split())}
    out |= {f"state-{name}": colour for name, colour in states.items()}
    return out


def _states(go: str, wait: str, warn: str, bad: str, quiet: str) -> dict[str, str]:
    """Colour for what is at work or needs to be seen; what has ended well or waits is dim."""
    return {
        "queued": quiet, "starting": wait, "running": go, "stopping": wait, "stopped": quiet, "finished": quiet,
        "failed": bad, "diverged": bad, "lost": warn, "stalled": warn,
    }  # fmt: skip


DARK = Theme(
    name="lsc-dark",
    primary="#8fb8ee",
    secondary="#8fb7a8",
    accent="#e0b26a",
    warning="#ecc060",
    error="#ff9f93",
    success="#94d08a",
    foreground="#e2e5ea",
    background="#15181d",
    surface="#15181d",
    panel="#1d2229",
    dark=True,
    variables=_variables(
        "#9aa2b0", "#6a7384", "#394862", "#e69f00 #56b4e9 #2fbf8f #f0e442 #d584b4 #ff7b4a #8f9bff #b5b5b5",
        _states("#86ccff", "#e0b26a", "#f5cc58", "#ff9f93", "#9aa2b0"),
    ),
)  # fmt: skip

LIGHT = Theme(
    name="lsc-light",
    primary="#1c4377",
    secondary="#2f6b58",
    accent="#623d00",
    warning="#623d00",
    error="#8f1710",
    success="#16521c",
    foreground="#16191f",
    background="#fbfaf7",
    surface="#fbfaf7",
    panel="#efede7",
    dark=False,
    variables=_variables(
        "#5c636e", "#8b887f", "#a0bbe2", "#985500 #0072b2 #007a55 #7d6a00 #a63f7c #c2410c #4b4fbf #555555",
        _states("#00457c", "#623d00", "#623d00", "#8f1710", "#5c636e"),
    ),
)  # fmt: skip

CONTRAST = Theme(
    name="lsc-contrast",
    primary="#00e5ff",
    secondary="#00ff9d",
    accent="#ffff00",
    warning="#ffff00",
    error="#ff9c9c",
    success="#00ff66",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#000000",
    dark=True,
    variables=_variables(
        "#c8c8c8", "#9a9a9a", "#0036b4", "#ffb000 #5cc8ff #00ffae #ffff00 #ff9ad5 #ff8a5c #b0b8ff #ffffff",
        _states("#7ad4ff", "#ffff00", "#ffff00", "#ff9c9c", "#c8c8c8"),
    ),
)  # fmt: skip


def _terminal(name: str, dim: str, text: str, cursor: str, cursor_text: str, series: str, states: str) -> Theme:
    """The built-in theme of the terminal's own sixteen colours, with our variables in those colours. The highlighted
    row has one colour of text: few of the sixteen can be read on another."""
    base = BUILTIN_THEMES[name]
    run, warn, bad = states.split()
    curves = " ".join(f"ansi_{colour}" for colour in series.split())
    extra = _variables(dim, "ansi_bright_black", cursor, curves, _states(run, run, warn, bad, dim))
    return Theme(
        name=name.replace("ansi", "lsc-ansi"), primary=text, secondary=base.secondary, warning=warn, error=bad,
        success=run, accent=warn, foreground=base.foreground, background=base.background, surface=base.surface,
        panel=base.panel, boost=base.boost, dark=base.dark, ansi=base.ansi,
        variables={**base.variables, **extra, "cursor-text": cursor_text},
    )  # fmt: skip


# In xterm's palette eight colours have 4.5 on black; on white there are five, and three of 3 follow.
_BRIGHT = "yellow cyan green bright_magenta bright_red white bright_yellow bright_green"
_DEEP = "red blue magenta black bright_blue bright_red bright_magenta bright_black"
ANSI_DARK = _terminal(
    "ansi-dark", "ansi_bright_black", "ansi_cyan", "ansi_cyan", "ansi_black", _BRIGHT,
    "ansi_cyan ansi_yellow ansi_bright_red",
)  # fmt: skip
ANSI_LIGHT = _terminal(
    "ansi-light", "ansi_bright_blue", "ansi_blue", "ansi_blue", "ansi_bright_white", _DEEP,
    "ansi_blue ansi_magenta ansi_red",
)  # fmt: skip

THEMES = {theme.name: theme for theme in (DARK, LIGHT, CONTRAST, ANSI_DARK, ANSI_LIGHT)}
