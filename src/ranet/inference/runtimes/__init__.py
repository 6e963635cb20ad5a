"""The backends that run fused stages, and how long the stages take."""
