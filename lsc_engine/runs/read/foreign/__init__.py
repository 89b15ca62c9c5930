"""Logs that other tools write, read as runs: one file per format, none of them changed, nothing in them executed."""
