"""`psf-search cluster`: copying a launch file, and what is said of one."""

import subprocess

import pytest

from search.cli import main
from search.clusters import node_config
from tests.search.clusters.test_check import FILES, filled


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["cluster", *map(str, arguments)])
    return ended.value.code, capsys.readouterr()


def test_a_copy_with_some_of_its_values(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _ = run(capsys, "init", "raycluster", "--fill", "image=host/psf-search:0.1", "--out", "mine.yaml")
    assert code == 0
    code, said = run(capsys, "check", "mine.yaml")
    assert code == 2
    lines = said.out.splitlines()
    assert lines[0] == "mine.yaml:11: fill in <storage-class>"
    assert lines[-1] == "mine.yaml: KubeRay, 1 line to mend"


def test_a_sound_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "rayjob.yaml"
    path.write_text(filled("rayjob.yaml"))
    code, said = run(capsys, "check", path)
    assert (code, said.out) == (0, f"{path}: KubeRay, nothing is wrong\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["init", "slrum"], "did you mean 'slurm'"),
        (["init", "local", "--fill", "haed=10.0.0.1"], "did you mean 'head'"),
        (["init", "local", "--fill", "head"], "expected KEY=VALUE"),
        (["init", "local", "--out", "there.yaml"], "there.yaml: is there already"),
        (["init", "local", "--out", "no/where.yaml"], "no/where.yaml: No such file"),
        (["check", "missing.yaml"], "missing.yaml: cannot be read: No such file"),
    ],
)
def test_what_cannot_be_done(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.yaml").touch()
    code, said = run(capsys, *arguments)
    assert code == 2
    assert says in said.err
    assert said.err.count("\n") == 1


def test_what_needs_a_package_that_is_not_there_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(node_config, "find_spec", lambda name: None)
    path = tmp_path / "aws.yaml"
    path.write_text(filled("aws.yaml").replace("InstanceType", "Instancetype"))
    code, said = run(capsys, "check", path)
    assert code == 0
    assert "not checked: node_config of aws: needs botocore" in said.out


@pytest.mark.parametrize(
    "name", [name for name in FILES if name in ("local.yaml", "aws.yaml", "gcp.yaml", "azure.yaml")]
)
def test_the_head_gets_a_script_that_searches(name, tmp_path):
    """Set up as Ray does it, in a login shell with the command in brackets."""
    from search.clusters.launch_file import LaunchFile

    path = tmp_path / name
    path.write_text(filled(name))
    (document,) = LaunchFile.read(path).documents
    command = document.commands("head_setup_commands")[-1].text
    wrapped = f"true && export OMP_NUM_THREADS=1 && ({command})"
    subprocess.run(["bash", "-c", wrapped], env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True)
    script = tmp_path / "search"
    assert script.stat().st_mode & 0o100
    assert script.read_text().startswith("#!/bin/bash\n")
    subprocess.run(["bash", "-n", script], check=True)
