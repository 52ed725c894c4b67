"""Reading runs: `from results import open_run, load_model`. Nothing is ever unpickled."""

from results.run import Run, load_model, open_run

__all__ = ["Run", "load_model", "open_run"]
