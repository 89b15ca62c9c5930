"""Training: the loop and what it needs, from a run's settings to a finished run folder."""
