"""What the terminal can show, from the environment: few colours, no characters outside ASCII."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console


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
