"""Widgets: each shows lines or a chart it is given; none reads a file."""
