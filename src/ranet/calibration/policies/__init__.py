"""Exit policies, their files, and what they come to on scored images."""
