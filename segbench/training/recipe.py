"""The recipe of one experiment: everything that decides its weights, in one flat file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from segbench.core.checked_yaml import Fraction, Strict, load_yaml
from segbench.core.paths import UserPathText
from segbench.core.types import Task

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

Side = Annotated[int, Field(gt=0, le=65_536)]
"""Pixels along one axis."""
Count = Annotated[int, Field(ge=0, le=1024)]
"""Processes, threads or devices."""
Positive = Annotated[float, Field(gt=0)]
Scale = Annotated[float, Field(gt=0, le=16)]
"""Factor on the size of an image."""
WEIGHTS_ENDING = ".safetensors"


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
    backbone_weights: UserPathText = "none"
    """``none``, ``imagenet`` or the path of a safetensors or .pth file."""
    init_from: UserPathText | None = None
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
    crop_size: tuple[Side, Side] | None = None
    """Height and width of a training crop; None trains on whole images."""
    resize_short: tuple[Side, ...] = ()
    """Lengths of an image's shorter side, one of which is drawn; empty keeps the image's size."""
    resize_long_max: Side | None = None
    """Most pixels of the longer side after ``resize_short``; alone it is that side's length."""
    scale_range: tuple[Positive, Positive] = (1.0, 1.0)
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
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)

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
    class_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
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
    border_background: Annotated[int, Field(ge=0, le=255)] = 0
    """Train id of what lies between the regions."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = False
    deterministic: bool = True
    workers: Count = 0
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU threads of one training process; part of what fixes the bits on a CPU."""
    checkpoint_interval: Annotated[int, Field(gt=0)] = 200
    gpus: Count = 1
    """GPUs to ask the cluster for; above 1 trains in as many processes. 0 trains on the CPU."""

    inference: Literal["whole", "slide"] = "whole"
    window: tuple[Side, Side] | None = None
    window_stride: tuple[Side, Side] | None = None
    predict_short: Side | None = None
    """Length of the shorter side that an image is resized to before the network sees it."""
    predict_long_max: Side | None = None
    """Most pixels of its longer side then; alone it is that side's length."""
    multi_scale: Annotated[tuple[Scale, ...], Field(min_length=1)] = (1.0,)
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
    """How its Gaussian sums are made, see ``segbench.inference.dense_crf``."""
    profile_size: tuple[Side, Side] = (512, 512)
    """Height and width at which MACs, latency and memory are stated."""

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        wrong = [words for is_wrong, words in (*self._settings(), *self._losses()) if is_wrong]
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    def _settings(self) -> Iterator[tuple[object, str]]:
        """Yield what would be wrong about two settings together, and whether it is."""
        yield (
            self.warmup_iterations >= self.iterations,
            "warmup_iterations must be smaller than iterations",
        )
        yield (
            self.scale_range[0] > self.scale_range[1],
            f"scale_range: the smaller factor comes first, found {list(self.scale_range)}",
        )
        yield self.inference == "slide" and not self.window, "inference: slide needs a window"
        stride, window = self.window_stride, self.window
        yield stride and not window, "window_stride needs a window"
        yield (
            stride and window and (stride[0] > window[0] or stride[1] > window[1]),
            "window_stride must be at most window, or pixels between two windows are left out",
        )
        yield (
            self.crf_iterations and self.task != "semantic",
            f"crf_iterations is for task: semantic, the task is {self.task}",
        )
        given = (self.step_interval is not None) + bool(self.step_at)
        yield (
            given != (self.schedule == "step"),
            "schedule: step and one of step_interval and step_at go together",
        )
        yield (
            self.final_lr and (self.schedule != "poly" or self.final_lr > self.base_lr),
            "final_lr is for schedule: poly and at most base_lr",
        )
        yield (
            self.warmup_start is not None and not self.warmup_iterations,
            "warmup_start needs warmup_iterations",
        )
        yield (
            self.crop_max_share < 1 and (self.crop_size is None or self.task == "instance"),
            "crop_max_share needs a crop_size and label maps",
        )
        yield self.init_into and self.init_from is None, "init_into needs init_from"
        yield (
            self.gpus > 1 and self.batch_size % self.gpus,
            f"batch_size: {self.batch_size} cannot be shared by gpus: {self.gpus}; make it a "
            "multiple of gpus",
        )

    def _losses(self) -> Iterator[tuple[object, str]]:
        """Yield what would be wrong about the loss, and whether it is."""
        formula = self.class_weighting != "none"
        given = (self.class_weights is not None) + (self.class_weight_power is not None) + formula
        yield (
            given > 1,
            "give one of class_weights, class_weight_power and class_weighting, not several",
        )
        yield (
            self.class_weights is not None and not any(self.class_weights),
            "class_weights: one weight at least must be above 0",
        )
        by_pixel = self.loss in ("cross_entropy", "ohem", "focal") or self.loss_cross_entropy
        yield (
            self.border_weight and not by_pixel,
            f"border_weight weighs pixels, which loss: {self.loss} does not",
        )
        yield (
            self.border_weight and self.task != "semantic",
            "border_weight is for task: semantic",
        )

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


def load_recipe(path: Path) -> Recipe:
    """Read and check an experiment file.

    Raises:
        ConfigError: Naming file, line, key and the nearest right name.
    """
    return load_yaml(Path(path), Recipe)


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
