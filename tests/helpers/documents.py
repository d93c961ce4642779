"""Reads the documents: their code blocks, the names they use and their links."""

import re
from pathlib import Path
from typing import NamedTuple

from source_tree import ROOT

NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
_FENCE = re.compile(r"((?:<!-- .* -->\n)?)^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    """A code block.

    Attributes:
        language: The word behind the fence, such as "python".
        code: The lines between the fences.
        line: Line of the code in its document, from 1.
        not_run: Why the block cannot run in a test, or an empty string.
    """

    language: str
    code: str
    line: int
    not_run: str


def documents() -> list[Path]:
    """Returns README.md, the documents of the project and the pages of docs/."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path, language: str | None = None) -> list[Block]:
    """Returns the code blocks of a document in their order, by default those of all languages."""
    text = path.read_text(encoding="utf-8")
    fenced = []
    for match in _FENCE.finditer(text):
        reason = NOT_RUN.search(match.group(1))
        line = text.count("\n", 0, match.start(3)) + 1
        fenced.append(Block(match.group(2), match.group(3), line, reason.group(1) if reason else ""))
    return [block for block in fenced if language in (None, block.language)]


def package_names(text: str) -> set[str]:
    """Returns the dotted names of the package that a text uses, such as "keras_lightdet.data.load_voc".

    Import statements are left out.
    """
    text = re.sub(r"^(from|import) keras_lightdet.*$", "", text, flags=re.M)
    return set(re.findall(r"(?<![\w/.-])keras_lightdet(?:\.[A-Za-z_]\w*)+(?![\w/-])", text))


def links(text: str) -> list[str]:
    """Returns the targets of a document's links and images outside of code, those to other hosts excluded."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    text = re.sub(r"`[^`\n]*`", "", text)
    targets = re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    return [target for target in targets if "://" not in target and not target.startswith("mailto:")]


def anchors(text: str) -> set[str]:
    """Returns the anchors of a document's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), flags=re.M)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}
