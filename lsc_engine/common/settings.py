"""Nested tables of settings, as TOML holds them: dotted keys, one table laid over another, differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Table = dict[str, Any]

# The other tools that a run is written for: no setting of what it computes.
MIRRORED = "log.also"

# Letter and words of every loss, by method and target.loss; values of different letters are not compared.
LOSS_KINDS = {
    "lsc": {
        "cosine": ("c", "cosine"),
        "distance": ("d", "distance"),
        "cosine+distance": ("b", "cosine + distance"),
        "squared": ("q", "squared cosine"),
        "dot": ("i", "inner product"),
        "softmax": ("w", "softmax over the system"),
        "batch-softmax": ("v", "softmax over the batch"),
    },
    "ce": {
        "softmax": ("e", "cross-entropy"),
        "normalized": ("n", "normalized softmax"),
        "cosface": ("f", "CosFace"),
        "arcface": ("a", "ArcFace"),
    },
    "ssl": {"NT-Xent": ("s", "NT-Xent")},
}
LOSS_WORDS = {letter: words for losses in LOSS_KINDS.values() for letter, words in losses.values()}


def loss_kind(method: Any, loss: Any) -> str:
    """The letter of a loss (None: the method's own): see LOSS_KINDS; o of a plugin's, ? where the method is unknown."""
    losses = LOSS_KINDS.get(method) if isinstance(method, str) else None
    if losses is None or not isinstance(loss, str | None):
        return "?"
    usual = next(iter(losses.values()))[0]
    # Only lsc takes losses of plugins; other methods without one of theirs have the usual one.
    return usual if loss is None else losses.get(loss, ("o" if method == "lsc" else usual,))[0]


def lookup(table: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key, None without one."""
    value: Any = table
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def nested(key: str, value: Any) -> Table:
    """{"a": {"b": value}} for the key "a.b"."""
    for part in reversed(key.split(".")):
        value = {part: value}
    table: Table = value
    return table


def merge(base: Table, top: Table) -> Table:
    """`base` with `top` laid over it, table by table."""
    result = dict(base)
    for key, value in top.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def without(table: Table, key: str) -> Table:
    """`table` without the setting at a dotted key; tables on the way to it stay, empty or not."""
    head, _, rest = key.partition(".")
    if not rest:
        return {name: value for name, value in table.items() if name != head}
    inner = table.get(head)
    return table | {head: without(inner, rest)} if isinstance(inner, dict) else table


def flatten(table: Mapping[str, Any], prefix: str = "") -> Table:
    """Nested tables as one with dotted keys; an empty table stays a value."""
    flat: Table = {}
    for key, value in table.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
