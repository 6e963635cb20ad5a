"""Answers as rows of a file."""
