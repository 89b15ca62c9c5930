"""What the viewer remembers between two starts: sort, filter, marks, axes; one small file per set of runs folders.

It lies in the user's own config folder, is replaced in one step as it changes (a lost connection ends the program at
once), and a damaged or foreign file is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lsc_engine.common.safe_io import replace_file
from lsc_engine.common.userpaths import config_folder

MAX_SIZE = 1 << 20
# Rises when a key gets another meaning, which is announced once to those who knew it.
KEYS = 1
KEY_CHANGES = "new: / in the form goes to a field, n N in a search of the log to its hits, ← → fold a study"


class UiState:
    """Values by name; `set` writes the file when something changed. Where nothing can be written it stays in memory."""

    def __init__(self, folders: Iterable[Path], root: Path | None = None) -> None:
        names = "\n".join(sorted(str(f.resolve()) for f in folders))
        digest = hashlib.sha256(names.encode("utf-8", "replace")).hexdigest()[:16]
        self.path = (root or config_folder()) / f"view-{digest}.json"
        self._values: dict[str, Any] = self._read() or {"keys": KEYS}

    def _read(self) -> dict[str, Any]:
        try:
            if self.path.stat().st_size > MAX_SIZE:
                return {}
            document = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}

    def key_changes(self) -> str:
        """What has changed since the keys were last announced, once; "" where nothing has."""
        if self.get("keys", 0) >= KEYS:
            return ""
        self.set(keys=KEYS)
        return KEY_CHANGES

    def get(self, name: str, default: Any) -> Any:
        """The stored value if it is of the default's type, else the default."""
        value = self._values.get(name, default)
        return value if type(value) is type(default) else default

    def set(self, **values: Any) -> None:
        if all(self._values.get(k) == v and k in self._values for k, v in values.items()):
            return
        self._values.update(values)
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._values, ensure_ascii=False, indent=1)
            replace_file(self.path, text.encode("utf-8", "surrogateescape"), durable=False)
