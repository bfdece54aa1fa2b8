"""The autograd graph behind a loss: what in it has no second derivative, and taking one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_hessian.errors import NoExactProductsError

NOT_IMPLEMENTED = "is not implemented"
# the decorator's wrapper has the same code object around every function
_ONCE = once_differentiable(lambda *_: None).__code__


def nodes_behind(outputs: Iterable[Tensor]) -> set[Any]:
    """Every node of the graph that some tensors hang on, as ``grad_fn`` shows them."""
    stack: list[Any] = [t.grad_fn for t in outputs if t.grad_fn is not None]
    seen = set(stack)
    while stack:
        for parent, _ in stack.pop().next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return seen


def node_names(outputs: Iterable[Tensor]) -> set[str]:
    """Names of all nodes behind some tensors, such as ``AddmmBackward0``; no namespace of C++."""
    return {node.name().rpartition("::")[2] for node in nodes_behind(outputs)}


def is_custom(name: str) -> bool:
    """Whether a node is of a function from Python or C++: torch's own names end with a number."""
    return name.endswith("Backward") or name.startswith("CppNode")


def once_differentiable_functions(output: Tensor, leaves: Sequence[Tensor]) -> set[str]:
    """Custom functions marked ``once_differentiable`` on a way from ``output`` to some leaves.

    Where such a function gets a constant gradient, its backward leaves no trace in the graph of the
    gradient: the second derivative would be missing in silence.
    """
    users: dict[Any, list[Any]] = {}
    reached = []
    wanted = {id(leaf) for leaf in leaves}
    for node in nodes_behind([output]):
        if id(getattr(node, "variable", None)) in wanted:
            reached.append(node)
        for parent, _ in node.next_functions:
            users.setdefault(parent, []).append(node)
    between = set(reached)
    while reached:
        for user in users.get(reached.pop(), []):
            if user not in between:
                between.add(user)
                reached.append(user)
    functions: list[Any] = [getattr(node, "_forward_cls", None) for node in between]
    return {function.__name__ for function in functions if _is_marked(function)}


def _is_marked(function: Any) -> bool:
    methods = (getattr(function, name, None) for name in ("backward", "vjp"))
    return any(getattr(method, "__code__", None) is _ONCE for method in methods)


@contextmanager
def told_of_missing_derivatives() -> Iterator[None]:
    """Say so, with the way out, where torch cannot differentiate an operation twice.

    Of operations that were never meant to be it raises a plain ``RuntimeError``, known by its text.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, NotImplementedError) or NOT_IMPLEMENTED in str(error)):
            raise
        raise NoExactProductsError(
            f"the loss uses an operation of torch without a second derivative: {error} Replace it "
            "by differentiable operations, or leave the parameters behind it out by `parameters=`."
        ) from error


def second_derivatives(
    first: Sequence[Tensor | None],
    tensors: Sequence[Tensor],
    columns: Sequence[Sequence[Tensor]],
    *,
    is_kept: bool = False,
) -> Iterator[tuple[Tensor | None, ...]]:
    """Differentiate first derivatives once more, along several vectors that share their graph.

    Args:
        first: First derivatives by each of ``tensors``, with their graph; None where there is no
            dependence.
        tensors: To differentiate by.
        columns: Vectors, each in pieces of the tensors' shapes.
        is_kept: Whether the graph is used again later; else it is used up.

    Yields:
        For each vector one derivative by each tensor, None where there is no dependence; nothing
        if the first derivatives are constants.

    Raises:
        NoExactProductsError: If an operation of torch has no second derivative.
    """
    curved = [i for i, g in enumerate(first) if g is not None and g.requires_grad]
    for j, column in enumerate(columns if curved else ()):
        with told_of_missing_derivatives():
            found = torch.autograd.grad(
                [first[i] for i in curved],  # type: ignore[arg-type]
                tensors,
                [column[i] for i in curved],
                retain_graph=is_kept or j + 1 < len(columns),
                allow_unused=True,
            )
        yield found
