"""Executes the notebooks on small data, and checks what is committed of them."""

import re

import nbclient
import nbformat
import pytest
from source_tree import ROOT

NOTEBOOKS = ROOT / "docs" / "notebooks"
NAMES = ("first_detection", "keras_to_phone")  # the second continues the first
SMALL = {"IMAGES": "32", "EPOCHS": "2", "STEPS": "40", "SIZE": "(96, 96)"}
MAX_BYTES = 500_000


def read(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_notebooks_run_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in NAMES:
        notebook = read(name)
        for cell in code_cells(notebook):
            for constant, value in SMALL.items():
                cell.source = re.sub(rf"^{constant} = [^#\n]*", f"{constant} = {value}  ", cell.source, flags=re.M)
        resources = {"metadata": {"path": str(tmp_path)}}  # a busy machine starts a kernel late: no limits of time
        nbclient.NotebookClient(notebook, timeout=None, startup_timeout=3600, resources=resources).execute()
    assert (tmp_path / "detector_int8.tflite").is_file()


def test_first_notebook_has_the_constants_that_the_test_replaces():
    source = "\n".join(cell.source for cell in code_cells(read("first_detection")))
    assert [name for name in SMALL if not re.search(rf"^{name} = ", source, flags=re.M)] == []


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_committed_executed_with_images_and_small(name):
    notebook = read(name)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    images = [kind for output in outputs for kind in output.get("data", {}) if kind.startswith("image/")]
    pages = [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert images or any("<img" in page for page in pages)
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < MAX_BYTES
