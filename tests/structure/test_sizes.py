"""Bounds of the sizes of files, functions and builders. Docstrings do not count in a function's length."""

import ast

from source_tree import functions, parse, python_files, relative

LONGEST_FILE, LONGEST_FUNCTION, LONGEST_BUILDER_BODY = 350, 60, 40


def docstring_lines(function):
    """Returns the number of lines of a function's docstring."""
    if ast.get_docstring(function, clean=False) is None:
        return 0
    return function.body[0].end_lineno - function.body[0].lineno + 1


def body_lines(function):
    """Returns the number of lines of a function's body, without signature and docstring."""
    statements = function.body[1:] if docstring_lines(function) else function.body
    return statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0


def is_builder(function):
    """Checks whether a function has the decorator `builder`, or is named like a class as builders are."""
    names = {ast.unparse(decorator).split("(")[0].split(".")[-1] for decorator in function.decorator_list}
    return "builder" in names or function.name[0].isupper()


def test_files():
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_functions():
    lengths = {}
    for path in python_files():
        for function in functions(parse(path)):
            length = function.end_lineno - function.lineno + 1 - docstring_lines(function)
            lengths[f"{relative(path)}:{function.lineno} {function.name}"] = length
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def test_builder_bodies():
    lengths = {
        f"{relative(path)}:{function.lineno} {function.name}": body_lines(function)
        for path in python_files()
        for function in functions(parse(path))
        if is_builder(function)
    }
    assert len(lengths) >= 19  # 8 models, 11 backbones
    assert {name: length for name, length in lengths.items() if length > LONGEST_BUILDER_BODY} == {}
