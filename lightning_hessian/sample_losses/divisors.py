"""What a step divides by when it makes the one number of a batch: what its loss is a mean over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_hessian.sample_losses.reductions import (
    DIVISIONS,
    INDEX_LOSSES,
    index_weights,
    signature_with_reduction,
)


class Divisors(TorchFunctionMode):
    """Lists the numbers that scalars are divided by inside, in the order of their making.

    Those of a mean over all entries of a tensor, of a loss function with ``reduction="mean"``, and
    of a quotient of single numbers whose divisor is of no parameter: tokens that are not padding,
    weights of classes, pixels under a mask. The step itself sees nothing of it.

    Attributes:
        found: So far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[float] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Compute as ever, and list."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.dim() == 0:
            divisor = _divisor(func, args, kwargs)
            if divisor is not None:
                self.found.append(divisor)
        return result


def _divisor(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> float | None:
    """Of a call whose result is a single number; None where it divides by nothing of the data."""
    name = getattr(func, "__name__", "")
    first = next(iter((*args, *kwargs.values())), None)
    if name in DIVISIONS:
        by = args[1] if len(args) > 1 else kwargs.get("other")
        is_of_parameters = isinstance(by, Tensor) and by.requires_grad
        return float(by) if isinstance(by, int | float | Tensor) and not is_of_parameters else None
    if not isinstance(first, Tensor) or first.dim() == 0:
        return None
    if name == "mean":
        return float(first.numel())
    signature = signature_with_reduction(func)
    if signature is None:
        return None
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    if given["reduction"] != "mean":
        return None
    if func in INDEX_LOSSES and not given["target"].is_floating_point():
        return float(index_weights(given).sum())
    return float(first.numel())
