"""Figures of kernels over the field, and of a model of them."""
