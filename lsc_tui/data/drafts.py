"""Forms of New run with changes of the user, kept over a restart: a small TOML file each in the config folder.

A file that cannot be read is left alone; where nothing can be written, changes live as long as the viewer.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import tomli_w

from lsc_engine.common.errors import UsageError
from lsc_engine.common.safe_io import UnreadableError, read_toml, replace_file
from lsc_tui.data.preset_form import Form

MOST_DRAFTS = 200
_TEXTS = ("heading", "text", "study", "data_dir", "device", "source", "parent", "at", "wanted")


def _place(folder: Path, form: Form) -> Path:
    name = "\n".join(map(str, form.key))
    return folder / f"{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:24]}.toml"


def save_draft(folder: Path, form: Form, own: Path) -> None:
    """Keep a form. Its runs folder is kept where it is another than `own`, the one of this viewer."""
    document = {name: getattr(form, name) for name in _TEXTS} | {
        "path": str(form.path or ""),
        "runs_dir": "" if form.runs_dir == own else str(form.runs_dir),
        "on": sorted(form.on),
        "raw": form.raw,
    }
    with contextlib.suppress(OSError, UnicodeError):
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(_place(folder, form), tomli_w.dumps(document).encode(), durable=False)


def drop_draft(folder: Path, form: Form) -> None:
    """Forget a form."""
    with contextlib.suppress(OSError):
        _place(folder, form).unlink()


def read_drafts(folder: Path, own: Path) -> list[Form]:
    """The forms that were kept, `own` being the runs folder of those that name none."""
    out = []
    with contextlib.suppress(OSError):
        for file in sorted(folder.glob("*.toml"))[:MOST_DRAFTS]:
            with contextlib.suppress(UnreadableError, UsageError, KeyError, TypeError, AttributeError):
                document = read_toml(file)
                texts = {name: str(document[name]) for name in _TEXTS}
                form = Form.of(texts["text"], texts["heading"], texts["study"], Path(document["runs_dir"] or own))
                for name, text in texts.items():
                    setattr(form, name, text)
                form.path = Path(document["path"]) if document["path"] else None
                form.raw, form.touched = dict(document["raw"]), True
                form.on = set(map(str, document["on"])) & set(form.names)
                out.append(form)
    return out
