"""The words in the left column of CONTRIBUTING.md's glossary occur nowhere in code and documents."""

import ast
import json
import re

import pytest
from source_tree import ROOT, functions, parse, python_files, relative, section

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
KINDS = ("variables", "modules")


def glossary():
    """Returns `{kind: [pattern, ..]}` of the glossary's left column; the kind of plain entries is "words"."""
    entries = {"words": [], **{kind: [] for kind in KINDS}}
    rows = [line.split("|")[1] for line in section(CONTRIBUTING, "Glossary").splitlines() if line.startswith("|")]
    for row in rows[2:]:
        kind = next((kind for kind in KINDS if row.strip().startswith(kind)), "words")
        entries[kind] += re.findall(r"`([^`]+)`", row)
    return entries


def word_pattern(word):
    """Returns a regular expression for a word of the glossary, in prose and as a part of identifiers."""
    escaped = re.escape(word).replace(r"\(s\)", "s?").replace(r"\ ", r"\s+")
    if word != word.lower():
        return rf"(?<![A-Za-z]){escaped}(?![a-z])"
    return rf"(?<![A-Za-z])(?i:{escaped})(?![A-Za-z])|(?<=[a-z]){escaped.capitalize()}(?![a-z])"


def allowed_pattern():
    """Returns a regular expression for the uses of glossary words that the glossary allows."""
    phrases = re.findall(r"`([^`]+)`", section(CONTRIBUTING, "Allowed uses"))
    return re.compile("|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True)), re.IGNORECASE)


def texts():
    """Yields (path, text) of the files in which the glossary holds."""
    for path in python_files():
        yield path, path.read_text(encoding="utf-8")
    documents = [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "SECURITY.md")),
    ]
    for path in documents:
        yield path, path.read_text(encoding="utf-8")
    for path in (ROOT / "docs").rglob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path, "\n".join("".join(cell["source"]) for cell in cells)


def variables(tree):
    """Yields (name, line) of assigned names, arguments and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
    for function in functions(tree):
        for argument in ast.walk(function.args):
            if isinstance(argument, ast.arg):
                yield argument.arg, argument.lineno


def test_words():
    pattern = re.compile("|".join(word_pattern(word) for word in glossary()["words"]))
    allowed = allowed_pattern()
    faults = []
    for path, text in texts():
        masked = allowed.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
        for match in pattern.finditer(masked):
            faults.append(f"{relative(path)}:{masked.count(chr(10), 0, match.start()) + 1}: {match.group()}")
    assert not faults, f"{len(faults)} uses\n" + "\n".join(faults)


def test_variables():
    names = set(glossary()["variables"])
    faults = [
        f"{relative(path)}:{line}: {name}"
        for path in python_files()
        for name, line in variables(parse(path))
        if name in names
    ]
    assert not faults, f"{len(faults)} uses\n" + "\n".join(faults)


def test_modules():
    names = set(glossary()["modules"])
    assert [relative(path) for path in python_files("keras_lightdet", "tests") if path.stem in names] == []


@pytest.mark.parametrize(
    ("word", "text", "matches"),
    [
        ("picture(s)", "Pictures", True),
        ("picture(s)", "num_pictures", True),
        ("picture(s)", "picturesque", False),
        ("truth", "drawTruth(", True),
        ("truth", "truthful", False),
        ("GuardedModel", "class GuardedModel(", True),
        ("no number", "what is no\nnumber", True),
    ],
)
def test_word_pattern(word, text, matches):
    assert bool(re.search(word_pattern(word), text)) == matches
