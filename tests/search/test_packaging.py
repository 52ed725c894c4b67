"""The installed commands: `psf-search`, and a `tune` that is Ray's with `analyze` beside it."""

import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


def run(*arguments):
    return subprocess.run([BIN / arguments[0], *arguments[1:]], capture_output=True, text=True, check=False)


def test_psf_search_answers():
    done = run("psf-search", "--help")
    assert done.returncode == 0
    assert "analyze" in done.stdout


def test_tune_analyze_is_ours(tmp_path):
    assert "--json" in run("tune", "analyze", "--help").stdout
    done = run("tune", "analyze", "no-such-run", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "no-such-run" in done.stderr


def test_ray_s_own_tune_commands_are_still_there():
    help_text = run("tune", "--help").stdout
    assert all(name in help_text for name in ("ls", "lsx", "list-trials", "add-note", "analyze"))
    assert "EXPERIMENT_PATH" in run("tune", "ls", "--help").stdout
