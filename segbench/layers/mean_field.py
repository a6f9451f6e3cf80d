"""Mean field of a dense CRF as a recurrent layer that learns.

Zheng et al., "Conditional Random Fields as Recurrent Neural Networks", ICCV 2015 (arXiv
1502.03240), section 4. The Gaussian filters are the lattice of ``permutohedral``:
linear in the values, so their gradient is the same lattice blurred in reverse order; they have
no gradient to the image. Axes: N images, C classes, H rows, W columns, P = H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segbench.layers.permutohedral import Lattice, build_lattice, gain

EPSILON = 1e-12


@torch.library.custom_op("segbench::build_lattice", mutates_args=())
def lattice_tensors(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return corners, weights and neighbours of the lattice of points [P, D].

    See ``permutohedral.Lattice``. Built on the CPU, returned where the features are.
    """
    lattice = build_lattice(features.detach().cpu().numpy())
    arrays = (lattice.corners, lattice.weights, lattice.neighbours)
    corners, weights, neighbours = (torch.from_numpy(a).to(features.device) for a in arrays)
    return corners, weights, neighbours


@lattice_tensors.register_fake
def _lattice_shapes(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    points, dims = features.shape
    vertices: int | torch.SymInt = points * (dims + 1)
    if features.device.type != "meta":  # meta tells no more than the most
        vertices = torch.library.get_ctx().new_dynamic_size()
    corners = features.new_empty((points, dims + 1), dtype=torch.int32)
    weights = features.new_empty((points, dims + 1), dtype=torch.float32)
    return corners, weights, features.new_empty((dims + 1, 2, vertices), dtype=torch.int32)


@torch.library.custom_op("segbench::lattice_filter", mutates_args=(), device_types="cpu")
def lattice_filter(
    values: Tensor, corners: Tensor, weights: Tensor, neighbours: Tensor, adjoint: bool
) -> Tensor:
    """Return values [P, C] filtered by the lattice of ``lattice_tensors``, or by its transpose."""
    arrays = (corners.numpy(), weights.to(values.dtype).numpy(), neighbours.numpy())
    found = Lattice(*arrays).filter(values.detach().numpy(), adjoint=adjoint)
    return torch.from_numpy(found)


def filter_by_indexing(
    values: Tensor, corners: Tensor, weights: Tensor, neighbours: Tensor, adjoint: bool
) -> Tensor:
    """Return what ``lattice_filter`` does, by operations every device has."""
    places = corners.long()
    terms = values[:, None] * weights.to(values.dtype)[..., None]
    now = values.new_zeros((neighbours.shape[2] + 1, values.shape[1]))
    now.index_add_(0, places.flatten(), terms.flatten(0, 1))
    axes = neighbours.long()
    for first, second in reversed(axes.unbind()) if adjoint else axes.unbind():
        now[:-1] = now[:-1] + 0.5 * (now[first] + now[second])
    found: Tensor = (now[places] * weights.to(values.dtype)[..., None]).sum(1)
    return found * gain(corners.shape[1] - 1)


lattice_filter.register_kernel("cuda", filter_by_indexing)


@lattice_filter.register_fake
def _filter_shapes(
    values: Tensor, corners: Tensor, weights: Tensor, neighbours: Tensor, adjoint: bool
) -> Tensor:
    return torch.empty_like(values, memory_format=torch.contiguous_format)


def _keep_lattice(ctx: object, inputs: tuple[object, ...], output: Tensor) -> None:
    _, corners, weights, neighbours, adjoint = inputs
    ctx.save_for_backward(corners, weights, neighbours)  # type: ignore[attr-defined]
    ctx.adjoint = adjoint  # type: ignore[attr-defined]


def _transposed(ctx: object, gradient: Tensor) -> tuple[Tensor | None, ...]:
    lattice = ctx.saved_tensors  # type: ignore[attr-defined]
    turned = not ctx.adjoint  # type: ignore[attr-defined]
    return lattice_filter(gradient.contiguous(), *lattice, turned), None, None, None, None


lattice_filter.register_autograd(_transposed, setup_context=_keep_lattice)


@dataclass(frozen=True)
class MeanFilter:
    """A Gaussian filter divided by what it makes of ones, so that it takes weighted means."""

    lattice: tuple[Tensor, Tensor, Tensor]
    mass: Tensor

    @classmethod
    def of(cls, features: Tensor) -> MeanFilter:
        """Return the filter of points [P, D], features in standard deviations."""
        lattice = lattice_tensors(features)
        ones = features.new_ones((len(features), 1))
        return cls(lattice, lattice_filter(ones, *lattice, False) + EPSILON)

    def __call__(self, values: Tensor) -> Tensor:
        """Return values [P, C] filtered."""
        found: Tensor = lattice_filter(values.contiguous(), *self.lattice, False)
        return found / self.mass.to(values)


class MeanField(nn.Module):
    """Some steps of mean field with learned kernel weights and label compatibility.

    A step takes the softmax, filters it with a spatial and a bilateral Gaussian, mixes the classes
    of each result by C x C kernel weights, mixes the sum by the C x C compatibility, and adds the
    logits of the network. Kernel weights start on the diagonal. Compatibility starts as Potts:
    minus the cost of unequal labels is, up to a constant of the pixel, the identity.

    Args:
        num_classes: C.
        spatial_weight: First diagonal of the spatial kernel's weights.
        bilateral_weight: The same of the bilateral kernel.
        theta_alpha: Spatial standard deviation of the bilateral kernel, in pixels.
        theta_beta: Its standard deviation in 8-bit colour.
        theta_gamma: Standard deviation of the spatial kernel, in pixels.
        training_iterations: Steps while it is trained.
        iterations: Steps in evaluation.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        spatial_weight: float = 3.0,
        bilateral_weight: float = 5.0,
        theta_alpha: float = 160.0,
        theta_beta: float = 3.0,
        theta_gamma: float = 3.0,
        training_iterations: int = 5,
        iterations: int = 10,
    ) -> None:
        super().__init__()
        self.theta_alpha, self.theta_beta, self.theta_gamma = theta_alpha, theta_beta, theta_gamma
        self.training_iterations, self.iterations = training_iterations, iterations
        self.spatial_weights = nn.Parameter(spatial_weight * torch.eye(num_classes))
        self.bilateral_weights = nn.Parameter(bilateral_weight * torch.eye(num_classes))
        self.compatibility = nn.Parameter(torch.eye(num_classes))

    def forward(self, logits: Tensor, colours: Tensor) -> Tensor:
        """Return the logits of the marginals, [N, C, H, W].

        Args:
            logits: Unary logits [N, C, H, W].
            colours: The images on the scale 0 to 255, [N, 3, H, W].
        """
        place = _places(colours)
        spatial = MeanFilter.of(place / self.theta_gamma)
        found = []
        for unary, colour in zip(logits, colours, strict=True):
            paint = colour.detach().float().flatten(1).T / self.theta_beta
            bilateral = MeanFilter.of(torch.cat([place / self.theta_alpha, paint], dim=1))
            pixels = self._refine(unary.flatten(1).T, spatial, bilateral)
            found.append(pixels.T.reshape(unary.shape))
        return torch.stack(found)

    def _refine(self, unary: Tensor, spatial: MeanFilter, bilateral: MeanFilter) -> Tensor:
        """Return the logits [P, C] after all steps."""
        now = unary
        for _ in range(self.training_iterations if self.training else self.iterations):
            marginals = now.softmax(dim=1)
            messages = spatial(marginals) @ self.spatial_weights.T.to(unary)
            messages = messages + bilateral(marginals) @ self.bilateral_weights.T.to(unary)
            now = unary + messages @ self.compatibility.T.to(unary)
        return now


def _places(images: Tensor) -> Tensor:
    """Return column and row of each pixel, float32 [P, 2]."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device, dtype=torch.float32)
    columns = torch.arange(width, device=images.device, dtype=torch.float32)
    grid = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([grid[1].flatten(), grid[0].flatten()], dim=1)
