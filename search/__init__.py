"""The driver of searches: `from search import run_search`, or `psf-search run`."""

from search.api import open_test, run_search

__all__ = ["open_test", "run_search"]
