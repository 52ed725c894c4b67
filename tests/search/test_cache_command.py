"""`psf-search cache`: on real entries, through the real command line."""

import json
import os

import pytest

from deeplens_workers import cache
from search.cli import main
from spaces import store
from tests.deeplens_workers.conftest import make_request  # noqa: F401  (a fixture)
from tests.deeplens_workers.test_cache import some_kernels
from tests.search.test_cli import command


@pytest.fixture
def written(tmp_path, make_request):  # noqa: F811
    """Three entries, least recently used first: two unused since 2001, one just written."""
    entries = [cache.write(tmp_path / "cache", make_request(seed=seed), some_kernels(4)) for seed in range(3)]
    for age, entry in enumerate(entries[:2]):
        os.utime(entry / "manifest.json", (1e9 + age, 1e9 + age))
    return entries


@pytest.fixture
def call(tmp_path, capsys):
    """Run `psf-search cache ...` on the test's cache: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as exit:
            main(["cache", *arguments, "--cache", str(tmp_path / "cache")])
        return exit.value.code, *capsys.readouterr()

    return run


def present(tmp_path):
    return [entry.path for entry in store.entries(tmp_path / "cache")]


def damage(entry):
    kernels = entry / "kernels.npy"
    kernels.write_bytes(kernels.read_bytes()[:-4] + b"abcd")


def test_ls_shows_every_entry_and_the_total(written, call):
    code, out, _ = call("ls")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[-1] for line in lines[1:4]] == [entry.name[:12] for entry in written]
    assert lines[1].startswith("cooke_triplet_50mm ")
    assert "0.656 0.587 0.486" in lines[1]
    assert "2001-09-09" in lines[1]
    assert lines[-1].startswith("3 entries")


def test_ls_for_machines(written, call):
    code, out, _ = call("ls", "--json")
    assert code == 0
    listed = json.loads(out)
    assert [entry["key"] for entry in listed["entries"]] == [entry.name for entry in written]
    assert listed["bytes"] == sum(file.stat().st_size for entry in written for file in entry.iterdir())
    first = listed["entries"][0]
    assert first["source"] == "cooke_triplet_50mm"
    assert first["wavelengths_um"] == [0.656, 0.587, 0.486]
    assert (first["items"], first["kernel_px"], first["rays"]) == (4, 15, 256)


def test_ls_shows_an_entry_whose_manifest_is_damaged(written, call):
    (written[0] / "manifest.json").write_text("{}")
    assert "damaged" in call("ls")[1]
    assert {entry["source"] for entry in json.loads(call("ls", "--json")[1])["entries"]} == {None, "cooke_triplet_50mm"}


def test_verify_names_and_removes_corrupt_entries(tmp_path, written, call):
    assert call("verify")[:2] == (0, "3 entries checked, 0 corrupt\n")
    damage(written[1])
    code, out, _ = call("verify")
    assert code == 1
    assert str(written[1] / "kernels.npy") in out
    assert present(tmp_path) == written
    code, out, _ = call("verify", "--remove")
    assert code == 1
    assert "corrupt, removed" in out
    assert present(tmp_path) == [written[0], written[2]]
    assert call("verify")[:2] == (0, "2 entries checked, 0 corrupt\n")


def test_clear_removes_everything(tmp_path, written, call):
    code, out, _ = call("clear")
    assert code == 0
    assert out.startswith("removed 3 entries, ")
    assert "0 entries left" in out
    assert present(tmp_path) == []


def test_clear_by_age(tmp_path, written, call):
    assert call("clear", "--older-than", "30")[0] == 0
    assert present(tmp_path) == written[2:]


def test_clear_to_a_size(tmp_path, written, call):
    sizes = [entry.size for entry in store.entries(tmp_path / "cache")]
    assert call("clear", "--to", str(sum(sizes)))[0] == 0
    assert present(tmp_path) == written
    assert call("clear", "--to", f"{sum(sizes[1:])}B")[0] == 0
    assert present(tmp_path) == written[1:]


def test_what_is_not_a_cache_is_listed_and_never_touched(tmp_path, written, call):
    (tmp_path / "cache" / "thesis.tex").write_text("")
    damage(written[0])
    assert call("ls")[0] == 0
    assert call("verify")[0] == 1
    for arguments in (["clear"], ["verify", "--remove"]):
        code, _, err = call(*arguments)
        assert code == 2
        assert "it holds thesis.tex; nothing was removed" in err
    assert present(tmp_path) == written


def test_a_missing_cache_is_empty(tmp_path, call):
    assert json.loads(call("ls", "--json")[1]) == {"entries": [], "bytes": 0}
    assert call("ls")[0] == call("verify")[0] == call("clear")[0] == 0
    assert not (tmp_path / "cache").exists()


def test_bad_input_loads_nothing_heavy(tmp_path):
    (tmp_path / "file").write_text("")
    for arguments, says in (
        (["clear", "--to", "2XB"], "psf-search: --to 2XB: not a size; valid: bytes, or such as 500MB, 2GB, 10GiB\n"),
        (["ls", "--cache", tmp_path / "file"], f"psf-search: --cache {tmp_path / 'file'}: not a directory\n"),
    ):
        done = command(["cache", *arguments])
        assert (done.returncode, done.stderr) == (2, says)
        assert "loaded: []" in done.stdout


def test_a_listing_loads_nothing_heavy(tmp_path):
    done = command(["cache", "ls", "--cache", tmp_path])
    assert done.returncode == 0, done.stderr
    assert "loaded: []" in done.stdout
