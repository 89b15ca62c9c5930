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


def _states(go: str, wait: str, good: str, warn: str, bad: str, quiet: str) -> dict[str, str]:
    return {
        "queued": quiet, "starting": wait, "running": go, "stopping": wait, "stopped": quiet, "finished": good,
        "failed": bad, "diverged": bad, "lost": warn, "stalled": warn,
    }  # fmt: skip


DARK = Theme(
    name="lsc-dark",
    primary="#7aa2d6",
    secondary="#8fb7a8",
    accent="#d9a85f",
    warning="#e0b050",
    error="#e5786d",
    success="#86c07d",
    foreground="#d6d9df",
    background="#15181d",
    surface="#15181d",
    panel="#1d2229",
    dark=True,
    variables=_variables(
        "#8a919e", "#4a5261", "#2a3444", "#e69f00 #56b4e9 #2fbf8f #f0e442 #d584b4 #ff7b4a #8f9bff #b5b5b5",
        _states("#7fc8ff", "#d9a85f", "#86c07d", "#f0c040", "#ff8a7a", "#9aa2ae"),
    ),
)  # fmt: skip

LIGHT = Theme(
    name="lsc-light",
    primary="#28578f",
    secondary="#2f6b58",
    accent="#8a5a00",
    warning="#8a5a00",
    error="#a8231a",
    success="#246b2a",
    foreground="#20242b",
    background="#fbfaf7",
    surface="#fbfaf7",
    panel="#efede7",
    dark=False,
    variables=_variables(
        "#646b76", "#a9a69c", "#d6e2f2", "#a85f00 #0072b2 #007a55 #7d6a00 #a63f7c #c2410c #4b4fbf #555555",
        _states("#00599c", "#8a5a00", "#246b2a", "#8a5a00", "#a8231a", "#646b76"),
    ),
)  # fmt: skip

CONTRAST = Theme(
    name="lsc-contrast",
    primary="#00e5ff",
    secondary="#00ff9d",
    accent="#ffff00",
    warning="#ffff00",
    error="#ff6b6b",
    success="#00ff66",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#000000",
    dark=True,
    variables=_variables(
        "#c8c8c8", "#9a9a9a", "#0037b3", "#ffb000 #5cc8ff #00ffae #ffff00 #ff9ad5 #ff8a5c #b0b8ff #ffffff",
        _states("#5cc8ff", "#ffff00", "#00ff66", "#ffff00", "#ff6b6b", "#ffffff"),
    ),
)  # fmt: skip


def _terminal(name: str, quiet: str, cursor: str, series: str) -> Theme:
    """The built-in theme of the terminal's own sixteen colours, with our variables in those colours."""
    base = BUILTIN_THEMES[name]
    states = _states("ansi_blue", "ansi_cyan", "ansi_green", "ansi_yellow", "ansi_red", "ansi_default")
    extra = _variables(quiet, quiet, cursor, series, states)
    return Theme(
        name=name.replace("ansi", "lsc-ansi"), primary=base.primary, secondary=base.secondary, warning=base.warning,
        error=base.error, success=base.success, accent=base.accent, foreground=base.foreground,
        background=base.background, surface=base.surface, panel=base.panel, boost=base.boost, dark=base.dark,
        ansi=base.ansi, variables={**base.variables, **extra},
    )  # fmt: skip


_BRIGHT = "ansi_yellow ansi_cyan ansi_green ansi_bright_yellow ansi_magenta ansi_red ansi_bright_blue ansi_white"
_DEEP = "ansi_red ansi_blue ansi_green ansi_magenta ansi_cyan ansi_bright_red ansi_bright_blue ansi_bright_black"
ANSI_DARK = _terminal("ansi-dark", "ansi_bright_black", "ansi_blue", _BRIGHT)
ANSI_LIGHT = _terminal("ansi-light", "ansi_bright_black", "ansi_bright_cyan", _DEEP)

THEMES = {theme.name: theme for theme in (DARK, LIGHT, CONTRAST, ANSI_DARK, ANSI_LIGHT)}
