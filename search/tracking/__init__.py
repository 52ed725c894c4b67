"""Weights & Biases and MLflow hear of a search: a process of their own each, which a search never waits for."""
