"""Options of each verb, checked before anything is imported or read."""
