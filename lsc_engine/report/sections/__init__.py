"""The sections of a report, one module each. Those of verdict.py are made of values.csv alone, without torch."""
