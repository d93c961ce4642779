"""Reads the source files of the repository for the tests of structure and documents."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "keras_lightdet"
CODE_FOLDERS = ("keras_lightdet", "recipes", "export")


def python_files(*folders: str) -> list[Path]:
    """Returns the Python files below folders of the repository, by default those with code."""
    return [path for folder in folders or CODE_FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def parse(path: Path) -> ast.Module:
    """Parses a Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def relative(path: Path) -> str:
    """Returns a path as it is written in messages, relative to the repository."""
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yields all function definitions, nested ones and methods included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yields (module, line) of each import that runs, those inside functions included.

    `from package import name` yields `package.name`: the name may be a module. Imports under `if TYPE_CHECKING` do not
    run and are left out.
    """
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            skipped.update(id(child) for statement in node.body for child in ast.walk(statement))
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def section(markdown: str, heading: str) -> str:
    """Returns the text between a heading and the next one of any level."""
    lines = markdown.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("#") and line.lstrip("# ") == heading)
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("#")), len(lines))
    return "\n".join(lines[start + 1 : end])
