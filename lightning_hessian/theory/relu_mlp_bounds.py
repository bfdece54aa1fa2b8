"""Bounds of the Hessian of a ReLU network with cross-entropy, for each sample.

Theorem 1 of Kiselev and Grabovoy (2024), arXiv 2409.11995, corrected. Notation: ``z^(p) = W_p x^(p)
+ b_p`` for ``p = 1..L``, ``x^(1)`` the input, ``x^(p+1) = D_p z^(p)`` with the ReLU's mask ``D_p``,
``z = z^(L)`` the logits, ``q = softmax(z)``, ``r = q - y``, ``A = diag q - q q^T``, and
``G_p = dz / dz^(p) = W_L D_{L-1} ... W_{p+1} D_p``. The Hessian of a sample's loss is the
Gauss-Newton part ``J^T A J`` plus the residual part ``sum_k r_k d^2 z_k``. All holds where no
``z^(p)`` is exactly zero, which is almost everywhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReluMlpBounds:
    """Spectral norms of a sample's Hessian ``H`` and what bounds them, in float64.

    Attributes:
        gauss_newton_norm: ``(B,)`` of the Gauss-Newton part, exactly.
        layer_bound: ``(B,)`` of it, by the norms of the layers' inputs and weights.
        weight_bound: ``(B,)`` of it, by the norms of the sample and of the weights alone.
        residual_bound: ``(B,)`` of the residual part.
        hessian_bound: ``(B,)`` of ``H``: the exact Gauss-Newton norm plus ``residual_bound``.
        printed_bound: The paper's, one for all samples. It is none: see
            :func:`printed_theorem_bound`.
    """

    gauss_newton_norm: Tensor
    layer_bound: Tensor
    weight_bound: Tensor
    residual_bound: Tensor
    hessian_bound: Tensor
    printed_bound: float


def relu_mlp_bounds(
    weights: Sequence[Tensor],
    inputs: Tensor,
    labels: Tensor,
    biases: Sequence[Tensor | None] | None = None,
) -> ReluMlpBounds:
    """Bound the Hessian of each sample's cross-entropy by all layers' weights and biases.

    Gauss-Newton: the rows of ``J`` for layer ``p`` are ``G_p (x) (x^(p), 1)``, hence
    ``J J^T = sum_p (|x^(p)|^2 + beta_p) G_p G_p^T`` with ``beta_p = 1`` for a bias, and the norm is
    the largest eigenvalue of ``B^T J J^T B``, ``K x K``, for any ``B B^T = A``. With
    ``|A| <= a = 2 max q (1 - q) <= 1/2`` (Gershgorin) and ``|G_p| <= prod_{s>p} |W_s|``:

        ``layer_bound = a sum_p (|x^(p)|^2 + beta_p) prod_{s>p} |W_s|^2``,

    and ``weight_bound`` has 1/2 for ``a`` and ``h_p >= |x^(p)|`` by ``h_1 = |x|``,
    ``h_{p+1} = |W_p| h_p + |b_p|``: ``(1/2) |x|^2 sum_p prod_{s != p} |W_s|^2`` without biases.

    Residual: with its masks fixed ``z`` is linear in each layer, so that ``d^2 (r.z)`` along
    ``(dW, db)`` is ``2 sum_{p<s} r.G_s dW_s D (dz^(s-1) / dz^(p)) (dW_p x^(p) + db_p)``, and its
    norm the largest eigenvalue at most of the symmetric ``L x L`` matrix with zero diagonal and

        ``C_ps = |r| sqrt(|x^(p)|^2 + beta_p) prod_{t > p, t != s} |W_t|``,  ``p < s``.

    Costs a forward pass and ``B K`` vectors backward through the layers, in float64 on the CPU.

    Args:
        weights: ``L`` matrices, ``(width, width before)``.
        inputs: ``(B, n)``, or ``(n,)`` for a single sample.
        labels: ``(B,)`` class numbers, or one.
        biases: One for each layer or None; by default no layer has one.

    Returns:
        Everything for each sample.

    Raises:
        ValueError: If shapes do not fit together.

    Example:
        Equally likely classes: ``|H| = |x|^2 / K``.

        >>> import torch
        >>> bounds = relu_mlp_bounds([torch.zeros(2, 2)], torch.tensor([1.0, 0.0]), torch.tensor(0))
        >>> f"{bounds.hessian_bound.item():.3f}", bounds.printed_bound
        ('0.500', 0.0)
    """
    matrices, offsets = _checked(weights, biases)
    samples = torch.atleast_2d(inputs.detach().cpu().double())
    classes = torch.atleast_1d(labels.detach().cpu())
    if samples.shape[1:] != matrices[0].shape[1:] or samples.shape[:1] != classes.shape:
        raise ValueError(
            f"`inputs` must be (B, {matrices[0].shape[1]}) with `labels` (B,), got "
            f"{tuple(inputs.shape)} and {tuple(labels.shape)}. Flatten images first."
        )
    layer_inputs, masks, logits = _forward(matrices, offsets, samples)
    has_bias = torch.tensor([float(b is not None) for b in offsets], dtype=torch.float64)
    # (L, B): |x^(p)|^2 + beta_p
    squares = torch.stack([x.square().sum(dim=1) for x in layer_inputs]) + has_bias[:, None]

    probabilities = logits.softmax(dim=1)
    # 1 - q as a sum of positive terms, which keeps its digits where q is nearly 1
    complements = probabilities @ (1 - torch.eye(logits.shape[1], dtype=torch.float64))
    is_label = nn.functional.one_hot(classes, logits.shape[1]).bool()
    residuals = torch.where(is_label, complements, probabilities)
    norms = torch.stack([torch.linalg.matrix_norm(w, ord=2) for w in matrices])
    curvature = 2 * (probabilities * complements).amax(dim=1)
    gauss_newton = _gauss_newton_norm(
        matrices, masks, squares, _curvature_root(probabilities, complements)
    )
    residual = residuals.norm(dim=1) * _coupling(norms, squares)
    heights = _height_bounds(norms, offsets, samples.norm(dim=1)).square() + has_bias[:, None]
    return ReluMlpBounds(
        gauss_newton_norm=gauss_newton,
        layer_bound=curvature * (squares * _later_products(norms)[:, None]).sum(dim=0),
        weight_bound=0.5 * (heights * _later_products(norms)[:, None]).sum(dim=0),
        residual_bound=residual,
        hessian_bound=gauss_newton + residual,
        printed_bound=printed_theorem_bound(
            len(matrices), float(norms.max()), float(samples.norm(dim=1).max())
        ),
    )


def printed_theorem_bound(num_layers: int, max_weight_norm: float, max_input_norm: float) -> float:
    """Theorem 1 as printed: ``sqrt2 (L M_x^2 M_W^{2L} + M_W^2 (M_W^{2L} - 1) / (M_W^2 - 1))``.

    It is no bound of ``|H|``. ``G_p`` has the weights of layers ``p + 1..L``, but the proof takes
    the product from ``p`` on, a factor ``M_W^2`` too much: the value is too large for large weights
    and too small for small ones. With ``L = 1``, ``W = 0``, ``|x| = 1`` and ``K`` equally likely
    classes ``|H| = 1 / K``; printed is 0. Against :func:`corrected_theorem_bound` it bounds the
    Gauss-Newton part where ``M_W^2 >= 1 / (2 sqrt2)``. The residual part, left out of it, is the
    larger one in networks with small weights or a bad fit.

    Args:
        num_layers: ``L``.
        max_weight_norm: ``M_W``, the largest spectral norm of a layer.
        max_input_norm: ``M_x``, the largest norm of a sample.

    Returns:
        In units of the loss per squared parameter.

    Example:
        >>> printed_theorem_bound(1, 0.0, 1.0)
        0.0
    """
    squared = max_weight_norm**2
    geometric = sum(squared**p for p in range(1, num_layers + 1))
    return math.sqrt(2) * (num_layers * max_input_norm**2 * squared**num_layers + geometric)


def corrected_theorem_bound(
    num_layers: int, max_weight_norm: float, max_input_norm: float
) -> float:
    """``(1/2) L M_x^2 M_W^{2(L-1)}``, of the Gauss-Newton part of a network without biases.

    Args:
        num_layers: ``L``.
        max_weight_norm: ``M_W``, the largest spectral norm of a layer.
        max_input_norm: ``M_x``, the largest norm of a sample.

    Returns:
        In units of the loss per squared parameter.

    Example:
        >>> corrected_theorem_bound(1, 0.0, 1.0)
        0.5
    """
    return 0.5 * num_layers * max_input_norm**2 * max_weight_norm ** (2 * (num_layers - 1))


def layers_of(network: nn.Module) -> tuple[list[Tensor], list[Tensor | None]]:
    """Weights and biases of a plain ReLU network, as :func:`relu_mlp_bounds` takes them.

    Args:
        network: ``nn.Sequential`` of ``Linear`` layers with a ``ReLU`` between any two, and
            ``Flatten`` before the first.

    Returns:
        The weights, and the biases or None, detached.

    Raises:
        ValueError: If it is anything else, whose Hessian is not bounded here.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2, bias=False))
        >>> weights, biases = layers_of(network)
        >>> [tuple(weight.shape) for weight in weights], biases[1] is None
        ([(3, 4), (2, 3)], True)
    """
    layers = list(network) if isinstance(network, nn.Sequential) else []
    while layers and isinstance(layers[0], nn.Flatten):
        layers = layers[1:]
    linear = [layer for layer in layers[::2] if isinstance(layer, nn.Linear)]
    between = [layer for layer in layers[1::2] if isinstance(layer, nn.ReLU)]
    if len(layers) % 2 == 0 or len(linear) + len(between) < len(layers):
        raise ValueError(
            "`network` must be an `nn.Sequential` of `Flatten`, and `Linear` layers with a `ReLU` "
            f"between any two, got {network}. For other networks measure the norm."
        )
    weights = [layer.weight.detach() for layer in linear]
    return weights, [None if layer.bias is None else layer.bias.detach() for layer in linear]


def _checked(
    weights: Sequence[Tensor], biases: Sequence[Tensor | None] | None
) -> tuple[list[Tensor], list[Tensor | None]]:
    offsets = [None] * len(weights) if biases is None else list(biases)
    fits = len(weights) > 0 and len(offsets) == len(weights)
    fits = fits and all(w.dim() == 2 for w in weights)
    fits = fits and all(a.shape[0] == b.shape[1] for a, b in itertools.pairwise(weights))
    fits = fits and all(
        b is None or b.shape == w.shape[:1] for w, b in zip(weights, offsets, strict=True)
    )
    if not fits:
        shapes = [tuple(w.shape) for w in weights]
        bias_shapes = [None if b is None else tuple(b.shape) for b in offsets]
        raise ValueError(
            "`weights` must be matrices, (width, width before), each fitting the next, with a bias "
            f"(width,) or None for each, got {shapes} and {bias_shapes}."
        )
    return (
        [w.detach().cpu().double() for w in weights],
        [None if b is None else b.detach().cpu().double() for b in offsets],
    )


def _forward(
    weights: list[Tensor], biases: list[Tensor | None], samples: Tensor
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Inputs of all layers, masks of all ReLUs, logits."""
    layer_inputs, masks = [samples], []
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        sums = nn.functional.linear(layer_inputs[-1], weight, bias)
        if index < len(weights) - 1:
            masks.append(sums > 0)
            layer_inputs.append(sums.relu())
    return layer_inputs, masks, sums


def _curvature_root(probabilities: Tensor, complements: Tensor) -> Tensor:
    """``B = diag(sqrt q) - q sqrt(q)^T``; ``B B^T = diag q - q q^T``, since ``|sqrt q| = 1``."""
    roots = probabilities.sqrt()
    root = -probabilities[:, :, None] * roots[:, None, :]
    root.diagonal(dim1=1, dim2=2).copy_(roots * complements)
    return root


def _gauss_newton_norm(
    weights: list[Tensor], masks: list[Tensor], squares: Tensor, root: Tensor
) -> Tensor:
    """``(B,)`` largest eigenvalue of ``B^T (sum_p squares_p G_p G_p^T) B``."""
    # G_L = 1, and G_p = G_{p+1} W_{p+1} D_p
    backward = torch.eye(root.shape[1], dtype=torch.float64).expand_as(root)
    gram = squares[-1, :, None, None] * backward
    for p in reversed(range(len(weights) - 1)):
        backward = (backward @ weights[p + 1]) * masks[p][:, None, :]
        gram = gram + squares[p, :, None, None] * (backward @ backward.mT)
    eigenvalues: Tensor = torch.linalg.eigvalsh(root.mT @ gram @ root)
    return eigenvalues[:, -1]


def _later_products(norms: Tensor) -> Tensor:
    """``(L,)`` of ``prod_{s > p} |W_s|^2``."""
    products = norms.square().flip(0).cumprod(0).flip(0)
    return torch.cat([products[1:], norms.new_ones(1)])


def _height_bounds(norms: Tensor, biases: list[Tensor | None], lengths: Tensor) -> Tensor:
    """``(L, B)`` bounds of ``|x^(p)|`` by the norms of weights and biases."""
    heights = [lengths]
    for norm, bias in zip(norms[:-1], biases[:-1], strict=True):
        heights.append(norm * heights[-1] + (0.0 if bias is None else bias.norm()))
    return torch.stack(heights)


def _coupling(norms: Tensor, squares: Tensor) -> Tensor:
    """``(B,)`` largest eigenvalue of ``C / |r|``, zero for a single layer."""
    depth, count = squares.shape
    coupling = squares.new_zeros(count, depth, depth)
    for p in range(depth):
        for s in range(p + 1, depth):
            others = torch.cat([norms[p + 1 : s], norms[s + 1 :]]).prod()
            coupling[:, p, s] = coupling[:, s, p] = squares[p].sqrt() * others
    eigenvalues: Tensor = torch.linalg.eigvalsh(coupling)
    return eigenvalues[:, -1]
