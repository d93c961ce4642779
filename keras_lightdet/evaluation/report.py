"""Results as a table of classes, as JSON-able data, and as a plot of precision-recall curves."""

import math
from collections.abc import Sequence
from typing import TypeAlias

from keras_lightdet.evaluation.coco_result import CocoClass, CocoResult
from keras_lightdet.evaluation.curves import PrecisionRecall
from keras_lightdet.evaluation.results import EvaluationResult
from keras_lightdet.evaluation.voc import VocResult
from keras_lightdet.files import StrPath, expand_user

MAX_CURVES = 10  # the colors of matplotlib's cycle

JsonValue: TypeAlias = str | int | float | None


def result_as_data(result: EvaluationResult) -> dict[str, JsonValue | list[dict[str, JsonValue]]]:
    """Returns a result as JSON-able data: its figures, and "classes", the rows of the table of classes.

    NaN figures are None.
    """
    figures = {name: _none_if_nan(value) for name, value in result.figures().items()}
    rows = [of_class.columns() for of_class in result.classes]
    return {**figures, "classes": [{key: _none_if_nan(value) for key, value in row.items()} for row in rows]}


def class_table(result: EvaluationResult) -> str:
    """Returns the table of classes as text, figures in percent and NaN as "-", with the summary figures below it."""
    rows = [of_class.columns() for of_class in result.classes]
    summary = "  ".join(f"{name} {_percent(value)}" for name, value in result.figures().items())
    if not rows:
        return summary
    texts = [[_percent(x) if isinstance(x, float) else str(x) for x in row.values()] for row in rows]
    cells = [list(rows[0]), *texts]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [_aligned(row, widths) for row in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", summary])


def plot_precision_recall(result: CocoResult | VocResult, path: StrPath) -> None:
    """Plots the precision-recall curve of each class to an image file.

    VOC's curves have a point per detection; COCO's are at IoU 0.50. Of more than `MAX_CURVES` classes the best and the
    worst are plotted.

    Args:
        result: The result of an evaluation.
        path: The file to write; its suffix gives the format, such as .png or .pdf.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Expected matplotlib for plots. Run: pip install 'keras-lightdet[train]'") from error

    # pyplot would keep every figure, and may search for a display.
    figure = Figure(figsize=(8.0, 5.0), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, ap, curve in _curves(result):
        # From recall 0 at the first precision, and down to 0 at the end, as both forms of average precision have it.
        recall = [0.0, *curve.recall, *curve.recall[-1:]]
        precision = [*curve.precision[:1], *curve.precision, 0.0]
        style = {"linewidth": 1.6} if len(curve.recall) else {"marker": "x", "linestyle": "none"}
        axes.plot(recall, precision, **style, label=f"{name}  {_percent(ap)}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0.0, 1.01), ylim=(0.0, 1.02), title=_title(result))
    axes.grid(alpha=0.3)
    if axes.has_data():
        figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(expand_user(path))


def _curves(result: CocoResult | VocResult) -> list[tuple[str, float, PrecisionRecall]]:
    """Returns name, AP and curve of the classes to plot, best first."""
    curves = [(c.name, c.AP50 if isinstance(c, CocoClass) else c.AP, c.curve) for c in result.classes if c.num_objects]
    curves.sort(key=lambda curve: -curve[1])
    if len(curves) <= MAX_CURVES:
        return curves
    half = MAX_CURVES // 2
    return curves[:half] + curves[-half:]


def _title(result: CocoResult | VocResult) -> str:
    if isinstance(result, CocoResult):
        return f"COCO at IoU 0.50: AP50 {_percent(result.AP50)} %"
    return f"VOC {result.metric} at IoU {result.iou_threshold:.2f}: mAP {_percent(result.mAP)} %"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))
    return "  ".join([row[0].ljust(widths[0]), *numbers]).rstrip()


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def _none_if_nan(value: str | int | float) -> JsonValue:
    return None if isinstance(value, float) and math.isnan(value) else value
