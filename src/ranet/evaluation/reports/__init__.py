"""Folders and tables that evaluations write."""
