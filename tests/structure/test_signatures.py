"""Public signatures say what a container holds."""

import ast

from source_tree import functions, parse, python_files, relative

BARE = {"dict", "list", "tuple", "set", "Dict", "List", "Tuple", "Mapping", "Sequence", "Iterable", "Callable"}


def bare_containers(annotation):
    """Yields containers without element types in an annotation: `dict`, not `dict[str, int]`."""
    parameterized = {id(node.value) for node in ast.walk(annotation) if isinstance(node, ast.Subscript)}
    for node in ast.walk(annotation):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
        if name in BARE and id(node) not in parameterized:
            yield name


def annotations(function):
    """Yields the annotations of a function's arguments and of its result."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    yield from (argument.annotation for argument in every if argument is not None and argument.annotation)
    if function.returns:
        yield function.returns


def test_no_bare_container_in_a_public_signature():
    faults = [
        f"{relative(path)}:{function.lineno} {function.name}: {name}"
        for path in python_files()
        for function in functions(parse(path))
        if not function.name.startswith("_")
        for annotation in annotations(function)
        for name in bare_containers(annotation)
    ]
    assert not faults, "\n".join(faults)


def test_public_functions_have_types():
    """Arguments and results of the package's public functions are annotated."""
    faults = []
    for path in python_files("keras_lightdet"):
        for function in functions(parse(path)):
            arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            untyped = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            if not function.name.startswith("_") and untyped:
                faults.append(f"{relative(path)}:{function.lineno} {function.name}: {', '.join(untyped)}")
    assert not faults, "\n".join(faults)
