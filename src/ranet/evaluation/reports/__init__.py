"""Folders and tables that evaluations leave."""
