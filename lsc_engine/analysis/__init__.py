"""From runs to verdicts, without torch: levels and speed-ups, curves over seeds, claims, and the values that verdicts
are computed from and recomputed from."""
