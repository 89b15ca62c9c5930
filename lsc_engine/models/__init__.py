"""Backbones, image -> embedding, and linear layers fixed to simplex ETFs."""
