"""A line of text that its screen feeds with keys and pasted text, whatever has the focus."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.suggester import Suggester
from textual.widgets import Input


class LastWord(Suggester):
    """Completes the last word of a line."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.words = words

    async def get_suggestion(self, value: str) -> str | None:
        head, last = value[: len(value) - len(value.split(" ")[-1])], value.split(" ")[-1]
        found = next((word for word in self.words if last and word.lower().startswith(last.lower())), None)
        return None if found is None else head + last + found[len(last) :]


class Field(Input):
    """A line of text, which its screen feeds with keys and pasted text."""

    async def take(self, event: events.Key) -> None:
        """Insert the character of a key, or do what the key does in a field (move, delete, complete with Tab)."""
        if event.is_printable and event.character is not None:
            self.replace(event.character, *self.selection)
        elif event.key == "tab":
            found = await self.suggester.get_suggestion(self.value) if self.suggester is not None else None
            self.value = found or self.value
            self.cursor_position = len(self.value)
        else:
            for binding in self._bindings.key_to_bindings.get(event.key, ()):
                await self.run_action(binding.action)

    def paste(self, text: str) -> None:
        """Insert text in one line: line ends and control characters become spaces."""
        line = " ".join(text.splitlines())
        self.replace("".join(c if c.isprintable() else " " for c in line), *self.selection)


def key_name(event: events.Key) -> str:
    """The name of a key in the keymap: the character itself where it prints."""
    printed = event.character if event.character and event.character.isprintable() else event.key
    return "space" if printed == " " else printed
