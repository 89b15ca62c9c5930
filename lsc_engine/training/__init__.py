"""Training: the loop and what it needs, from a run's configuration to a finished run folder."""
