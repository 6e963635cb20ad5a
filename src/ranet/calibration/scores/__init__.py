"""Exit scores: computed from logits, checked, kept in files and in the cache."""
