"""The image systems: VAEs of small images."""
