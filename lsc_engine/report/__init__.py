"""Figures and tables made of finished and running runs."""
