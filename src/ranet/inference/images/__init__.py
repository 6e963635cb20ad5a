"""Images on their way into an engine."""
