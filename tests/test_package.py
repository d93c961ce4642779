"""The public face of the package: names, types, imports, the README's two commands."""

import ast
import subprocess
import sys

from source_tree import PACKAGE, ROOT, parse

import keras_lightdet

HEAVY = ("pycocotools", "tensorflow_datasets", "mediapipe", "ai_edge_litert", "defusedxml", "torch")
SUBMODULES = ("analysis", "data", "deploy", "evaluation", "foreign_weights", "training", "visualization", "weights")


def run_python(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    return done.stdout


def test_package_imports_without_the_extras():
    """In a process where the extras cannot be imported; Keras itself imports matplotlib if it is installed."""
    blocked = dict.fromkeys((*HEAVY, "matplotlib"))
    script = f"import sys; sys.modules.update({blocked!r}); import keras_lightdet"
    run_python("; ".join([script, *(f"import keras_lightdet.{name}" for name in SUBMODULES)]))


def test_import_of_the_package_alone_imports_no_framework():
    frameworks = ("tensorflow", "keras", "numpy", "PIL")
    script = f"import sys, keras_lightdet; print([name for name in {frameworks} if name in sys.modules])"
    assert run_python(script).strip() == "[]"


def test_dir_is_all_and_every_name_exists_without_an_import_of_its_module():
    script = "import keras_lightdet as k; assert dir(k) == sorted(k.__all__)"
    script += "; [getattr(k, name) for name in k.__all__]; assert dir(k) == sorted(k.__all__)"
    run_python(script)


def test_names_for_type_checkers_are_the_public_names():
    """The imports under TYPE_CHECKING, which editors read, are those that `__getattr__` performs."""
    block = next(node for node in parse(PACKAGE / "__init__.py").body if isinstance(node, ast.If))
    names = {}
    for statement in block.body:
        for alias in statement.names:
            names[alias.asname or alias.name] = f"{statement.module}.{alias.name}"
    assert {"__version__", *names} == set(keras_lightdet.__all__)
    for name, origin in names.items():
        module, _, attribute = origin.rpartition(".")
        assert getattr(keras_lightdet, name) is getattr(__import__(module, fromlist=[attribute]), attribute)


def test_unknown_name_raises_attribute_error():
    try:
        keras_lightdet.no_such_name  # noqa: B018
    except AttributeError as error:
        assert "no_such_name" in str(error)
    else:
        raise AssertionError


def test_package_declares_its_types():
    assert (PACKAGE / "py.typed").exists()


def test_readme_names_the_two_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 'pip install -e ".[all]" && python recipes/train_rsanet_voc.py --demo' in readme
    assert 'pip install -e ".[all]" && pytest' in readme
