"""Reads the losses of single samples off a step that computes the loss of a whole batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

INDEX_LOSSES = (F.cross_entropy, F.nll_loss)
_ARITHMETIC = ("add", "sub", "rsub", "mul", "multiply", "div", "divide", "true_divide", "neg",
               "negative", "pow", "maximum", "minimum", "__add__", "__sub__", "__mul__",
               "__truediv__", "__neg__", "__pow__", "__radd__", "__rsub__", "__rmul__",
               "__rtruediv__", "__rdiv__", "__rpow__")  # fmt: skip
_FUNCTIONS = ("exp", "log", "log1p", "expm1", "sqrt", "square", "abs", "clamp", "clamp_min",
              "clamp_max", "relu", "sigmoid", "tanh", "softplus", "where", "nan_to_num", "float",
              "double", "to", "type", "clone", "contiguous", "detach",
              "requires_grad_", "as_tensor", "cpu")  # fmt: skip
_SAME_BY_ROW = frozenset(_ARITHMETIC + _FUNCTIONS)
_IN_PLACE = {
    "add_": torch.add,
    "sub_": torch.sub,
    "mul_": torch.mul,
    "div_": torch.div,
    "__iadd__": torch.add,
    "__isub__": torch.sub,
    "__imul__": torch.mul,
    "__itruediv__": torch.div,
    "__idiv__": torch.div,
}
DIVISIONS = frozenset({"div", "divide", "true_divide", "__truediv__", "div_", "__itruediv__"})
_RESHAPES = frozenset({"reshape", "view", "squeeze", "unsqueeze", "flatten"})


class Reductions(TorchFunctionMode):
    """Follows each scalar of a step back to the reduction over samples that it comes from.

    Where a mean, a sum, or a loss function with ``reduction=`` makes one number of a tensor whose
    first dimension runs over the samples (or over equally many entries of each, one sample after
    the other), the number that each sample alone would give is kept beside it; and so for what is
    computed from such numbers. A mean over the targets that are not ignored, or a weighted one, has
    the denominator of the sample, and so has a sum that is divided by the number of samples, or of
    entries. Any other scalar counts as the same for all samples, and so does
    what is computed from parameters alone.

    That is a guess, to be verified: a first dimension may run over something else. The step itself
    sees nothing of it.

    Args:
        count: Samples in the batch, ``n``.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        # by identity, with the tensor itself, so that the identity is not used again
        self._followed: dict[int, tuple[Tensor, Tensor]] = {}
        self._of_parameters: dict[int, Tensor] = {}

    def by_sample(self, loss: Tensor) -> Tensor | None:
        """The losses ``(n,)`` of which a step's loss is made; None where they are not known."""
        found = self._followed.get(id(loss))
        if found is None or found[1].shape != (self._count,):
            return None
        return found[1].detach()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Compute as ever, and follow."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        # in place, before the operand is gone
        by_row = self._in_place(func, name, args, kwargs) if name in _IN_PLACE else None
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and self._takes_parameters_alone(args, kwargs):
            self._of_parameters[id(result)] = result
            return result
        if isinstance(result, Tensor) and result.dim() <= 1:
            # in place it may have been one of parameters
            self._of_parameters.pop(id(result), None)
            if name not in _IN_PLACE:
                with torch.no_grad():
                    by_row = self._follow(func, name, args, kwargs, result)
            self._followed.pop(id(result), None)
            if by_row is not None:
                self._followed[id(result)] = (result, by_row)
        return result

    def _in_place(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Tensor | None:
        is_followed = self._takes_followed(args, kwargs) and args[0].dim() == 0
        return self._computed_by_row(func, name, args, kwargs) if is_followed else None

    def _follow(
        self, func: Any, name: str, args: Any, kwargs: dict[str, Any], result: Tensor
    ) -> Tensor | None:
        """The values by sample ``(n, *result.shape)`` of what has just been computed, if known."""
        known = self._followed.get(id(args[0])) if args else None
        if known is not None:
            found = known[1]
            if name in ("sum", "mean") and result.dim() == 0:
                flat = found.reshape(self._count, -1)
                return flat.sum(dim=1) if name == "sum" else flat.mean(dim=1)
            if name in _RESHAPES and result.numel() == 1:
                return found.reshape(self._count, *result.shape)
        if name == "stack" and result.dim() == 1:
            return self._stacked(args[0])
        if self._takes_followed(args, kwargs):
            return self._computed_by_row(func, name, args, kwargs)
        first = next(iter((*args, *kwargs.values())), None)
        if result.dim() == 0 and isinstance(first, Tensor) and self._runs_over_samples(first):
            return self._reduced(func, name, args, kwargs, first)
        return None

    def _takes_followed(self, args: Any, kwargs: dict[str, Any]) -> bool:
        return any(id(a) in self._followed for a in (*args, *kwargs.values()))

    def _takes_parameters_alone(self, args: Any, kwargs: dict[str, Any]) -> bool:
        given = (*args, *kwargs.values())
        lists = (item for thing in given if isinstance(thing, list | tuple) for item in thing)
        tensors = [thing for thing in (*given, *lists) if isinstance(thing, Tensor)]
        return bool(tensors) and all(map(self._is_of_parameters, tensors))

    def _is_of_parameters(self, tensor: Tensor) -> bool:
        return isinstance(tensor, nn.Parameter) or id(tensor) in self._of_parameters

    def _runs_over_samples(self, tensor: Tensor) -> bool:
        has_rows = tensor.dim() > 0 and tensor.shape[0] % self._count == 0
        return has_rows and not self._is_of_parameters(tensor)

    def _computed_by_row(
        self, func: Any, name: str, args: Any, kwargs: dict[str, Any]
    ) -> Tensor | None:
        """The same function of each sample's values."""
        compute: Any = _IN_PLACE.get(name, func if name in _SAME_BY_ROW else None)
        others = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        if compute is None or any(t.dim() > 0 for t in others):
            return None
        with torch.no_grad():
            own = [self._values(a) for a in args]
            if name in DIVISIONS and len(own) == 2:
                own[1] = self._divisor(args[0], own)
            rows = compute(*own, **{k: self._values(v) for k, v in kwargs.items()})
        return rows if isinstance(rows, Tensor) and rows.shape == (self._count,) else None

    def _divisor(self, dividend: Any, own: list[Any]) -> Any:
        """Of each sample, where a sum over samples is divided by their number, or by entries."""
        rows, divisor = own
        if not isinstance(rows, Tensor) or not isinstance(divisor, int | float):
            return divisor
        if rows.dim() == 0 or divisor % self._count:
            return divisor
        whole = dividend.detach()
        is_sum = (rows.sum() - whole).abs() < (rows.mean() - whole).abs()
        return divisor / self._count if is_sum else divisor

    def _values(self, argument: Any) -> Any:
        found = self._followed.get(id(argument))
        return argument if found is None else found[1]

    def _stacked(self, parts: Any) -> Tensor | None:
        """Terms of a loss put into one vector, constants among them."""
        if not any(id(part) in self._followed for part in parts):
            return None
        rows = [
            self._values(part) if id(part) in self._followed else part.detach().expand(self._count)
            for part in parts
        ]
        if any(row.shape != (self._count,) for row in rows):
            return None
        return torch.stack([row.to(rows[0].dtype) for row in rows], dim=1)

    def _reduced(
        self, func: Any, name: str, args: Any, kwargs: dict[str, Any], first: Tensor
    ) -> Tensor | None:
        """A whole tensor made one number: the number for each sample's part of it."""
        if name in ("mean", "sum"):
            rows = first.detach().reshape(self._count, -1)
            return rows.mean(dim=1) if name == "mean" else rows.sum(dim=1)
        signature = signature_with_reduction(func)
        if signature is None:
            return None
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        if given.get("size_average") is not None or given.get("reduce") is not None:
            return None
        reduction, bound.arguments["reduction"] = given["reduction"], "none"
        each: Tensor = func(*bound.args, **bound.kwargs)
        if each.numel() % self._count:
            return None
        rows = each.detach().reshape(self._count, -1)
        if reduction == "mean" and func in INDEX_LOSSES:
            return rows.sum(dim=1) / self._denominators(bound.arguments, rows)
        if reduction == "mean":
            return rows.mean(dim=1)
        # a sum over the sample's entries; over the mean number of rows that each sample has
        per_sample = first.shape[0] // self._count
        return rows.sum(dim=1) / (per_sample if reduction == "batchmean" else 1)

    def _denominators(self, given: dict[str, Any], rows: Tensor) -> Tensor:
        """Over what each sample's entries are averaged: the weights of those not ignored."""
        if given["target"].is_floating_point():
            return torch.full_like(rows[:, 0], rows.shape[1])
        counts = index_weights(given).to(rows.dtype)
        return counts.reshape(self._count, -1).sum(dim=1)


def index_weights(given: dict[str, Any]) -> Tensor:
    """The weight of each target, none for one that is ignored, of a loss by numbers of classes."""
    target: Tensor = given["target"]
    weights: Tensor = (target != given["ignore_index"]).double()
    if given["weight"] is not None:
        weights *= given["weight"].detach()[target.clamp_min(0)]
    return weights


@lru_cache(maxsize=256)
def signature_with_reduction(func: Any) -> inspect.Signature | None:
    """Of a loss function; None for anything else."""
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        return None
    return signature if "reduction" in signature.parameters else None
