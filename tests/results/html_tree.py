"""Reading a page of HTML in tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "img", "br"}


@dataclass
class Element:
    name: str
    attributes: dict[str, str | None]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str) -> list[Element]:
        """Elements of a name inside, in their order."""
        found = [self] if self.name == name else []
        return found + [one for child in self.children for one in child.all(name)]

    def said(self) -> str:
        """All text inside, with single spaces."""
        return " ".join(" ".join([self.text, *(child.said() for child in self.children)]).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("page", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> ends a {self.open[-1].name}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].text += data


def read(page: str) -> Element:
    """The page as a tree. AssertionError: elements are not nested."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert len(reader.open) == 1
    return reader.open[0]


def tables(page: Element) -> dict[str, list[list[str]]]:
    """Cells of every table's body by the table's caption, the row's name first; what is below a cell's first line is left out."""
    found = {}
    for table in page.all("table"):
        (caption,) = table.all("caption")
        rows = [[" ".join(cell.text.split()) for cell in row.children] for row in table.all("tbody")[0].all("tr")]
        found[caption.said()] = rows
    return found
