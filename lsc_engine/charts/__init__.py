"""Charts for a terminal: numbers in, rows of styled cells out. numpy only; no terminal, no other library.

    picture = draw([Series(steps, losses, "a")], 72, 16, View(log_y=True))       # chart.py
    rows = plane(z, colours, 40, 20, extent=6.0)      # scatter.py: embeddings of a run; also sphere

`lsc-engine show --plot`, the end of `lsc-engine run` and every chart of `lsc-tui` are this one renderer.
"""
