"""lsc_tui: the terminal where experiments are set up, started, watched and compared. It reads run folders only."""

import lsc_engine as _engine  # noqa: F401 - keeps the current folder out of what `python -m` imports
