"""Errors that end a command, each with the exit code that the command line promises."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Packages that a light installation leaves out (docs/ecosystem.md).
FULL = ("torch", "torchvision", "timm", "scipy", "sklearn", "matplotlib", "fontTools", "PIL")


class LscError(Exception):
    """A failure with a sentence for the user: the exit code of the command, and the state of a run that it ends."""

    exit_code = 1
    state = "failed"


class UsageError(LscError):
    """Bad usage or a bad preset: one sentence per fault, all of them at once. Exit code 2."""

    exit_code = 2

    def __init__(self, *faults: str) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(faults))


class DivergedError(LscError):
    """The loss became NaN or infinite."""

    exit_code = 3
    state = "diverged"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A clause naming the nearest of `choices` and, where they are few, all of them; of many that are all unlike
    `word`, the three that are least so.

    >>> did_you_mean("digtis", ["digits", "cifar10"])
    'did you mean "digits"? Allowed: digits, cifar10'
    """
    names = list(choices)
    near = set(difflib.get_close_matches(word, names, n=len(names) or 1, cutoff=0.5))
    kept = [name for name in names if name in near or not near]
    by_likeness = sorted(kept, key=lambda name: _likeness(word, name), reverse=True)
    clause = f'did you mean "{by_likeness[0]}"? ' if near else ""
    if len(names) <= 20:
        return f"{clause}{'Allowed' if near else 'allowed'}: {', '.join(names)}"
    return clause.strip() or f"the nearest of {len(names)}: {', '.join(by_likeness[:3])}"


def _likeness(word: str, name: str) -> tuple[float, int]:
    """How near two names are; of equally near ones that which begins alike: "V2l" is V21 rather than V32."""
    alike = next((i for i, (a, b) in enumerate(zip(word, name, strict=False)) if a != b), min(len(word), len(name)))
    return difflib.SequenceMatcher(None, name, word).ratio(), alike
