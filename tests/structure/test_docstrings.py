"""The arguments that docstrings describe are those of the signatures."""

import ast
import re

from source_tree import parse, python_files, relative


def documented_arguments(docstring):
    """Returns the names in the section "Args" of a docstring in Google style; "a, b: .." gives two."""
    match = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)*)", docstring, flags=re.M)
    if match is None:
        return []
    lines = match.group(1).splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    heads = [line.strip() for line in lines if len(line) - len(line.lstrip()) == indent and ":" in line]
    return [name.strip().lstrip("*`").rstrip("`") for head in heads for name in head.partition(":")[0].split(",")]


def argument_names(function):
    """Returns the names of a function's arguments."""
    return {argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)}


def test_documented_arguments_exist():
    faults = []
    for path in python_files():
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ClassDef):
                constructors = [item for item in node.body if getattr(item, "name", None) == "__init__"]
                if not constructors:
                    continue
                names = argument_names(constructors[0])
            elif isinstance(node, ast.FunctionDef):
                names = argument_names(node)
            else:
                continue
            unknown = set(documented_arguments(ast.get_docstring(node) or "")) - names
            if unknown:
                faults.append(f"{relative(path)}:{node.lineno} {node.name}: {', '.join(sorted(unknown))}")
    assert not faults, "\n".join(faults)


def test_documented_arguments_are_read_in_all_their_forms():
    arguments = "    a: First,\n        with more: text.\n    b, c: Two.\n    **options: Rest.\n"
    docstring = f"Does it.\n\nArgs:\n{arguments}\nReturns:\n    x: y"
    assert documented_arguments(docstring) == ["a", "b", "c", "options"]
