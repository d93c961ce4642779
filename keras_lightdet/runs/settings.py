"""The settings of a run, and the command-line flags that set them: one table for all recipes."""

import argparse
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, TypeAlias, TypedDict, TypeVar

from keras_lightdet.files import expand_user
from keras_lightdet.types import InputShape, Size
from keras_lightdet.weights import SUFFIX

Settings = TypeVar("Settings", bound="RunSettings")
Defaults: TypeAlias = Mapping[str, Any]  # values of settings, or functions of the settings before them

SIZES = ("input_size", "crop_size")
# They do not change the training, so a resumed run may change them.
NOT_IDENTIFYING = ("output_dir", "data_dir", "format", "evaluate_every", "resume", "demo", "strict", "export")


class DataOptions(TypedDict):
    """Arguments of the functions that read data."""

    seed: int
    strict: bool


class EvaluationOptions(TypedDict):
    """Arguments of the evaluation callbacks."""

    batch_size: int
    best_path: Path
    evaluate_every: int


def flag(help: str, default: Any = dataclasses.MISSING, **options: Any) -> Any:
    """Returns a dataclass field that is a flag; `options` are those of `argparse`'s `add_argument`."""
    return dataclasses.field(default=default, metadata={"help": help, "options": options})


def positive_int(text: str) -> int:
    """Parses an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"Expected an integer of at least 1, got {text!r}.")
    return int(text)


def weights_path(text: str) -> str:
    """Returns a path with `~` expanded, or an address as it is."""
    return text if "://" in text else str(expand_user(text))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The settings of a run; the texts beside the fields are those of `--help`.

    Raises:
        ValueError: If both `demo` and `data_dir`, or both `weights` and `weights_backbone` are set.
    """

    without_flag: ClassVar[tuple[str, ...]] = ()  # fields without a meaning for the task

    output_dir: Path = flag("folder of everything the run writes", type=expand_user, metavar="DIR")
    epochs: int = flag("epochs of the whole run", type=positive_int, metavar="N")
    batch_size: int = flag("images per step", type=positive_int, metavar="N")
    input_size: Size = flag(
        "side, or height and width, of the network input", type=positive_int, nargs="+", metavar="PIXELS"
    )
    data_dir: Path | None = flag(
        "folder of your data set; without it the data set named above is used", None, type=expand_user, metavar="DIR"
    )
    format: str = flag("format of --data-dir", "auto", choices=("auto", "voc", "coco"))
    variant: str = flag("size of the model, as the paper names it", "")
    weights: str | None = flag(
        "start from a .weights.h5 of this model; if its classes differ, class predictions start from scratch",
        None,
        type=weights_path,
        metavar="FILE",
    )
    weights_backbone: str | None = flag(
        "start from a .weights.h5 of a classifier", None, type=weights_path, metavar="FILE"
    )
    evaluate_every: int = flag("epochs between evaluations", 1, type=positive_int, metavar="N")
    seed: int = flag("seed of weights, shuffle and augmentation", 0, type=int, metavar="N")
    resume: bool = flag("continue the run in --output-dir", False, action="store_true")
    demo: bool = flag("train for minutes on synthetic scenes, without data or network", False, action="store_true")
    strict: bool = flag("stop at the first fault in the data instead of skipping it", False, action="store_true")
    export: bool = flag("write and check the int8 .tflite file", False, action=argparse.BooleanOptionalAction)

    def __post_init__(self) -> None:
        if self.demo and self.data_dir:
            raise ValueError("--demo draws its own data: leave out --data-dir.")
        if self.weights and self.weights_backbone:
            raise ValueError("--weights has a backbone: leave out --weights-backbone.")

    @property
    def input_shape(self) -> InputShape:
        """`(height, width, 3)` of the network input."""
        return (*self.input_size, 3)

    @property
    def data_folder(self) -> Path | None:
        """The folder of the data: `data_dir`, in a demo that of the synthetic scenes."""
        return self.output_dir / "scenes" if self.demo else self.data_dir

    @property
    def download_dir(self) -> Path:
        """The folder for public data sets, which the runs beside this one share."""
        return self.output_dir.parent / "data"

    @property
    def best_path(self) -> Path:
        """The file of the best weights."""
        return self.output_dir / f"best{SUFFIX}"

    @property
    def data_options(self) -> DataOptions:
        """Arguments of the functions that read data and make training batches."""
        return {"seed": self.seed, "strict": self.strict}

    @property
    def evaluation(self) -> EvaluationOptions:
        """Arguments of the callbacks `EvaluateDetector`, `EvaluateSegmenter` and `EvaluateClassifier`."""
        return {"batch_size": self.batch_size, "best_path": self.best_path, "evaluate_every": self.evaluate_every}

    @property
    def is_fine_tuning(self) -> bool:
        """Whether the run starts from trained weights, of the model or of its backbone."""
        return bool(self.weights or self.weights_backbone)

    def count_steps(self, num_images: int) -> tuple[int, int]:
        """Returns the steps of an epoch, in which each of `num_images` occurs at least once, and those of the run."""
        steps_per_epoch = -(-num_images // self.batch_size)
        return steps_per_epoch, steps_per_epoch * self.epochs

    def scaled_sizes(self, scales: Sequence[float]) -> list[Size]:
        """Returns the input size at several scales, for training at these sizes in turn."""
        height, width = self.input_size
        return [(round(scale * height), round(scale * width)) for scale in scales]

    def identity(self) -> dict[str, Any]:
        """Returns the settings that a resumed run must have in common with the interrupted one, fit for JSON."""
        values = {key: value for key, value in vars(self).items() if key not in NOT_IDENTIFYING}
        return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationSettings(RunSettings):
    """The settings of a segmenter's run; `crop_size` is `(height, width)`, cut out of the resized training images."""

    without_flag = ("format",)

    crop_size: Size = flag("size of the training crops", type=positive_int, nargs="+", metavar="PIXELS")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationSettings(RunSettings):
    """The settings of a classifier's run.

    Raises:
        ValueError: If the input is not a square.
    """

    without_flag = ("format", "weights_backbone", "strict", "export")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input_size[0] != self.input_size[1]:
            raise ValueError(f"Expected a square --input-size for a classifier, got {self.input_size}. Pass one side.")

    @property
    def side(self) -> int:
        """Side of the network input in pixels."""
        return self.input_size[0]


def parse_settings(
    settings_class: type[Settings],
    argv: Sequence[str] | None,
    doc: str | None,
    name: str,
    defaults: Defaults,
    demo: Defaults,
    *,
    variants: Sequence[str] = (),
    omit: Collection[str] = (),
) -> Settings:
    """Reads the flags of a recipe. Wrong flags end the process with a usage message, as in `argparse`.

    Args:
        settings_class: `RunSettings`, or a subclass with more flags.
        argv: The flags; None takes those of the process.
        doc: The recipe's docstring, printed by `--help`.
        name: Name of the run; the default of `output_dir` is `runs/<name>`.
        defaults: Values of flags that are not passed. A value that depends on other settings is a function of the
            settings before it, such as `{"input_size": 416, "batch_size": lambda s: 4992 // max(s.input_size)}`.
            A size is one number if it is square.
        demo: Values that replace those of `defaults` under `--demo`.
        variants: Choices of `--variant`, the default first.
        omit: Names of further settings without a meaning in this recipe; they have no flag.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    omitted = {*omit, *settings_class.without_flag, *(() if variants else ("variant",))}
    presets = {"output_dir": Path("runs") / name, "variant": next(iter(variants), ""), **defaults}
    fields = dataclasses.fields(settings_class)
    fixed = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    for field in fields:
        if field.name not in omitted:
            options = {**field.metadata["options"], "default": None}
            options["help"] = _describe(field, presets.get(field.name), demo.get(field.name))
            if field.name == "variant":
                options["choices"] = variants
            parser.add_argument(f"--{field.name.replace('_', '-')}", **options)
    values = {key: value for key, value in vars(parser.parse_args(argv)).items() if value is not None}
    if values.get("demo"):
        presets |= {**demo, **({} if "export" in omitted else {"export": True})}
    try:
        for key, preset in presets.items():
            if key not in values:
                values[key] = preset(SimpleNamespace(**{**fixed, **values})) if callable(preset) else preset
            if key in SIZES:
                values[key] = _as_size(key, values[key])
        return settings_class(**values)
    except ValueError as error:
        parser.error(str(error))


def _describe(field: "dataclasses.Field[Any]", preset: Any, demo_preset: Any) -> str:
    """Returns the help of a flag, with its defaults."""
    text = field.metadata["help"]
    if preset is None and field.default not in (dataclasses.MISSING, None, "") and field.default is not False:
        preset = field.default
    if preset is not None:
        text += "; default: " + ("depends on other flags" if callable(preset) else f"{preset}")
    if demo_preset is not None:
        text += f", with --demo {demo_preset}"
    return text.replace("%", "%%")


def _as_size(key: str, value: int | Sequence[int]) -> Size:
    sides = (value,) if isinstance(value, int) else tuple(value)
    if len(sides) > 2:
        raise ValueError(f"--{key.replace('_', '-')} takes one side, or height and width, got {len(sides)} numbers.")
    return sides[0], sides[-1]
