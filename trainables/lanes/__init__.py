"""Warm Ray Train workers that take one task after another. Knows no science."""
