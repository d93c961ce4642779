import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = ("pycocotools", "tensorflow_datasets", "mediapipe", "ai_edge_litert", "defusedxml", "torch")


def test_import_leaves_the_extras_alone():
    """In a process where the extras cannot be imported; Keras itself takes matplotlib where it is there."""
    blocked = dict.fromkeys((*HEAVY, "matplotlib"))
    script = f"import sys; sys.modules.update({blocked!r}); import keras_lightdet, keras_lightdet.data"
    script += "; import keras_lightdet.deploy, keras_lightdet.evaluation, keras_lightdet.training"
    script += "; import keras_lightdet.analysis, keras_lightdet.foreign_weights"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]


def imports_of(path):
    return set(re.findall(r"^(?:from|import) keras_lightdet\.(\w+)", path.read_text(), flags=re.M))


def test_imports_run_one_way():
    tiers = {
        **dict.fromkeys(("errors", "files", "guarded_model", "images"), 0),
        "boxes": 1,
        "layers": 2,
        "backbones": 3,
        **dict.fromkeys(("detection", "segmentation", "weights"), 4),
        "models": 5,
        **dict.fromkeys(("data", "evaluation", "training", "analysis", "deploy", "convert"), 6),
        **dict.fromkeys(("drawing", "label_drawing", "sheet"), 6),
    }
    for path in (ROOT / "keras_lightdet").rglob("*.py"):
        own = path.relative_to(ROOT / "keras_lightdet").parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for other in imports_of(path):
            assert tiers[other] <= tiers[own], f"{path} imports {other}"
        if own in ("data", "evaluation", "analysis"):
            assert "models" not in imports_of(path), path


def test_readme_names_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert 'pip install -e ".[all]" && python recipes/train_rsanet_voc.py --demo' in readme
    assert 'pip install -e ".[all]" && pytest' in readme
