"""Image files: finding, decoding, inspecting and preparing them for a network; without PyTorch."""
