"""The package's units import only units of lower layers; ARCHITECTURE.md holds the list of layers."""

import re

from source_tree import PACKAGE, ROOT, imports, parse, python_files, relative, section


def declared_layers():
    """Returns `{unit: layer}` from the list in ARCHITECTURE.md, whose first line is the highest layer."""
    text = section((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), "Layers")
    lines = re.search(r"```text\n(.*?)```", text, flags=re.S).group(1).splitlines()
    return {unit: layer for layer, line in enumerate(reversed(lines)) for unit in line.split()}


def units():
    """Returns the names of the package's folders and root modules."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return folders | {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}


def import_graph():
    """Returns `{unit: {imported unit: [file:line, ..]}}`."""
    graph = {unit: {} for unit in units()}
    for path in python_files("keras_lightdet"):
        importer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if importer not in graph:
            continue
        for module, line in imports(parse(path)):
            names = module.split(".")
            if names[0] == "keras_lightdet" and len(names) > 1 and names[1] != importer:
                graph[importer].setdefault(names[1], []).append(f"{relative(path)}:{line}")
    return graph


def find_cycle(graph):
    """Returns the units of one cycle, or an empty list."""
    finished = set()

    def visit(unit, path):
        if unit in path:
            return [*path[path.index(unit) :], unit]
        if unit in finished:
            return []
        cycle = next(filter(None, (visit(other, [*path, unit]) for other in sorted(graph.get(unit, ())))), [])
        finished.add(unit)
        return cycle

    return next(filter(None, (visit(unit, []) for unit in sorted(graph))), [])


def test_list_of_layers_names_every_unit_once():
    text = section((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), "Layers")
    names = re.search(r"```text\n(.*?)```", text, flags=re.S).group(1).split()
    assert sorted(names) == sorted(units())


def test_imports_form_no_cycle():
    assert find_cycle(import_graph()) == []


def test_find_cycle_finds_one():
    assert find_cycle({"a": {"b": []}, "b": {"c": []}, "c": {"b": []}}) == ["b", "c", "b"]


def test_units_import_lower_layers_only():
    layers = declared_layers()
    faults = [
        f"{place}: {importer} (layer {layers[importer]}) imports {imported} (layer {layers.get(imported)})"
        for importer, targets in import_graph().items()
        for imported, places in targets.items()
        for place in places
        if layers.get(imported, len(layers)) >= layers[importer]
    ]
    assert not faults, "\n".join(faults)
