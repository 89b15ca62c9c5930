"""Runs in the logs of other tools (`log.also`), written by processes of their own that follow metrics.jsonl."""
