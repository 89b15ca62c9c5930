"""Figures and tables made of finished and running runs: the report of a study, and an index of all of them.

`write_report` and `write_index` are in writing.py; curves.py draws for viewers in a process of its own.
"""
