"""Screens: each one file and one .tcss of the same name. How one plugs in stands at the top of lsc_tui/app.py."""
