"""The driver of searches: `from search import run_search`, or `psf-search run`."""

from search.api import run_search

__all__ = ["run_search"]
