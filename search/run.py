"""`python search/run.py --space cvae_psf`: run a search from a checkout."""

import sys
from pathlib import Path

# Python puts this file's own folder first on the path; the packages live one above it.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

if __name__ == "__main__":
    from search.cli import main

    main(["run", *sys.argv[1:]])
