"""`psf-search report` from the command line, and what a search does when its report cannot be written."""

from __future__ import annotations

import pytest

from results.run_directory import RunDirectory
from search.cli import main
from search.driver import _report
from search.observer import Observer
from tests.results.conftest import make_run  # noqa: F401  # a fixture


def exit_code(*arguments: object) -> object:
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    return ended.value.code


def test_a_run_has_its_page_and_several_have_one_of_their_own(make_run, tmp_path, monkeypatch, capsys):  # noqa: F811
    one, other = make_run(3, name="one"), make_run(3, name="other")
    monkeypatch.chdir(tmp_path)
    assert exit_code("report", one.path) == 0
    assert exit_code("report", one.path, other.path) == 0
    assert capsys.readouterr().out.split() == [str(one.report), "report.html"]
    assert "<h1>one</h1>" in one.report.read_text()
    assert "<h1>one and other</h1>" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "nowhere: no such run"),
        (("one", "--out", "page.pdf"), "--out: expected a file ending in .html, but got page.pdf"),
        (("one", "--out", "no/page.html"), "--out: no such directory"),
    ],
)
def test_bad_input_is_told_before_anything_is_read(make_run, tmp_path, monkeypatch, capsys, arguments, said):  # noqa: F811
    make_run(0, name="one")
    monkeypatch.chdir(tmp_path)
    assert exit_code("report", *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_report_that_fails_is_one_line_and_no_more(tmp_path):
    class Hearing(Observer):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

    hearing = Hearing()
    _report(RunDirectory(tmp_path), hearing)
    (line,) = hearing.lines
    assert line.startswith("warning: no report was written: ")
    assert "run.json" in line
    assert "\n" not in line
