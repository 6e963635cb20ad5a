"""Schedules, parameter groups, averaged weights and mixed images."""
