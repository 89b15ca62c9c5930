"""The benchmarks of `lsc-engine bench`, and what makes the pictures and recordings of the documentation.

A benchmark is a module with `run(*, quick=False, **arguments) -> Result`; lsc_engine/bench.py lists and loads them.
What they compare with (baselines.py, dense tables, hand-written loops) lives here and not in the engine.
"""
