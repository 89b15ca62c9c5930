"""What runs come to, from their values alone: levels, speed-ups, claims and verdicts."""
