"""Techniques for training multi-exit networks, one file each."""
