"""Data sets as they lie on disk, and how they are split."""
