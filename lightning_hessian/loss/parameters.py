"""Which parameters the Hessian is taken over, and how they lie in one flat vector."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate, pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_hessian.errors import RefusedError


@dataclass(frozen=True, eq=False)
class ParameterSelection:
    """Trainable parameters in a fixed order; tied ones count once.

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
                trainable, or a parameter is complex, sparse or not yet initialised.
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
            _check_real_and_dense(aliases[key][0], found[key])
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
        """Number of scalars selected."""
        return sum(p.numel() for p in self.tensors)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each parameter begins in the flat vector, and the total at the end."""
        return tuple(accumulate((p.numel() for p in self.tensors), initial=0))

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
        """View a contiguous flat vector ``(size,)`` as tensors of the parameters' shapes."""
        parts = vector.split([p.numel() for p in self.tensors])
        return [part.view(p.shape) for part, p in zip(parts, self.tensors, strict=True)]

    def add_flat(self, out: Tensor, pieces: Sequence[Tensor | None], weight: float) -> None:
        """Add ``weight`` times shaped pieces into the flat vector ``out``; None adds nothing."""
        for offset, piece in zip(self.offsets[:-1], pieces, strict=True):
            if piece is not None:
                dense = piece.to_dense() if piece.layout != torch.strided else piece
                out[offset : offset + dense.numel()].add_(dense.reshape(-1), alpha=weight)


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _check_real_and_dense(name: str, parameter: nn.Parameter) -> None:
    if isinstance(parameter, nn.parameter.UninitializedParameter):
        raise RefusedError(
            f"parameter {name!r} is not initialised yet (a lazy module). Run one batch through the "
            "module before the fit."
        )
    if parameter.is_complex() or parameter.layout != torch.strided:
        raise RefusedError(
            f"parameter {name!r} must be real and dense, got {parameter.dtype} in layout "
            f"{parameter.layout}. Leave it out by `parameters=`."
        )
