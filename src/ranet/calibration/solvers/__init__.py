"""Solvers: policies that meet a budget or a deadline."""
