"""The early-exit engine: calls, streams, single images and deadlines."""
