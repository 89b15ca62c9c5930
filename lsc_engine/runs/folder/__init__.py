"""The files of a run folder: who writes them, how, and under which names."""
