"""Store what today's presets resolve to: `python -m tests.golden [NAME]…`."""

from __future__ import annotations

import json
import os
import sys
import tempfile

from tests.golden.generate import DOCUMENTS, FOLDER


def line_by_line(document: dict[str, object]) -> str:
    """JSON with one line per entry."""
    lines = (f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in document.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Write the documents that are named, or all of them."""
    with tempfile.TemporaryDirectory() as empty:
        os.environ |= {"LSC_DATA": empty, "LSC_PRESETS": empty, "LSC_RUNS": empty, "HOME": empty}
        for name in sys.argv[1:] or DOCUMENTS:
            (FOLDER / f"{name}.json").write_text(line_by_line(DOCUMENTS[name]()), encoding="utf-8")


if __name__ == "__main__":
    main()
