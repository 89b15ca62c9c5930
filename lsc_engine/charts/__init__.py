"""Charts for a terminal: numbers in, rows of styled cells out. numpy only; no terminal, no other library.

picture = draw([Series(steps, losses, "a")], 72, 16, View(log_y=True))       # chart.py
"""
