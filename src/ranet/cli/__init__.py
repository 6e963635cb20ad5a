"""The commands: one thin Hydra main per verb."""
