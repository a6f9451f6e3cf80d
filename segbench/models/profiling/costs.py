"""What a model costs: parameters, multiply-adds, latency, memory.

Multiply-adds are half of what ``torch.utils.flop_counter`` counts, as papers print them.
Semantic networks, and others that say ``same_work``, are counted without computing anything
(on the meta device); box-based models run once on the CPU, because their regions depend on the
image. For those every candidate region is kept whatever its score, so the count is that of a
full image and does not depend on the weights.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segbench.core import provenance
from segbench.core.errors import ConfigError
from segbench.models.registry import create_model, model_info

WARM_UP = 3
MAX_RUNS = 30
MAX_SECONDS = 6.0
GPU_BATCH = 8
"""Images of a batch when throughput is measured on a GPU; 1 on a CPU."""


def profile_model(
    model_id: str,
    classes: Sequence[int],
    *,
    input_size: tuple[int, int],
    options: Mapping[str, Any] | None = None,
    device: str | None = None,
    full: bool = True,
    threads: int | None = None,
) -> dict[str, Any]:
    """Profile a registered model with random weights on a random image.

    Args:
        model_id: A registered id.
        classes: What its builder takes: (classes,), (things + 1,) or (things, stuff).
        input_size: Height and width.
        options: Options of the builder; pretrained weights are not loaded.
        device: ``cpu``, ``cuda`` or ``cuda:N``; None takes a GPU where there is one.
        full: Also measure latency, throughput and memory, which takes some seconds.
        threads: CPU threads; None leaves torch's choice.

    Returns:
        The content of ``profile.json``. ``latency_ms`` is the median for one image, from
        the normalised tensor on the device to the ``Prediction``. ``peak_memory_mb`` is
        what torch allocated at most on a GPU, else by how much the resident memory of the
        process rose; ``memory`` says which. Unmeasured values are None.
    """
    settings = {k: v for k, v in (options or {}).items() if k != "weights"}
    task = model_info(model_id).task
    with _threads(threads):
        model = _build(model_id, classes, settings)
        result = {
            "model": model_id, "options": dict(options or {}), "classes": list(classes),
            **count_parameters(model),
            "gmacs": round(count_macs(model, input_size, task=task) / 1e9, 4),
            "input_size": list(input_size),
            "latency_ms": None, "images_per_second": None, "peak_memory_mb": None,
            "device": None, "precision": "float32", "threads": torch.get_num_threads(),
        }  # fmt: skip
        if full:
            place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            fresh = _build(model_id, classes, settings)
            result |= measure(fresh.to(place).eval(), input_size, place)
    return result


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Return ``params`` and ``params_trainable``."""
    numbers = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {
        "params": sum(number for number, _ in numbers),
        "params_trainable": sum(number for number, learns in numbers if learns),
    }


def count_macs(model: nn.Module, input_size: tuple[int, int], *, task: str = "semantic") -> int:
    """Return the multiply-adds of convolutions, matrix products and attention for one image.

    Args:
        model: Any module on images [1, 3, H, W]; it is left in evaluation mode, and a
            semantic one on the meta device where it can be counted there.
        input_size: Height and width.
        task: Models of other tasks than ``semantic`` are counted up to their predictions, unless
            they say ``same_work``.
    """
    return count_macs_by_module(model, input_size, task=task)[""]


def count_macs_by_module(
    model: nn.Module, input_size: tuple[int, int], *, task: str = "semantic"
) -> dict[str, int]:
    """Return the multiply-adds within each module by its name; ``""`` is the model.

    Arguments as those of ``count_macs``.
    """
    model.eval()
    if task == "semantic" or getattr(model, "same_work", False):
        return _count_forward(model, input_size)
    if hasattr(model, "score_threshold"):
        model.score_threshold = 0.0  # type: ignore[assignment]
    images = _random_images(1, input_size, torch.device("cpu"))

    def predict() -> None:
        model.predict(model(images), [input_size])  # type: ignore[operator]

    return _count(model, predict)


def _count_forward(model: nn.Module, input_size: tuple[int, int]) -> dict[str, int]:
    try:
        shadow = model.to("meta")
        images = torch.zeros((1, 3, *input_size), device="meta")
        return _count(shadow, lambda: shadow(images))
    except (NotImplementedError, RuntimeError):
        return _count_on_cpu(model, input_size)


def _count_on_cpu(model: nn.Module, input_size: tuple[int, int]) -> dict[str, int]:
    """Count where an operation has no form without data; values do not matter."""
    model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
    images = _random_images(1, input_size, torch.device("cpu"))
    return _count(model, lambda: model(images))


def _count(model: nn.Module, run: Callable[[], object]) -> dict[str, int]:
    import torchvision.ops  # noqa: F401  registers the operator

    formulas: dict[Any, Any] = {torch.ops.torchvision.deform_conv2d: _deform_conv_flops}
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with torch.no_grad(), _uncounted(model) as more, counter:
        run()
    counts = {
        str(path).partition(".")[2]: sum(flops.values()) // 2
        for path, flops in counter.get_flop_counts().items()
    }
    counts[""] = int(counter.get_total_flops()) // 2
    for name, number in more.items():
        parts = name.split(".")
        for outer in {".".join(parts[:length]) for length in range(len(parts) + 1)}:
            counts[outer] = counts.get(outer, 0) + number
    return counts


@contextmanager
def _uncounted(model: nn.Module) -> Iterator[dict[str, int]]:
    """Yield what modules say of themselves: ``uncounted_macs(output)``, by name.

    Sampling is no operation that the counter knows.
    """
    found: dict[str, int] = {}

    def note(name: str, own: Callable[[Tensor], int]) -> Any:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            found[name] = found.get(name, 0) + own(output)

        return hook

    hooks = [
        module.register_forward_hook(note(name, module.uncounted_macs))  # type: ignore[arg-type]
        for name, module in model.named_modules()
        if hasattr(module, "uncounted_macs")
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _deform_conv_flops(
    images: Sequence[int], weight: Sequence[int], *rest: Any, out_shape: Sequence[int], **more: Any
) -> int:
    """Return 2 N H W (kernel size) of a deformable convolution; sampling is not counted."""
    batch, height, width = out_shape[0], out_shape[2], out_shape[3]
    out_channels, in_channels, kernel_height, kernel_width = weight
    return 2 * batch * height * width * out_channels * in_channels * kernel_height * kernel_width


@torch.inference_mode()
def measure(model: nn.Module, input_size: tuple[int, int], device: torch.device) -> dict[str, Any]:
    """Time a model in evaluation mode and find its peak memory."""
    batch = GPU_BATCH if device.type == "cuda" else 1
    with _peak_memory(device) as peak:
        latency = _median_seconds(model, _random_images(1, input_size, device))
    per_batch = latency
    if batch > 1:
        per_batch = _median_seconds(model, _random_images(batch, input_size, device))
    cuda = device.type == "cuda"
    return {
        "latency_ms": round(1000 * latency, 3),
        "images_per_second": round(batch / per_batch, 3),
        "batch_size": batch,
        "peak_memory_mb": None if peak[0] is None else round(peak[0] / 2**20, 1),
        "memory": "allocated on the GPU" if cuda else "rise of the resident set",
        "device": torch.cuda.get_device_name(device) if cuda else provenance.hardware()["cpu"],
    }


def _median_seconds(model: nn.Module, images: Tensor) -> float:
    sizes = [(int(images.shape[-2]), int(images.shape[-1]))] * len(images)
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < WARM_UP + MAX_RUNS:
        start = time.perf_counter()
        model.predict(model(images), sizes)  # type: ignore[operator]
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
        times.append(time.perf_counter() - start)
        if time.perf_counter() - begin > MAX_SECONDS and len(times) > WARM_UP:
            break
    return statistics.median(times[WARM_UP:])


@contextmanager
def _peak_memory(device: torch.device) -> Iterator[list[float | None]]:
    """Yield a list that holds the peak in bytes after the block, None where unknown."""
    peak: list[float | None] = [None]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak[0] = float(torch.cuda.max_memory_allocated(device))
        return
    before = _reset_resident_peak()
    yield peak
    peak[0] = max(0.0, _resident_peak() - before)


def _reset_resident_peak() -> float:
    """Forget the highest resident size so far where Linux allows it; return the present one."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return float(pages * resource.getpagesize())
    except (OSError, ValueError):
        return _resident_peak()


def _resident_peak() -> float:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _random_images(number: int, size: tuple[int, int], device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((number, 3, *size), generator=generator).to(device)


def _build(model_id: str, classes: Sequence[int], options: Mapping[str, Any]) -> nn.Module:
    try:
        model: nn.Module = create_model(model_id, *classes, **options)
    except TypeError as error:
        raise ConfigError(f"model '{model_id}' cannot be built: {error}") from error
    return model


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(number or before)
        yield
    finally:
        torch.set_num_threads(before)
