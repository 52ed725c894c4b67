"""Directories that are common to the driver and its nodes, and others. A node is another process, with its own locks."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

from search.doctor.facts import Meeting, Place, gather, leave
from search.doctor.storage import ALONE, Storage
from tests.search.test_search import ROOT

NODE = """
import json, sys
from search.doctor.facts import Meeting, gather
print(json.dumps(gather([], {}, {"--out": Meeting(**json.load(sys.stdin))})["places"]["--out"]))
"""


def met(meeting):
    """What a node makes of it."""
    sent = json.dumps(asdict(meeting))
    arguments = [sys.executable, "-c", NODE]
    done = subprocess.run(arguments, input=sent, capture_output=True, text=True, cwd=ROOT, check=True)
    return Place(**json.loads(done.stdout))


def test_a_common_directory_that_is_yet_to_be(tmp_path):
    with Storage({"--out": tmp_path / "yet" / "to" / "be"}) as storage:
        place = met(storage.meetings("node")["--out"])
        assert place == Place(str(tmp_path), there=True, common=True, lock="common")
        assert storage.seen("node") == {"--out": True}
        assert storage.seen("another") == {"--out": False}
    assert not any(tmp_path.iterdir())


def test_a_drivers_file_that_the_node_may_only_read(tmp_path):
    """As another user's."""
    with Storage({"--out": tmp_path}) as storage:
        meeting = storage.meetings("node")["--out"]
        (tmp_path / meeting.driver).chmod(0o444)
        assert met(meeting).lock == "common"


def test_a_directory_that_is_another_one_on_the_node(tmp_path):
    (tmp_path / "driver").mkdir()
    (tmp_path / "node").mkdir()
    with Storage({"--out": tmp_path / "driver"}) as storage:
        meeting = replace(storage.meetings("node")["--out"], directory=str(tmp_path / "node"))
        place = met(meeting)
        assert (place.there, place.common, place.error) == (True, False, None)
        assert storage.seen("node") == {"--out": False}
        leave([tmp_path / "node" / meeting.own])
        assert not met(replace(meeting, directory=str(tmp_path / "missing"))).there
    assert not any((tmp_path / "node").iterdir())


def test_locks_that_hold_on_one_node_only(tmp_path):
    """The driver's file is there, and its lock is not."""
    (tmp_path / "of-the-driver").write_text("text")
    place = met(Meeting(str(tmp_path), driver="of-the-driver", own="own", text="text"))
    assert (place.common, place.lock) == (True, "own")


def test_a_driver_that_cannot_write_says_so_itself():
    with Storage({"--out": Path("/proc")}) as storage:
        assert storage.meetings("node")["--out"].driver is None
        place = gather([], {}, storage.alone())["places"]["--out"]
    assert place["error"]
    assert place["common"] is None
    assert storage.files(ALONE)
