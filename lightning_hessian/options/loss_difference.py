"""What is to be known of the loss's change when samples are added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lightning_hessian.options.checks import check_choice, check_positive, check_whole
from lightning_hessian.options.solver import Krylov

PlaneDirections = Literal["eigenvectors", "random"]
"""Along the two leading eigenvectors, or along two random directions."""

MIN_HVPS = 16

NUM_DEFLATED = 8
"""Leading eigenvectors along which Hessians are computed exactly: a few directions hold most of a
Hessian's norm, and probes that do not know them miss it more often than their scatter shows."""


@dataclass(frozen=True, kw_only=True)
class Perturbations:
    """Random perturbations of the parameters, at which the variance over samples is measured.

    Args:
        sigmas: Standard deviations of each coordinate.
        count: Perturbations for each of these, in pairs of opposite ones.
        subspace: Leading eigenvectors of the Hessian that span the space to perturb in, beside all
            parameters; 0 for none.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> from lightning_hessian import LossDifference, Perturbations
        >>> callback = LossDifference(perturbations=Perturbations(sigmas=[1e-3, 1e-2]))
    """

    sigmas: Sequence[float]
    count: int = 16
    subspace: int = 0

    def __post_init__(self) -> None:
        check_positive("sigmas", self.sigmas)
        if not self.sigmas:
            raise ValueError("`sigmas` must hold at least one standard deviation, got none.")
        check_whole("count", self.count, 4)
        check_whole("subspace", self.subspace, 0)
        if self.count % 2:
            raise ValueError(
                f"`count` must be even, as perturbations come in pairs of opposite ones, got "
                f"{self.count}."
            )


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A plane through the weights, to show the loss on.

    Args:
        directions: The two leading "eigenvectors", or two "random" directions.
        points: Along each side of the plane; odd, so that the weights are one of them.
        span: From the weights to the plane's edge, relative to the parameters' norm.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> from lightning_hessian import LossDifference, Surface
        >>> callback = LossDifference(surface=Surface(directions="random", points=21))
    """

    directions: PlaneDirections = "eigenvectors"
    points: int = 15
    span: float = 0.1

    def __post_init__(self) -> None:
        check_choice("directions", self.directions, ("eigenvectors", "random"))
        check_whole("points", self.points, 3)
        check_positive("span", [self.span])
        if self.points % 2 == 0:
            raise ValueError(
                f"`points` must be odd, so that the weights are one of them, got {self.points}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceOptions:
    """What to measure of the loss difference.

    Attributes:
        sample_sizes: How many sizes ``k``, evenly spaced in their logarithm; or the sizes.
        num_orders: Random orders to simulate beside the closed form.
        samples_per_step: Samples added at once, beside one.
        thresholds: Of the difference, for which the sample size needed is told.
        derivatives: Measure the spread of gradients and Hessians over samples too.
        num_probes: Of the spread of Hessians.
        perturbations: Of the parameters, or None.
        hessian_differences: Samples of which the Hessian's distance to the others' is measured.
        surface: A plane through the weights to show the loss on, or None.
        keep_losses: Keep the loss of each sample in the report.
        solver: Of eigenvectors, and of each difference of Hessians.

    Raises:
        ValueError: If an option is out of its range.
    """

    sample_sizes: int | Sequence[int] = 40
    num_orders: int = 0
    samples_per_step: int = 1
    thresholds: Sequence[float] = ()
    derivatives: bool = False
    num_probes: int = 4
    perturbations: Perturbations | None = None
    hessian_differences: int = 0
    surface: Surface | None = None
    keep_losses: bool = False
    solver: Krylov = field(default_factory=lambda: Krylov(max_hvps=100))

    def __post_init__(self) -> None:
        _check_sizes(self.sample_sizes)
        for name, least in (
            ("num_orders", 0),
            ("samples_per_step", 1),
            ("num_probes", 3),
            ("hessian_differences", 0),
        ):
            check_whole(name, getattr(self, name), least)
        if self.num_orders == 1:
            raise ValueError(
                "`num_orders` must be 0 or at least 2, got 1: a single order has no error, and is "
                "in the report's path already."
            )
        check_positive("thresholds", self.thresholds)
        for name, kind in (("perturbations", Perturbations), ("surface", Surface)):
            value = getattr(self, name)
            if not (value is None or isinstance(value, kind)):
                raise ValueError(f"`{name}` must be a `{kind.__name__}` or None, got {value!r}.")
        if not isinstance(self.solver, Krylov):
            raise ValueError(
                "`solver` of `LossDifference` must be a `Krylov`, which gives eigenvectors, got "
                f"{self.solver!r}."
            )
        check_whole("max_hvps", self.solver.max_hvps, MIN_HVPS)

    @property
    def sigmas(self) -> Sequence[float]:
        """Standard deviations of the perturbations asked for."""
        return () if self.perturbations is None else self.perturbations.sigmas

    @property
    def subspace(self) -> int:
        """Leading eigenvectors that span the space to perturb in, beside all parameters."""
        return 0 if self.perturbations is None else self.perturbations.subspace

    @property
    def needs_products(self) -> bool:
        """Whether Hessian-vector products are wanted."""
        return self.derivatives or self.num_eigenvectors > 0 or self.hessian_differences > 0

    @property
    def num_displaced_passes(self) -> int:
        """Passes over the samples at other parameters, without derivatives."""
        count = 0
        if self.perturbations is not None:
            count += len(self.perturbations.sigmas) * self.perturbations.count
        return count + (0 if self.surface is None else self.surface.points**2)

    @property
    def expected_products(self) -> float:
        """About how many products a measurement takes; of those of eigenvectors half the limit."""
        half = self.solver.max_hvps / 2
        count = half * (self.hessian_differences + (self.num_eigenvectors > 0))
        return count + 2 * (self.num_probes + self.num_eigenvectors) * self.derivatives

    @property
    def num_shown_eigenvectors(self) -> int:
        """Leading eigenvectors that span what is shown: the subspace, or the surface."""
        in_subspace = self.subspace if self.sigmas else 0
        on_surface = self.surface is not None and self.surface.directions == "eigenvectors"
        return max(in_subspace, 2 if on_surface else 0)

    @property
    def num_eigenvectors(self) -> int:
        """Leading eigenvectors in all, those included that take noise out of other numbers."""
        return max(self.num_shown_eigenvectors, NUM_DEFLATED if self.derivatives else 0)


def _check_sizes(sizes: Any) -> None:
    if isinstance(sizes, Sequence) and not isinstance(sizes, str) and len(sizes):
        for size in sizes:
            check_whole("sample_sizes", size, 1)
    elif type(sizes) is not int or sizes < 1:
        raise ValueError(
            "`sample_sizes` must be a whole number of at least 1, or a list of such numbers, got "
            f"{sizes!r}."
        )
