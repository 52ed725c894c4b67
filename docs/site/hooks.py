"""What MkDocs does not do itself: pages from outside of docs/, links between them, and tables that are made of the code.

A page's links are those of the repository, so that it reads the same on a code host. A link to a file that is no page leads to
a page of that file's text.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from commands import commands
from keys import data_sections, hyperparameters, metrics, shipped, study_keys
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/RESULTS.md")
"""Pages that lie where a code host shows them."""
TABLES: dict[str, Callable[[], str]] = {
    "commands": commands,
    "study keys": study_keys,
    "data sections": data_sections,
    "hyperparameters": hyperparameters,
    "metrics": metrics,
    "shipped spaces": shipped,
}
"""What `<!-- table: NAME -->` becomes, with the line after it, which says on a code host that there is a table."""
TABLE = re.compile(r"^<!-- table: (.+) -->\n\*.*\*$", re.MULTILINE)
FENCE = re.compile(r"^(`{3,}).*?^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
CONTENTS = re.compile(r"^(?:(?:-|\d+\.) \[[^]]+\]\(#[^)]*\)\n)+", re.MULTILINE)
"""A page's list of its own sections, which the site has beside the page."""
FILE_LINK = re.compile(r"\[(?:\w+/)*([\w-]+\.md)\]\((?=[^)\s]*\b\1[)#])(?!\w+:)([^)\s#]+)")
"""One that is called as its file."""
NAMED_LINK = re.compile(r"\[(test_\w+)\]\(" + LINK.pattern + r"\)")
LANGUAGES = {".py": "python", ".js": "javascript", ".yaml": "yaml", ".json": "json"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside, and a page for each file that one links to."""
    for name in OUTSIDE:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    linked = {
        target
        for page in files.documentation_pages()
        for path, _ in LINK.findall(FENCE.sub("", page.content_string))
        if not _is_page(target := _resolve(page.src_uri, path))
    }
    for target in sorted(linked):
        files.append(File.generated(config, _source_page(target), content=_source(target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the tables, and lead links to where their files are in the site."""
    kept: list[str] = []

    def keep(block: re.Match[str]) -> str:
        kept.append(block[0])
        return f"\0{len(kept) - 1}\0"

    text = TABLE.sub(lambda match: TABLES[match[1]](), CONTENTS.sub("", FENCE.sub(keep, markdown)))
    text = FILE_LINK.sub(lambda match: f"[{_title(_resolve(page.file.src_uri, match[2]))}]({match[2]}", text)
    text = NAMED_LINK.sub(lambda match: _with_line(match, page.file.src_uri), text)
    text = LINK.sub(lambda match: _moved(page.file.src_uri, match[1]) + (match[2] or ""), text)
    return re.sub(r"\0(\d+)\0", lambda match: kept[int(match[1])], text)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lines of code can be linked to."""
    if page.file.src_uri.startswith("source/"):
        page.present_anchor_ids = {*(page.present_anchor_ids or ()), *re.findall(r'id="(__codelineno[\w-]+)"', html)}
    return html


def _resolve(page: str, path: str) -> str:
    """The file in the repository that a link of a page leads to."""
    at = _origin(page)
    target = posixpath.normpath(posixpath.join(posixpath.dirname(at), path))
    if not (ROOT / target).is_file():
        raise PluginError(f"{at}: no such file: {path}")
    return target


def _origin(page: str) -> str:
    """The file in the repository that a page of the site shows."""
    if page.startswith("source/"):
        return page.removeprefix("source/").removesuffix(".md")
    return page if page in OUTSIDE else f"docs/{page}"


def _is_page(target: str) -> bool:
    """Whether the site has the file itself."""
    return target in OUTSIDE or (target.startswith("docs/") and not target.endswith(".py"))


def _source_page(target: str) -> str:
    return f"source/{target}.md"


def _title(target: str) -> str:
    """The first heading of a page."""
    found = re.search(r"^# (.+)$", (ROOT / target).read_text(), re.MULTILINE)
    return found[1] if found else target


def _moved(page: str, path: str) -> str:
    """A link of a page, as it is in the site."""
    target = _resolve(page, path)
    there = target.removeprefix("docs/") if _is_page(target) else _source_page(target)
    return posixpath.relpath(there, posixpath.dirname(page) or ".")


def _with_line(match: re.Match[str], page: str) -> str:
    """A link to a test leads to its line."""
    lines = (ROOT / _resolve(page, match[2])).read_text().splitlines()
    number = next((i for i, line in enumerate(lines, 1) if re.match(rf"\s*def {match[1]}\(", line)), None)
    if number is None:
        raise PluginError(f"{_origin(page)}: {match[2]} has no {match[1]}")
    return f"[{match[1]}]({match[2]}#__codelineno-0-{number})"


def _source(target: str) -> str:
    """A page of a file's text, which a search does not find."""
    path = ROOT / target
    text = _notebook(path) if path.suffix == ".ipynb" else _code(path)
    return f"---\nsearch: {{exclude: true}}\nhide: [toc]\n---\n# {target}\n\n{text}"


def _code(path: Path) -> str:
    return f'``````{{.{LANGUAGES.get(path.suffix, "text")} linenums="1"}}\n{path.read_text()}\n``````\n'


def _notebook(path: Path) -> str:
    """Its text and its code; shipped notebooks keep no output."""
    cells = json.loads(path.read_text())["cells"]
    texts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    parts = [f"``````python\n{text}\n``````" if kind == "code" else re.sub("^#", "##", text) for kind, text in texts]
    return "\n\n".join(parts)
