"""Promises of policies against other images, and drift."""
