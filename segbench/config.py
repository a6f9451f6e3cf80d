"""What a user writes: one run configuration and one flat recipe per experiment.

Both are checked completely before anything runs. An unknown key, a wrong type, an unknown
model or dataset is a ``ConfigError`` that names the file, the line, the key and the nearest
right name. There is no inheritance: what a file says is what runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from segbench.errors import ConfigError, did_you_mean
from segbench.types import Task

CONTROLS = ("oracle", "majority_class", "all_void", "shifted_labels")
"""Rows that need no training and must land where theory says (``segbench.controls``)."""
Oracle = Literal["semantic", "boxes", "masks"]
ORACLES: tuple[Oracle, ...] = get_args(Oracle)
"""Parts of a panoptic prediction whose place the truth can take (``segbench.oracles``)."""

AFTER_TRAINING = frozenset(
    {
        "inference", "window", "window_stride", "multi_scale", "flip", "score_threshold",
        "predict_short", "predict_long_max",
        "panoptic_threshold", "panoptic_overlap", "panoptic_stuff_area", "profile_size",
        "crf_iterations", "crf_spatial_weight", "crf_spatial_std", "crf_bilateral_weight",
        "crf_bilateral_xy_std", "crf_bilateral_rgb_std", "crf_kernel",
    }
)  # fmt: skip
"""Recipe fields that are read only once the weights are there."""
WITHOUT_EFFECT = frozenset({"paper_recipe", "inferred", "workers", "checkpoint_interval", "gpus"})
"""Recipe fields that change no number."""

Model = TypeVar("Model", bound=BaseModel)
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Side = Annotated[int, Field(gt=0)]
WEIGHTS_ENDING = ".safetensors"


def oracle_parts(value: Any) -> tuple[str, ...]:
    """Return the parts that ``semantic+boxes`` names, in the order of ``ORACLES``.

    Raises:
        ValueError: It is no such text, or names a part that is unknown or already named.
    """
    parts = value.split("+") if isinstance(value, str) else [value]
    for part in parts:
        if part not in ORACLES:
            near = did_you_mean(str(part), ORACLES)
            raise ValueError(
                f"expected {', '.join(ORACLES)} or several joined by +, as semantic+boxes.{near}"
            )
    if len(set(parts)) < len(parts):
        raise ValueError("a part is named twice")
    return tuple(part for part in ORACLES if part in parts)


OracleParts = Annotated[tuple[Oracle, ...], BeforeValidator(oracle_parts)]


def oracle_tag(parts: Iterable[str]) -> str:
    """Return how a row is called in which the truth stands for ``parts``."""
    return f"oracle:{'+'.join(parts)}"


def oracle_experiment(experiment: str, parts: Iterable[str]) -> str:
    """Return the file-name-safe experiment of such a row; no ``Name`` can be the same."""
    return f"{experiment}@oracle-{'-'.join(parts)}"


class Strict(BaseModel):
    """Base of every configuration model: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Recipe(Strict):
    """Everything that decides the weights of one experiment, in one flat file.

    Lengths are in iterations (optimiser steps) and pixels. ``paper_recipe`` names where the
    settings come from; what is a guess is listed in ``inferred``.
    """

    model: str
    dataset: str
    task: Task
    paper_recipe: str = ""
    inferred: tuple[str, ...] = ()
    model_options: dict[str, Any] = {}
    backbone_weights: str = "none"
    """``none``, ``imagenet`` or the path of a safetensors or .pth file."""
    init_from: Annotated[str, Field(min_length=1)] | None = None
    """Weights to start from: those of ``<experiment>`` or ``<dataset>/<experiment>`` with the same
    seed, or the path of a ``.safetensors`` file. Tensors of equal name and shape are taken."""
    init_into: str = ""
    """Part of the network that ``init_from`` fills, as ``unary`` in CRF-RNN; empty is all of it."""
    frozen: tuple[str, ...] = ()
    """Parts of the network, as ``backbone``, that do not learn and work as in prediction."""

    train_split: str = "train"
    masks_per_class: Annotated[int, Field(ge=1)] | None = None
    """Semi-supervised training: images of each class whose label maps are used; the others
    give their image labels alone. None uses every label map."""
    crop_size: tuple[int, int] | None = None
    """Height and width of a training crop; None trains on whole images."""
    resize_short: tuple[Side, ...] = ()
    """Lengths of an image's shorter side, one of which is drawn; empty keeps the image's size."""
    resize_long_max: Side | None = None
    """Most pixels of the longer side after ``resize_short``; alone it is that side's length."""
    scale_range: tuple[float, float] = (1.0, 1.0)
    """Factor on the size, drawn uniformly."""
    crop_max_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Crops in which one class has a larger share of the labelled pixels are drawn again, up to
    ten times (mmsegmentation: 0.75)."""
    horizontal_flip: bool = False
    color_jitter: Fraction = 0.0
    """Brightness, contrast and per-channel tint, each drawn from 1 +- this."""
    elastic: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation in pixels of the displacements of a coarse grid (U-Net: 10)."""
    elastic_grid: Annotated[int, Field(ge=2)] = 3
    """Points of that grid on each axis."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Rotation by up to this many degrees to either side (PSPNet: 10); corners are ignored."""
    blur: Fraction = 0.0
    """Probability of a Gaussian blur (5x5, sigma 1.1 pixels: PSPNet, with 0.5)."""
    shift: Annotated[int, Field(ge=0)] = 0
    """Cyclic translation by up to this many pixels on each axis."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    iterations: Annotated[int, Field(gt=0)]
    batch_size: Annotated[int, Field(gt=0)]
    """Images of one optimiser step, over all processes."""
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"
    base_lr: Annotated[float, Field(gt=0)]
    backbone_lr_factor: Annotated[float, Field(ge=0)] = 1.0
    """A head of 10 times the backbone's rate is ten times the base_lr with a factor of 0.1."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor on the rate from each layer of the backbone to the one before it."""
    bias_lr_factor: Annotated[float, Field(ge=0)] = 1.0
    """Rate of the biases relative to that of the weights beside them; Caffe's are often 2."""
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    bias_weight_decay: bool = True
    """False leaves biases, those of normalisation included, out of weight_decay, as in Caffe."""
    norm_weight_decay: bool = True
    """False spares normalisation, factors of channels, embeddings and tables of positions."""
    schedule: Literal["poly", "cosine", "constant", "step"] = "poly"
    poly_power: Annotated[float, Field(gt=0)] = 0.9
    final_lr: Annotated[float, Field(ge=0)] = 0.0
    """Rate at which ``schedule: poly`` ends (mmsegmentation's older recipes: 1e-4)."""
    step_interval: Annotated[int, Field(gt=0)] | None = None
    """Iterations after which ``schedule: step`` multiplies the rate by ``step_factor``."""
    step_at: tuple[Annotated[int, Field(gt=0)], ...] = ()
    """Iterations, warm-up included, at which it does so, in place of an interval."""
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup_iterations: Annotated[int, Field(ge=0)] = 0
    warmup_start: Fraction | None = None
    """Share of base_lr at step 0; None is 1 / (warmup_iterations + 1)."""
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = None
    class_weights: tuple[float, ...] | None = None
    """Weight of each train id in the semantic loss."""
    class_weight_power: Fraction | None = None
    """Weights (largest frequency / frequency) ** power from the training split."""
    class_weighting: Literal["none", "median_frequency", "enet"] = "none"
    """Weights by SegNet's or ENet's formula from the training split."""
    loss: Literal["cross_entropy", "ohem", "focal", "dice", "jaccard", "lovasz"] = "cross_entropy"
    """Loss of a semantic network's map and of its auxiliary maps."""
    loss_threshold: Fraction = 0.7
    """``ohem``: pixels whose class is less probable are hard."""
    loss_min_kept: Annotated[int, Field(ge=0)] = 100_000
    """``ohem``: at least so many pixels of a process's batch are hard."""
    loss_gamma: Annotated[float, Field(ge=0)] = 2.0
    """``focal``: the exponent that quietens what is already right."""
    loss_smooth: Annotated[float, Field(ge=0)] = 1.0
    """``dice``, ``jaccard``: pixels added to numerator and denominator (epsilon)."""
    loss_cross_entropy: Annotated[float, Field(ge=0)] = 0.0
    """Weight of a cross-entropy beside another loss."""
    aux_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """Weight of each auxiliary map in the loss, as ICNet's cascade; None: the model's own."""
    border_weight: Annotated[float, Field(ge=0)] = 0.0
    """U-Net's w0 (10 in the paper): pixels between two close regions count up to 1 + this."""
    border_sigma: Annotated[float, Field(gt=0)] = 5.0
    border_background: Annotated[int, Field(ge=0)] = 0
    """Train id of what lies between the regions."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = False
    deterministic: bool = True
    workers: Annotated[int, Field(ge=0)] = 0
    threads: Annotated[int, Field(ge=1)] = 1
    """CPU threads of one training process; part of what fixes the bits on a CPU."""
    checkpoint_interval: Annotated[int, Field(gt=0)] = 200
    gpus: Annotated[int, Field(ge=0)] = 1
    """GPUs to ask the cluster for; above 1 trains with torchrun. 0 trains on the CPU."""

    inference: Literal["whole", "slide"] = "whole"
    window: tuple[int, int] | None = None
    window_stride: tuple[int, int] | None = None
    predict_short: Side | None = None
    """Length of the shorter side that an image is resized to before the network sees it."""
    predict_long_max: Side | None = None
    """Most pixels of its longer side then; alone it is that side's length."""
    multi_scale: tuple[float, ...] = (1.0,)
    flip: bool = False
    score_threshold: Fraction = 0.05
    """Instances below this score are not written."""
    panoptic_threshold: Fraction = 0.5
    """Instances below this score take no part in the panoptic merge; fixed beforehand."""
    panoptic_overlap: Fraction = 0.5
    panoptic_stuff_area: Annotated[int, Field(ge=0)] = 4096
    """Stuff segments of fewer pixels become void."""
    crf_iterations: Annotated[int, Field(ge=0)] = 0
    """Steps of a dense CRF after a semantic network; 0 is none. The other defaults and 10 steps
    are DeepLab v2's on PASCAL VOC."""
    crf_spatial_weight: Annotated[float, Field(ge=0)] = 3.0
    crf_spatial_std: Annotated[float, Field(gt=0)] = 1.0
    """In pixels."""
    crf_bilateral_weight: Annotated[float, Field(ge=0)] = 4.0
    crf_bilateral_xy_std: Annotated[float, Field(gt=0)] = 67.0
    """In pixels."""
    crf_bilateral_rgb_std: Annotated[float, Field(gt=0)] = 3.0
    """In 8-bit colour."""
    crf_kernel: Literal["lattice", "window", "exact"] = "lattice"
    """How its Gaussian sums are made, see ``segbench.postprocess.dense_crf``."""
    profile_size: tuple[int, int] = (512, 512)
    """Height and width at which MACs, latency and memory are stated."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.warmup_iterations >= self.iterations:
            raise ValueError("warmup_iterations must be smaller than iterations")
        if self.inference == "slide" and self.window is None:
            raise ValueError("inference: slide needs a window")
        if self.crf_iterations and self.task != "semantic":
            raise ValueError(f"crf_iterations is for task: semantic, the task is {self.task}")
        given = (self.step_interval is not None) + bool(self.step_at)
        if given != (self.schedule == "step"):
            raise ValueError("schedule: step and one of step_interval and step_at go together")
        if self.final_lr and (self.schedule != "poly" or self.final_lr > self.base_lr):
            raise ValueError("final_lr is for schedule: poly and at most base_lr")
        if self.warmup_start is not None and not self.warmup_iterations:
            raise ValueError("warmup_start needs warmup_iterations")
        if self.crop_max_share < 1 and (self.crop_size is None or self.task == "instance"):
            raise ValueError("crop_max_share needs a crop_size and label maps")
        if self.init_into and self.init_from is None:
            raise ValueError("init_into needs init_from")
        self._check_loss()
        return self

    @property
    def init_file(self) -> Path | None:
        """The file that ``init_from`` names, None where it names an experiment or nothing."""
        named = self.init_from is not None and self.init_from.endswith(WEIGHTS_ENDING)
        return Path(str(self.init_from)) if named else None

    @property
    def first_weights(self) -> tuple[Path, ...]:
        """The files of weights that the recipe names and that are there."""
        files = [self.init_file, Path(self.backbone_weights)]
        return tuple(file for file in files if file is not None and file.is_file())

    @property
    def base(self) -> tuple[str, str] | None:
        """Dataset and name of the experiment that ``init_from`` names."""
        if self.init_from is None or self.init_file is not None:
            return None
        dataset, _, experiment = self.init_from.rpartition("/")
        return dataset or self.dataset, experiment

    @property
    def name_suffix(self) -> str:
        """What the name of the model gains on the board."""
        return " + dense CRF" if self.crf_iterations else ""

    def _check_loss(self) -> None:
        formula = self.class_weighting != "none"
        if (self.class_weights is not None) + (self.class_weight_power is not None) + formula > 1:
            raise ValueError(
                "give one of class_weights, class_weight_power and class_weighting, not several"
            )
        by_pixel = self.loss in ("cross_entropy", "ohem", "focal") or self.loss_cross_entropy
        if self.border_weight and not by_pixel:
            raise ValueError(f"border_weight weighs pixels, which loss: {self.loss} does not")
        if self.border_weight and self.task != "semantic":
            raise ValueError("border_weight is for task: semantic")


class DatasetConfig(Strict):
    """Where a dataset comes from: a folder the user supplies, or options of its generator."""

    raw: Path | None = None
    options: dict[str, Any] = {}
    bad_images: Literal["fail", "skip"] = "fail"
    """``skip`` leaves out images that cannot be read; the report says how many and which."""


class Submission(Strict):
    """Predictions made elsewhere, as a row of the board: ``workflow/submissions/<name>.yaml``."""

    dataset: str
    split: str = "val"
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    protocol: str | None = None
    """Protocol id of the one task; None takes the dataset's own of each task."""
    folder: Path
    """Prediction files in the layout of ``docs/architecture.md``; its manifest is not needed."""
    display_name: str = ""
    paper: str = ""
    year: int | None = None
    reported: dict[str, Annotated[float, Field(ge=0, le=100)]] = {}
    """Scores the paper states by metric (``miou``), in percent; shown beside ours."""

    @model_validator(mode="after")
    def _consistent(self) -> Submission:
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError("tasks: a task is listed twice")
        if self.protocol is not None and len(self.tasks) > 1:
            raise ValueError("protocol: give one task with it; each task has its own protocols")
        return self


class RunConfig(Strict):
    """Rows of the board: experiments, controls and submissions on one dataset."""

    dataset: str
    experiments: tuple[Name, ...] = ()
    controls: tuple[Literal["oracle", "majority_class", "all_void", "shifted_labels"], ...] = ()
    submissions: tuple[Name, ...] = ()
    oracles: dict[Name, tuple[OracleParts, ...]] = {}
    """For panoptic experiments of this run: rows with the truth in place of parts of the trained
    network's predictions, as ``{panoptic_fpn_tiny: [semantic, boxes, semantic+boxes]}``."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    split: str = "val"
    iterations: Annotated[int, Field(gt=0)] | None = None
    """Overrides the length of every recipe of this run; shown on the board."""


class EvaluateConfig(Strict):
    """What is scored besides each task's own numbers."""

    boundary: bool = False
    """Boundary IoU and F, Boundary AP, Boundary PQ: two to ten times the time of scoring."""


class ReportConfig(Strict):
    """How the report is made."""

    title: str = "segbench"
    gallery_images: Annotated[int, Field(ge=0)] = 24
    """Images of each run in the gallery, worst first; 0 makes no pictures."""
    overlay_images: Annotated[int, Field(ge=0)] = 200
    """Images of each run and task whose overlays are drawn beside the predictions."""


class Config(Strict):
    """The run configuration, ``config.yaml``."""

    results: Path = Path("results")
    experiments_folder: Path = Path("workflow/experiments")
    submissions_folder: Path = Path("workflow/submissions")
    datasets: dict[str, DatasetConfig] = {}
    runs: tuple[RunConfig, ...]
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()

    def cells(self) -> Iterator[tuple[RunConfig, str, int]]:
        """Yield every (run, experiment, control or submission, seed) of the board."""
        for run in self.runs:
            for name in (*run.controls, *run.submissions):
                yield run, name, 0
            for name in run.experiments:
                for seed in run.seeds:
                    yield run, name, seed


def load_config(path: Path) -> Config:
    """Read and check a run configuration.

    Raises:
        ConfigError: Naming file, line, key and the nearest right name.
    """
    return load_yaml(Path(path), Config)


def load_recipe(path: Path) -> Recipe:
    """Read and check an experiment file.

    Raises:
        ConfigError: Naming file, line, key and the nearest right name.
    """
    return load_yaml(Path(path), Recipe)


def load_submission(path: Path) -> Submission:
    """Read and check a submission file.

    Raises:
        ConfigError: Naming file, line, key and the nearest right name.
    """
    return load_yaml(Path(path), Submission)


def recipe_digest(recipe: Recipe) -> str:
    """Return 16 hex digits over the fields that decide the weights.

    The digest names the training state: a changed recipe never resumes old weights, while
    a changed merge threshold only predicts again. Fields at their default are left out, so
    that a new key of segbench does not make every old row stale.
    """
    return _digest(recipe, exclude=set(AFTER_TRAINING | WITHOUT_EFFECT))


def inference_digest(recipe: Recipe) -> str:
    """Return 16 hex digits over the fields that decide predictions from given weights."""
    return _digest(recipe, exclude=set(WITHOUT_EFFECT))


def _digest(recipe: Recipe, exclude: set[str]) -> str:
    values = recipe.model_dump(mode="json", exclude=exclude, exclude_defaults=True)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def parse(model: type[Model], values: Mapping[str, Any], source: str) -> Model:
    """Check plain values against a configuration model; ``source`` is named in errors."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_describe(item, model) for item in error.errors()]
        raise ConfigError("\n".join(f"{source}: {text}" for text in problems)) from None


def load_yaml(path: Path, model: type[Model]) -> Model:
    """Read and check a YAML file as a configuration model.

    Raises:
        ConfigError: Naming file, line, key and the nearest right name.
    """
    text = _read_text(path)
    try:
        node = yaml.compose(text)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict) or node is None:
        raise ConfigError(f"{path}: expected keys and values, found {type(values).__name__}")
    _refuse_duplicate_keys(node, path)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [
            f"{path}:{_line(node, item['loc'])}: {_describe(item, model)}"
            for item in error.errors()
        ]
        raise ConfigError("\n".join(lines)) from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = [p.stem for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise ConfigError(f"{path} does not exist.{did_you_mean(path.stem, near)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def _refuse_duplicate_keys(node: yaml.Node, path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise ConfigError(f"{path}:{key.start_mark.line + 1}: '{key.value}' is given twice")
            seen.add(key.value)
            _refuse_duplicate_keys(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicate_keys(value, path)


def _line(node: yaml.Node, location: tuple[int | str, ...]) -> int:
    """Return the 1-based line of a pydantic error location in the YAML source."""
    line = node.start_mark.line
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(part)]
            if not found:
                break
            line, node = found[0][0].start_mark.line, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
    return line + 1


def _describe(item: Mapping[str, Any], model: type[BaseModel]) -> str:
    location = item["loc"]
    key = ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        return f"unknown key '{key}'.{did_you_mean(str(location[-1]), known)}"
    if item["type"] == "missing":
        return f"the key '{key}' is missing"
    message = item["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (found {item['input']!r})" if key else message


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that would be right where the unknown one stands."""
    current: Any = model
    for part in location:
        if isinstance(part, str) and part in getattr(current, "model_fields", {}):
            current = _inner_model(current.model_fields[part].annotation)
    return list(getattr(current, "model_fields", {}))


def _inner_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _inner_model(argument)
        if found is not None:
            return found
    return None
