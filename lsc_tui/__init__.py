"""lsc_tui: the terminal where experiments are set up, started, watched and compared. It reads run folders only."""
