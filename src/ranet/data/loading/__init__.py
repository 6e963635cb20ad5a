"""From samples to batches: order, augmentation, loaders."""
