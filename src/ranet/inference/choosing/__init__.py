"""From a network or an exported folder to the backend that runs it, and the record of its latency."""
