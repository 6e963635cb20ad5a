"""Accuracy, calibration error and cost of exits and policies."""
