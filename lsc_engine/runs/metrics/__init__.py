"""metrics.jsonl: written line by line, read as columns."""
