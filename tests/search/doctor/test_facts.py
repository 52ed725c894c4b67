"""What a machine says of itself, also one that has no psf-search."""

import json
import shutil
import subprocess
import sys
import sysconfig

import pytest
from ray import cloudpickle

from search.doctor import facts
from search.doctor.cluster import as_code
from search.doctor.facts import OURS, Facts, gather
from tests.search.test_search import ROOT

# Without `site` nothing that is installed as editable is found.
ELSEWHERE = """
import json, sys
sys.path.append(sys.argv[1])
from ray import cloudpickle
gather = cloudpickle.load(sys.stdin.buffer)
answer = gather(["psf-search", "ray", "no-such-package"], {"there": "/", "nowhere": "no/such/directory"}, {})
assert not {"search", "spaces"} & sys.modules.keys()
print(json.dumps(answer))
"""


def test_a_node_without_psf_search_answers_all_the_same(tmp_path):
    with as_code():
        sent = cloudpickle.dumps(facts.gather)
    arguments = [sys.executable, "-S", "-c", ELSEWHERE, sysconfig.get_path("purelib")]
    done = subprocess.run(arguments, input=sent, capture_output=True, cwd=tmp_path, env={}, check=False)
    assert done.returncode == 0, done.stderr.decode()
    there = Facts.read(json.loads(done.stdout))
    here = Facts.read(gather(["ray"], {}, {}))
    assert there.source is None
    assert here.source is not None
    assert there.packages["ray"] == here.packages["ray"]
    assert there.packages["no-such-package"] is None
    assert (there.host, there.python, there.interfaces) == (here.host, here.python, here.interfaces)
    assert there.machine.cpus == here.machine.cpus
    assert 0 < there.disks["there"].free <= there.disks["there"].total


@pytest.fixture
def checkout(tmp_path):
    """A copy of the packages."""
    for package in OURS:
        kept = shutil.ignore_patterns("__pycache__", "runs", "cache")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=kept)
    return tmp_path


def digest_of(directory):
    """Of the packages that come first there."""
    program = "import sys; from search.doctor.facts import digest; sys.path.insert(0, sys.argv[1]); print(digest())"
    arguments = [sys.executable, "-c", program, directory]
    return subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()


def test_the_digest_is_of_the_source_and_nothing_else(checkout):
    ours = facts.digest()
    assert digest_of(checkout) == ours
    for left in ("results/runs/a/b.py", "spaces/__pycache__/c.py", "spaces/notes.txt"):
        (checkout / left).parent.mkdir(parents=True, exist_ok=True)
        (checkout / left).write_text("left by a search")
    assert digest_of(checkout) == ours
    with (checkout / "trainables" / "lanes" / "lane.py").open("a") as file:
        file.write("# newer\n")
    assert digest_of(checkout) not in (ours, "None")


def test_runs_in_a_directory_of_a_packages_name_hide_nothing(tmp_path):
    (tmp_path / "results" / "runs").mkdir(parents=True)
    assert digest_of(tmp_path) == facts.digest()
