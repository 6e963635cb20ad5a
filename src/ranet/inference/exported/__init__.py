"""Exported folders: written, checked and read."""
