"""A full disk, a real one: every kind of file that is written says which disk it is, and leaves nothing behind."""

import sqlite3

import numpy as np
import pytest

from results.database import Patience
from results.export import export_model
from results.run_directory import MachineError, RunDirectory, write_json
from spaces import store
from spaces.disk import full_disk
from tests.disks import fill, small_disk
from tests.results.conftest import record_of
from trainables.training.checkpoints import Checkpoint, save_checkpoint


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", 2**20) as disk:
        yield disk


def database(disk):
    connection = Patience(disk / "study.db").connect(disk / "study.db", isolation_level=None)
    connection.cursor().execute("CREATE TABLE t (x)")
    connection.cursor().execute("INSERT INTO t VALUES (?)", (bytes(2**21),))


def checkpoint(disk):
    torch = pytest.importorskip("torch")
    tensors = {"model.weight": torch.zeros(2**19)}
    save_checkpoint(disk / "checkpoints", "last", Checkpoint(1, {}, 0.0, 1, "cvae_psf", {}, tensors))


def entry(disk):
    store.write(disk / "cache", {"a": 1}, {"kernels": np.zeros(2**18)})


def model(disk):
    def write(directory):
        (directory / "model.safetensors").write_bytes(bytes(2**21))

    export_model(RunDirectory(disk), write, {"card.md": "card"})


@pytest.mark.parametrize("what", [database, checkpoint, entry, model])
def test_what_finds_no_space_names_the_disk_and_leaves_nothing(disk, what):
    with pytest.raises((OSError, MachineError)) as caught:
        what(disk)
    line = caught.value if isinstance(caught.value, MachineError) else full_disk(caught.value, disk)
    assert f"no space left on the disk at {disk} (" in str(line)
    assert "\n" not in str(line)
    left = [path for path in disk.rglob("*") if path.is_file() and path.name not in ("lock", "study.db")]
    assert left == []


def test_what_is_needed_is_said_where_it_is_known(disk):
    with pytest.raises(OSError, match="No space") as caught:
        checkpoint(disk)
    assert "2.1 MB needed" in str(full_disk(caught.value))


def test_a_run_that_cannot_even_begin_names_the_disk(disk):
    fill(disk)
    with pytest.raises(MachineError, match=f"no space left on the disk at {disk}"):
        write_json(disk / "run.json", record_of("full"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("SafetensorError: I/O error: No space left on device (os error 28)"),
        sqlite3.OperationalError("database or disk is full"),
        OSError("262144 requested and 61440 written"),
    ],
)
def test_libraries_say_it_in_their_own_words(tmp_path, error):
    outer = RuntimeError("of Tune")
    outer.__cause__ = error
    assert str(tmp_path) in str(full_disk(outer, tmp_path))
    assert full_disk(RuntimeError("no such thing"), tmp_path) is None
