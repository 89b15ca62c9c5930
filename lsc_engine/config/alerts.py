"""alerts.toml: where messages on runs go. What it holds may be secret, so that no value of it stands in a sentence."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.formatting import quoted
from lsc_engine.common.safe_io import UnreadableError, read_toml
from lsc_engine.common.userpaths import config_folder, home_path
from lsc_engine.config.schema import Section
from lsc_engine.config.validation_errors import ValidationIssue, unknown, validate

EVENTS = ("finished", "failed", "diverged", "stalled", "level reached", "study done")
_RATE = "most_per_hour"
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _http(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        good = good and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("an address is needed that begins with https:// or http://, without a user in it")
    return url


def _one_line(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("a text of printable ASCII characters is needed")
    return value


def _events(names: list[str]) -> list[str]:
    for name in names:
        if name not in EVENTS:
            raise ValueError(f"{quoted(name)} is not an event; {did_you_mean(name[:100], EVENTS)}")
    return names


def _headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    if not all(map(_HEADER.fullmatch, headers)):
        raise ValueError("a header's name is made of letters, digits and -")
    return headers


Url = Annotated[SecretStr, AfterValidator(_http)]
Line = Annotated[SecretStr, AfterValidator(_one_line)]


class Target(Section):
    """One place that messages go to."""

    kind: ClassVar[str] = ""
    on: Annotated[list[str], AfterValidator(_events)] = Field(default=list(EVENTS))
    """The events of which there is a message."""


class Ntfy(Target):
    """[ntfy]: a topic of ntfy.sh or of an own server."""

    kind = "ntfy"
    url: Url
    token: Line | None = None


class Slack(Target):
    """[slack]: an incoming webhook."""

    kind = "slack"
    url: Url


class Webhook(Target):
    """[webhook]: a JSON document by POST."""

    kind = "webhook"
    url: Url
    headers: Annotated[dict[str, Line], AfterValidator(_headers)] = Field(default={})


class Command(Target):
    """[command]: a line for the shell, with the message on its standard input."""

    kind = "command"
    run: Annotated[SecretStr, Field(min_length=1)]


class Bell(Target):
    """[bell]: the terminal's, where the process has one."""

    kind = "bell"


KINDS: dict[str, type[Target]] = {model.kind: model for model in (Ntfy, Slack, Webhook, Command, Bell)}


@dataclass(frozen=True)
class AlertSettings:
    """The whole file: `slack`, or `slack 1` and `slack 2` where there are several -> the target. `most_per_hour`:
    messages to each of them."""

    targets: dict[str, Target]
    most_per_hour: int = 30


def alerts_file() -> Path:
    """Where the file is looked for."""
    return config_folder() / "alerts.toml"


def load_alerts() -> AlertSettings | None:
    """The user's alerts.toml, None if the file is missing. UsageError with a sentence per mistake."""
    path = alerts_file()
    if not os.path.lexists(path):
        return None
    shown = home_path(path)
    try:
        # The configuration of a user is often a link into a folder of such files.
        table = read_toml(Path(os.path.realpath(path)))
    except UnreadableError as error:
        raise UsageError(f"{shown}: {error}") from None
    targets, rate, issues = dict[str, Target](), table.pop(_RATE, 30), list[ValidationIssue]()
    if type(rate) is not int or not 1 <= rate <= 3600:
        issues.append(ValidationIssue(_RATE, f"a whole number from 1 to 3600 is needed, not {quoted(rate)}"))
    for kind, value in table.items():
        if kind not in KINDS:
            issues.append(ValidationIssue(kind, unknown(kind, [*KINDS, _RATE])))
            continue
        tables = value if isinstance(value, list) else [value]
        for name, each in ((f"{kind} {i}" if len(tables) > 1 else kind, one) for i, one in enumerate(tables, 1)):
            target, found = validate(KINDS[kind], each, name)
            targets |= {name: target} if target is not None else {}
            # A value may be secret, but for that of `on`.
            issues += [
                one if one.key.startswith(f"{name}.on") else replace(one, message=one.message.partition(", not ")[0])
                for one in found
            ]
    if issues:
        raise UsageError(*(issue.sentence(shown) for issue in issues))
    return AlertSettings(targets, rate)
