"""lsc_tui."""
