"""Policies whose risk is bounded with a stated probability."""
