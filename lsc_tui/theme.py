"""Colours, as variables only: own dark, light and high-contrast themes, and those that keep the terminal's palette.

Every theme sets the same variables; a .tcss file never names a colour. The curve colours are eight that stay apart
for the common colour-vision deficiencies (after Okabe and Ito 2008), made lighter or darker for the background. What
the terminal can show is read from the environment: few colours, no characters outside ASCII.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rich.console import Console
from textual.theme import BUILTIN_THEMES, Theme

SERIES = 8
_COLOURS = """
            lsc-dark  lsc-light  lsc-contrast
primary     #8fb8ee   #1c4377    #00e5ff
secondary   #8fb7a8   #2f6b58    #00ff9d
accent      #e0b26a   #623d00    #ffff00
warning     #ecc060   #623d00    #ffff00
error       #ff9f93   #8f1710    #ff9c9c
success     #94d08a   #16521c    #00ff66
foreground  #e2e5ea   #16191f    #ffffff
background  #15181d   #fbfaf7    #000000
panel       #1d2229   #efede7    #000000
dim         #9aa2b0   #5c636e    #c8c8c8
rule        #6a7384   #8b887f    #9a9a9a
cursor-row  #394862   #a0bbe2    #0036b4
state-run   #86ccff   #00457c    #7ad4ff
state-warn  #f5cc58   #623d00    #ffff00
series-0    #e69f00   #985500    #ffb000
series-1    #56b4e9   #0072b2    #5cc8ff
series-2    #2fbf8f   #007a55    #00ffae
series-3    #f0e442   #7d6a00    #ffff00
series-4    #d584b4   #a63f7c    #ff9ad5
series-5    #ff7b4a   #c2410c    #ff8a5c
series-6    #8f9bff   #4b4fbf    #b0b8ff
series-7    #b5b5b5   #555555    #ffffff
"""


def _states(running: str, starting: str, warn: str, bad: str, quiet: str) -> dict[str, str]:
    """Colour for what is at work or needs to be seen; what has ended well or waits is dim."""
    return {
        "state-running": running,
        **dict.fromkeys(("state-starting", "state-stopping"), starting),
        **dict.fromkeys(("state-lost", "state-stalled"), warn),
        **dict.fromkeys(("state-failed", "state-diverged"), bad),
        **dict.fromkeys(("state-queued", "state-stopped", "state-finished"), quiet),
    }


def _own(name: str, colours: dict[str, str]) -> Theme:
    states = _states(*(colours[key] for key in ("state-run", "accent", "state-warn", "error", "dim")))
    main = ["primary", "secondary", "accent", "warning", "error", "success", "foreground", "background", "panel"]
    variables = {key: colour for key, colour in colours.items() if key not in main} | states
    own: dict[str, Any] = {key: colours[key] for key in main}
    return Theme(name=name, surface=colours["background"], dark=name != "lsc-light", variables=variables, **own)


def _terminal(name: str, dim: str, text: str, cursor_text: str, series: str, states: str) -> Theme:
    """The built-in theme of the terminal's own sixteen colours, with our variables in those colours. The highlighted
    row has one colour of text: few of the sixteen can be read on another."""
    base = BUILTIN_THEMES[name]
    run, warn, bad = (f"ansi_{colour}" for colour in states.split())
    variables = {f"series-{i}": f"ansi_{colour}" for i, colour in enumerate(series.split())}
    variables |= {"dim": dim, "rule": "ansi_bright_black", "cursor-row": text, "cursor-text": cursor_text}
    return replace(
        base,
        name=name.replace("ansi", "lsc-ansi"),
        primary=text,
        warning=warn,
        error=bad,
        success=run,
        accent=warn,
        variables={**base.variables, **variables, **_states(run, run, warn, bad, dim)},
    )


_NAMES, *_ROWS = (line.split() for line in _COLOURS.splitlines() if line)
# In xterm's palette eight colours have 4.5 on black; on white there are five, and three of 3 follow.
_BRIGHT = "yellow cyan green bright_magenta bright_red white bright_yellow bright_green"
_DEEP = "red blue magenta black bright_blue bright_red bright_magenta bright_black"
THEMES = {
    theme.name: theme
    for theme in (
        *(_own(name, {row[0]: row[column] for row in _ROWS}) for column, name in enumerate(_NAMES, 1)),
        _terminal("ansi-dark", "ansi_bright_black", "ansi_cyan", "ansi_black", _BRIGHT, "cyan yellow bright_red"),
        _terminal("ansi-light", "ansi_bright_blue", "ansi_blue", "ansi_bright_white", _DEEP, "blue magenta red"),
    )
}


def few_colours(env: Mapping[str, str]) -> bool:
    """Whether the terminal has its own sixteen colours only."""
    return Console(force_terminal=True, _environ=env).color_system in (None, "standard")


def light_background(env: Mapping[str, str]) -> bool:
    """Whether the terminal reports a light background, which some do in COLORFGBG (`0;15`)."""
    return env.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15")


def ascii_only(env: Mapping[str, str]) -> bool:
    """The Linux console lacks braille and most symbols; with a locale that is not UTF-8 bytes would be shown apart.
    Python puts LC_CTYPE in place of the locale C at its start."""
    if env.get("TERM", "").rpartition(".")[2].startswith("linux"):
        return True
    kinds = [env.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")]
    if kinds[1] in ("C.UTF-8", "C.utf8", "UTF-8") and kinds[2] in ("C", "POSIX"):
        kinds[1] = ""
    locale = next(filter(None, kinds), "UTF-8")
    return "utf8" not in locale.lower().replace("-", "")
