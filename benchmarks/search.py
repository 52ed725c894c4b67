"""`python benchmarks/search.py`: replay searches over the recorded table (benchmarks/replay.py)."""

import sys
from pathlib import Path

# Python puts this file's own folder first on the path, where `search` is this very file.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

if __name__ == "__main__":
    from benchmarks.replay import main

    main()
