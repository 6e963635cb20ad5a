"""Training runs: begun, resumed, in one stage or two."""
