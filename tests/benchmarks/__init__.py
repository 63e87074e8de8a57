"""Clocks: what `scripts/benchmark.py` runs. Nothing here passes or fails."""
