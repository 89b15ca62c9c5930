"""Names of studies, variants and runs: what is allowed, and how a run id is put together."""

from __future__ import annotations

import re

from lsc_engine.common.formatting import quoted

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9=._+-]*\Z")
LONGEST = 200


def name_fault(name: str) -> str | None:
    """Why `name` cannot name a study or a variant, or None where it can.

    >>> name_fault("n=384") is None
    True
    """
    if not name:
        return "a name needs at least one character"
    if len(name) > LONGEST:
        return f"a name has at most {LONGEST} characters, this one has {len(name)}"
    if not NAME.match(name):
        near = suggested_name(name)
        hint = f'; "{near}" would do' if near else ""
        return f"{quoted(name)} is not a name: letters, digits and = . _ + - only, a letter or digit first{hint}"
    return None


def study_fault(name: str) -> str | None:
    """As `name_fault`, with the one slash of shipped presets (`folder/stem`) allowed."""
    parts = name.split("/")
    if len(parts) > 2:
        return f"{quoted(name)} has more than one slash; a study is a name, or folder/name"
    if len(parts) == 2 and not all(parts):
        return f"{quoted(name)} begins or ends with a slash; a study is a name, or folder/name"
    return next((fault for part in parts if (fault := name_fault(part))), None)


def suggested_name(text: str) -> str:
    """The allowed name nearest to `text`, or an empty string."""
    return re.sub(r"[^A-Za-z0-9=._+-]+", "-", text).strip("-._=+")[:LONGEST]


def run_id(study: str, variant: str, seed: int) -> str:
    """The id of a run: `study/variant/seed-0`."""
    return f"{study}/{variant}/seed-{seed}"
