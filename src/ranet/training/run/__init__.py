"""What a training run needs around its loop: checkpoints, random state, progress and logs."""
