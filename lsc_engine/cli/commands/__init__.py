"""One file for each group of commands, found by being here."""
