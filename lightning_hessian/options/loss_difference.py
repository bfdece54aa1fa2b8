"""What is wanted to be known of the loss's change when samples are added."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Plane = Literal["eigenvectors", "random"]
"""Through the weights: along the two leading eigenvectors, or along two random directions."""

MIN_HVPS = 16

NUM_DEFLATED = 8
"""Leading eigenvectors along which Hessians are computed exactly: a few directions hold most of a
Hessian's norm, and probes that do not know them miss it more often than their scatter shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceOptions:
    """What to measure of the loss difference.

    Attributes:
        sample_sizes: How many sizes ``k``, evenly spaced in their logarithm; or the sizes.
        num_orders: Random orders to simulate beside the closed form.
        block_size: Samples added at once, beside one.
        thresholds: Of the difference, for which the sample size needed is told.
        derivatives: Measure the spread of gradients and Hessians over samples too.
        num_probes: Of the spread of Hessians.
        sigmas: Standard deviations of random perturbations of the parameters.
        num_perturbations: For each of these.
        subspace: Leading eigenvectors that span the space to perturb in; 0 for all parameters.
        hessian_differences: Samples of which the Hessian's distance to the others' is measured.
        surface: A plane through the weights to show the loss on, or None.
        surface_points: Along each side of it.
        surface_span: From the weights to the edge, relative to the norm of the parameters.
        keep_losses: Keep the loss of each sample in the report.
        max_hvps: Bound on the Hessian-vector products of eigenvectors, and of each difference.

    Raises:
        ValueError: If an option is out of its range.
    """

    sample_sizes: int | Sequence[int] = 40
    num_orders: int = 0
    block_size: int = 1
    thresholds: Sequence[float] = ()
    derivatives: bool = False
    num_probes: int = 4
    sigmas: Sequence[float] = ()
    num_perturbations: int = 16
    subspace: int = 0
    hessian_differences: int = 0
    surface: Plane | None = None
    surface_points: int = 15
    surface_span: float = 0.1
    keep_losses: bool = False
    max_hvps: int = 100

    def __post_init__(self) -> None:
        _check_sizes(self.sample_sizes)
        for name, value, least in (
            ("num_orders", self.num_orders, 0),
            ("block_size", self.block_size, 1),
            ("num_probes", self.num_probes, 3),
            ("num_perturbations", self.num_perturbations, 4),
            ("subspace", self.subspace, 0),
            ("hessian_differences", self.hessian_differences, 0),
            ("surface_points", self.surface_points, 3),
            ("max_hvps", self.max_hvps, MIN_HVPS),
        ):
            _check_whole(name, value, least)
        if self.num_orders == 1:
            raise ValueError(
                "`num_orders` must be 0 or at least 2, got 1: a single order has no error, and is "
                "in `report.path` already."
            )
        if self.num_perturbations % 2:
            raise ValueError(
                "`num_perturbations` must be even, as they come in pairs of opposite ones, got "
                f"{self.num_perturbations}."
            )
        if self.surface_points % 2 == 0:
            raise ValueError(
                "`surface_points` must be odd, so that the weights are one of them, got "
                f"{self.surface_points}."
            )
        if self.surface not in (None, "eigenvectors", "random"):
            raise ValueError(
                f"`surface` must be None, 'eigenvectors' or 'random', got {self.surface!r}."
            )
        for name, values in (("thresholds", self.thresholds), ("sigmas", self.sigmas)):
            _check_positive(name, values)
        _check_positive("surface_span", [self.surface_span])

    @property
    def needs_products(self) -> bool:
        """Whether Hessian-vector products are wanted."""
        return self.derivatives or self.num_eigenvectors > 0 or self.hessian_differences > 0

    @property
    def expected_gradients(self) -> float:
        """About what a measurement costs, in gradients over the samples.

        A pass counts half a gradient, a product two of them; of the products of eigenvectors half
        of those allowed. That losses may have to be computed sample by sample is not foreseen.
        """
        num_passes = 3 + len(self.sigmas) * self.num_perturbations
        if self.surface is not None:
            num_passes += self.surface_points**2
        num_products = self.max_hvps / 2 if self.num_eigenvectors else 0.0
        num_products += self.hessian_differences * self.max_hvps / 2
        if self.derivatives:
            num_products += 1 + 2 * (self.num_probes + self.num_eigenvectors)
        return num_passes / 2 + 2 * num_products

    @property
    def num_shown_eigenvectors(self) -> int:
        """Leading eigenvectors that span what is shown: the subspace, or the surface."""
        in_subspace = self.subspace if self.sigmas else 0
        return max(in_subspace, 2 if self.surface == "eigenvectors" else 0)

    @property
    def num_eigenvectors(self) -> int:
        """Leading eigenvectors in all, those included that take noise out of other numbers."""
        return max(self.num_shown_eigenvectors, NUM_DEFLATED if self.derivatives else 0)


def _check_sizes(sizes: Any) -> None:
    if isinstance(sizes, Sequence) and not isinstance(sizes, str) and len(sizes):
        for size in sizes:
            _check_whole("sample_sizes", size, 1)
    elif type(sizes) is not int or sizes < 1:
        raise ValueError(
            "`sample_sizes` must be a whole number of at least 1, or a list of such numbers, got "
            f"{sizes!r}."
        )


def _check_whole(name: str, value: Any, least: int) -> None:
    if type(value) is not int or value < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}.")


def _check_positive(name: str, values: Any) -> None:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"`{name}` must be a list of numbers, got {values!r}.")
    for value in values:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and math.isfinite(value) and value > 0):
            raise ValueError(f"`{name}` must be positive and finite, got {value!r}.")
