"""`python benchmarks/search.py`: replay searches over the recorded table (benchmarks/replay.py)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # not this folder, where `search` is this very file

from benchmarks.replay import main

if __name__ == "__main__":
    main()
