"""Image files: which files of a folder are images, and how each becomes 8-bit RGB; without PyTorch."""
