"""The networks of the papers, one file each, with their presets and published checkpoints."""
