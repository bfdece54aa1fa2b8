"""Which parameters the Hessian is taken over, and how they lie in one flat vector."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate, pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_hessian.errors import RefusedError
from lightning_hessian.records import Note


@dataclass(frozen=True, eq=False)
class ParameterSelection:
    """Trainable parameters in a fixed order; tied ones count once.

    A complex parameter is a pair of real ones for each of its numbers, the real part and then the
    imaginary one, as ``torch.view_as_real`` has them. What autograd calls its gradient is ``dL/dRe
    + i dL/dIm``, and a derivative along a complex vector ``v`` is that of ``Re <g, v>``: so all
    that is computed of such pieces is what a module of real parameters gives.

    Attributes:
        aliases: All names of each parameter, in the module's order.
        tensors: The parameters themselves, not copies.
        idle: All names of each parameter that is not trained, and would be selected if it were.
    """

    aliases: tuple[tuple[str, ...], ...]
    tensors: tuple[nn.Parameter, ...]
    idle: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(
        cls,
        module: nn.Module,
        patterns: Sequence[str] | None = None,
        trainable: Collection[str] | None = None,
    ) -> ParameterSelection:
        """Select the parameters with ``requires_grad``, by name patterns if given.

        Args:
            module: Where the parameters live; their order is kept.
            patterns: Shell-style patterns such as ``encoder.*``; a tied parameter is selected when
                any of its names matches. None selects all.
            trainable: Names of the parameters to select from, in place of ``requires_grad``.

        Raises:
            RefusedError: If nothing is trainable, no pattern is given, a pattern matches nothing
                trainable, or a parameter is sparse or not yet initialised.
        """
        aliases: dict[int, list[str]] = {}
        found: dict[int, nn.Parameter] = {}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            aliases.setdefault(id(parameter), []).append(name)
            if parameter.requires_grad if trainable is None else name in trainable:
                found[id(parameter)] = parameter
        if not found:
            raise RefusedError(
                f"{type(module).__name__} has no trainable parameter, so its loss has no Hessian. "
                "Set `requires_grad=True` on at least one."
            )
        if patterns is not None:
            if not patterns:
                raise RefusedError(
                    "`parameters` must name at least one pattern such as 'encoder.*', or be None "
                    "for all trainable ones, got an empty list."
                )
            for pattern in patterns:
                if not any(_matches(aliases[key], [pattern]) for key in found):
                    examples = ", ".join(aliases[key][0] for key in list(found)[:5])
                    raise RefusedError(
                        f"`parameters` must match trainable parameters, but {pattern!r} matches "
                        f"none. Names look like {examples}."
                    )
        chosen = [key for key in aliases if patterns is None or _matches(aliases[key], patterns)]
        trained, idle = [key for key in chosen if key in found], set(chosen) - set(found)
        for key in trained:
            _check_dense(aliases[key][0], found[key])
        return cls(
            tuple(tuple(aliases[key]) for key in trained),
            tuple(found[key] for key in trained),
            tuple(tuple(aliases[key]) for key in chosen if key in idle),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The first name of each parameter."""
        return tuple(names[0] for names in self.aliases)

    @property
    def size(self) -> int:
        """Number of real scalars selected."""
        return sum(self.lengths)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of real scalars of each parameter: two for a complex one."""
        return tuple(p.numel() * (2 if p.is_complex() else 1) for p in self.tensors)

    @property
    def num_complex(self) -> int:
        """Number of complex scalars selected."""
        return sum(p.numel() for p in self.tensors if p.is_complex())

    @property
    def notes(self) -> tuple[Note, ...]:
        """What to say of them in a report."""
        if not self.num_complex:
            return ()
        text = (
            f"{self.num_complex:,} of the parameters' numbers are complex: each counts as two, "
            "its real and its imaginary part, over which the Hessian is taken."
        )
        return (Note("complex-parameters", text),)

    def norm(self) -> float:
        """Euclidean length of all scalars, in float64."""
        squares = (_reals(p.detach()).double().square().sum() for p in self.tensors)
        return math.sqrt(sum(map(float, squares)))

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each parameter begins in the flat vector, and the total at the end."""
        return tuple(accumulate(self.lengths, initial=0))

    def blocks(self, patterns: Sequence[str] | Literal["modules"]) -> dict[str, Tensor]:
        """Positions in the flat vector ``(m,)``, ascending, of parameters that belong together.

        A pattern that matches only parameters that are not trained has none yet.

        Args:
            patterns: Shell-style patterns of names, each a block, which a tied parameter is in
                when any of its names matches; ``modules`` for the parameters of one module each,
                under the module's name, tied ones with the first.

        Raises:
            RefusedError: If a pattern matches no parameter that is selected or :attr:`idle`.
        """
        ranges = [torch.arange(*ends) for ends in pairwise(self.offsets)]
        if patterns == "modules":
            members: dict[str, list[Tensor]] = {}
            for name, positions in zip(self.names, ranges, strict=True):
                members.setdefault(name.rpartition(".")[0] or name, []).append(positions)
        else:
            parameters = list(zip(self.aliases, ranges, strict=True))
            members = {
                pattern: [
                    positions for names, positions in parameters if _matches(names, [pattern])
                ]
                for pattern in patterns
            }
        for pattern, parts in members.items():
            if not parts and not any(_matches(names, [pattern]) for names in self.idle):
                raise RefusedError(
                    f"`parameter_blocks` must match selected parameters, but {pattern!r} matches "
                    f"none. Names look like {', '.join(self.names[:5])}."
                )
        none = torch.arange(0)
        return {name: torch.cat([none, *parts]) for name, parts in members.items()}

    def split(self, vector: Tensor) -> list[Tensor]:
        """A contiguous flat vector ``(size,)`` as tensors of the parameters' shapes and kinds.

        Those of real parameters are views; those of complex ones are copies, as a view of pairs
        would have to begin at an even place.
        """
        parts = zip(vector.split(list(self.lengths)), self.tensors, strict=True)
        return [
            torch.view_as_complex(part.reshape(*p.shape, 2).clone())
            if p.is_complex()
            else part.view(p.shape)
            for part, p in parts
        ]

    def add_flat(self, out: Tensor, pieces: Sequence[Tensor | None], weight: float) -> None:
        """Add ``weight`` times shaped pieces into the flat vector ``out``; None adds nothing."""
        for offset, piece in zip(self.offsets[:-1], pieces, strict=True):
            if piece is not None:
                dense = piece.to_dense() if piece.layout != torch.strided else piece
                flat = _reals(dense)
                out[offset : offset + len(flat)].add_(flat, alpha=weight)


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _reals(tensor: Tensor) -> Tensor:
    """All real numbers of a dense tensor in one row."""
    pairs = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return pairs.reshape(-1)


def _check_dense(name: str, parameter: nn.Parameter) -> None:
    if isinstance(parameter, nn.parameter.UninitializedParameter):
        raise RefusedError(
            f"parameter {name!r} is not initialised yet (a lazy module). Run one batch through the "
            "module before the fit."
        )
    if parameter.layout != torch.strided:
        raise RefusedError(
            f"parameter {name!r} must be dense, got layout {parameter.layout}. Leave it out by "
            "`parameters=`."
        )
