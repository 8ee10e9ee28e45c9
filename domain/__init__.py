"""Decisions: pure functions over values, and the one controller that carries them out through the ports."""
