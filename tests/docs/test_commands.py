"""The commands in README.md and docs/ have the flags that they are documented with."""

import re
import shlex

import pytest
from documents import blocks, documents
from source_tree import ROOT, relative

from keras_lightdet import runs
from keras_lightdet.cli import COMMANDS, build_parser, train

SCRIPTS = {
    "export/export_tflite.py": "export",
    "export/check_tflite.py": "check",
    "export/benchmark_tflite.py": "bench",
    "recipes/inspect_data.py": "inspect",
    "recipes/print_costs.py": "costs",
    "docs/make_figures.py": None,
}
OTHER_PROGRAMS = {"pip", "pytest", "ruff", "mypy", "mkdocs", "pre-commit", ".ci/run", "source", "cp", "git"}
PAGES = [path for path in documents() if path.name != "CHANGELOG.md"]


class EndOfParsingError(Exception):
    """Ends a recipe once its flags are read."""


def commands(page):
    """Yields the commands of a page: those of its shell blocks, and code such as `lightdet inspect --data-dir D`."""
    for block in blocks(page, "shell"):
        for line in block.code.replace("\\\n", " ").splitlines():
            for command in line.partition("  #")[0].split("&&"):
                yield shlex.split(command)
    for code in re.findall(r"`((?:lightdet|python (?:recipes|export))[ /][^`]+)`", page.read_text(encoding="utf-8")):
        yield shlex.split(code)


def check_recipe(name, flags, monkeypatch):
    """Reads the flags of a recipe as the recipe does."""

    def parse_only(*arguments, **options):
        runs.parse_settings(*arguments, **options)
        raise EndOfParsingError

    monkeypatch.setattr(runs, "start", parse_only)
    with pytest.raises(SystemExit if "--help" in flags else EndOfParsingError):
        train.run([name, *flags])


def check_command(words, monkeypatch):
    """Checks one command, and returns whether it is one of this package."""
    program, *arguments = words
    if program == "python" and arguments[0] in SCRIPTS and SCRIPTS[arguments[0]] is not None:
        program, arguments = "lightdet", [SCRIPTS[arguments[0]], *arguments[1:]]
    elif program == "python" and arguments[0].startswith("recipes/"):
        assert (ROOT / arguments[0]).is_file(), arguments[0]
        name = arguments[0].removeprefix("recipes/").removesuffix(".py")
        program, arguments = "lightdet", ["train", name, *arguments[1:]]
    if program != "lightdet":
        assert program in OTHER_PROGRAMS or program == "python", words
        return False
    if arguments[0] == "COMMAND":
        return True
    if len(arguments) == 1:
        assert arguments[0] in COMMANDS or arguments[0].startswith("--"), words
    elif arguments[0] == "train":
        if arguments[1] not in ("NAME", "FILE.py"):
            check_recipe(arguments[1], arguments[2:], monkeypatch)
    else:
        build_parser().parse_args(arguments)
    return True


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_have_valid_flags(page, monkeypatch, tmp_path):
    for name in ("toydet", "my_recipe", "path/to/recipe"):  # files that the documents have the reader write
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_text((ROOT / "recipes" / "train_rsanet_voc.py").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    checked = [check_command(words, monkeypatch) for words in commands(page) if words]
    assert any(checked) or page.name not in ("README.md", "guide.md", "recipes.md", "export.md", "CONTRIBUTING.md")


def test_every_command_is_documented():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in COMMANDS if f"lightdet {name}" not in text] == []


def test_every_recipe_is_documented():
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert [name for name in train.find_recipes() if f"`{name}`" not in text and f"{name}.py" not in text] == []
