"""Parts of a training run around its loop: checkpoints, random state, progress and logs."""
