"""Heads: embedding -> loss and label. LSC and cross-entropy differ here and nowhere else."""
