"""Finished runs, grouped and compared over their seeds."""
