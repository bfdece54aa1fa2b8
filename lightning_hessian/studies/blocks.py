"""Diagonal blocks of the Hessian: their traces, from the sweep, and their own eigenvalues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lightning_hessian.linalg import BlockOperator, leading_eigenvectors
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.options import Krylov
from lightning_hessian.records import Estimate, Note, ParameterBlock, Spectrum

NOT_MEASURED = Note(
    "blocks-not-measured",
    "The blocks of `parameter_blocks` have no numbers here: these are split from the products of a "
    "sweep, and `max_overhead` pays for fewer. Raise it, give max_overhead=None, or train longer.",
)


def not_trained(pattern: str) -> Note:
    """What to say of a block without a parameter that is trained.

    Args:
        pattern: By which it was asked for.

    Returns:
        The note.
    """
    return Note(
        "block-not-trained",
        f"The block {pattern!r} has no numbers, as none of its parameters is trained at present; "
        "it has them from the first measurement after one is unfrozen.",
    )


def blocks_of(spectrum: Spectrum, parts: Mapping[str, Tensor]) -> tuple[ParameterBlock, ...]:
    """The blocks that were asked for, with their traces if the trace was measured.

    Args:
        spectrum: Of a sweep.
        parts: Positions of each block's parameters, by its name.

    Returns:
        One for each, in the same order.
    """
    traces = None if spectrum.trace is None else spectrum.trace.blocks
    if traces is None:
        return tuple(ParameterBlock(name=name) for name in parts)
    pairs = zip(traces.values.tolist(), traces.standard_errors.tolist(), strict=True)
    return tuple(
        ParameterBlock(name=name, trace=Estimate(value=value, standard_error=error))
        for name, (value, error) in zip(parts, pairs, strict=True)
    )


def with_eigenvalues(
    blocks: Sequence[ParameterBlock],
    parts: Mapping[str, Tensor],
    loss: TrainingLoss | Conductor,
    solver: Krylov,
    *,
    count: int,
    generator_of: Callable[[int], torch.Generator],
) -> tuple[tuple[ParameterBlock, ...], int]:
    """The blocks with their largest eigenvalues, by a sweep for each.

    Args:
        blocks: One for each of ``parts``.
        parts: Positions of each block's parameters, by its name.
        loss: At the present parameters.
        solver: Its tolerance and its products are those of each block.
        count: Eigenvalues of each, as far as it has so many.
        generator_of: Source of a block's probes, by its place.

    Returns:
        The blocks, and the products that were spent.
    """
    spent, found = 0, []
    for row, (block, positions) in enumerate(zip(blocks, parts.values(), strict=True)):
        pairs = leading_eigenvectors(
            BlockOperator(loss.products, positions),
            count=min(count, len(positions)),
            rtol=solver.rtol,
            max_hvps=max(solver.max_hvps, count + 1),  # whole blocks of two
            probes_per_block=2,
            generator=generator_of(row),
            product_error=lambda: loss.products.quality.error,
        )
        found.append(replace(block, largest=pairs.eigenvalues))
        spent += pairs.num_hvps
    return tuple(found), spent
