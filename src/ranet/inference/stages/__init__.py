"""A network cut into fused stages, ready to answer."""
