"""Newton's method as it is: to the critical point nearby, of whatever index."""

from __future__ import annotations

from lightning_hessian.studies.search_method import SearchMethod, by_signs, judge_by_model

FARTHEST = 0.1


def index_preserving_newton(dimension: int) -> SearchMethod:
    """Steps ``-sign(H) (|H| + mu)^-1 g`` in a Krylov space of the gradient.

    They go down where the curvature is positive and up where it is negative, a tenth of the
    weights' length at most, and are taken where the loss does what was foreseen.

    Args:
        dimension: Of the space.

    Returns:
        The method.
    """
    return SearchMethod(
        name="index-preserving Newton",
        price=dimension,
        look=lambda loss, slope: loss.in_krylov_space(slope, dimension),
        step=by_signs(lambda values: values.sign()),
        judge=judge_by_model,
        farthest=FARTHEST,
    )
