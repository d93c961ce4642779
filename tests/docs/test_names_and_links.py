"""The names and links of the documents exist."""

import functools
import importlib
import re

import pytest
from documents import anchors, blocks, documents, links, package_names
from source_tree import ROOT, relative

import keras_lightdet

DOCUMENTS = documents()
CURRENT = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]


def resolve(name):
    """Returns the object of a dotted name, as it is after `import keras_lightdet` alone."""
    return functools.reduce(getattr, name.split(".")[1:], keras_lightdet)


@pytest.mark.parametrize("page", CURRENT, ids=relative)
def test_names_of_the_package_exist(page):
    for name in sorted(package_names(page.read_text(encoding="utf-8"))):
        resolve(name)


def test_api_pages_document_the_public_names():
    """Each public function and class is on a page of the API reference, alone or with its module."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    directives = re.findall(r"^::: (\S+)$", text, flags=re.M)
    documented = set()
    for name in directives:
        target = importlib.import_module(name)
        documented.add(id(target))
        members = getattr(target, "__all__", None) or [member for member in vars(target) if member[0] != "_"]
        documented.update(id(getattr(target, member)) for member in members)
    missing = [name for name in keras_lightdet.__all__ if id(getattr(keras_lightdet, name)) not in documented]
    assert [name for name in missing if callable(getattr(keras_lightdet, name))] == []


@pytest.mark.parametrize("page", DOCUMENTS, ids=relative)
def test_links_lead_to_files_and_headings(page):
    for link in links(page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{relative(page)}: {link}"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{relative(page)}: {link}"


@pytest.mark.parametrize("page", DOCUMENTS, ids=relative)
def test_code_blocks_name_their_language(page):
    assert [block.line for block in blocks(page) if not block.language] == []


@pytest.mark.parametrize(
    "page", [path for path in DOCUMENTS if "--8<--" in path.read_text(encoding="utf-8")], ids=relative
)
def test_documents_that_a_page_includes_have_no_relative_links(page):
    """Such a link would lead elsewhere from the page than from the document."""
    for included in re.findall(r'--8<-- "(.+)"', page.read_text(encoding="utf-8")):
        assert links((ROOT / included).read_text(encoding="utf-8")) == []
