"""Helpers of the end-to-end tests lie beside them; run folders come from the viewer's tests."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tui")]
