"""Which rows of a stream an earlier epoch has shown already, told by their bits."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_hessian.data.detached import leaves_of

SELDOM = 50
"""Rows of which no more than one may have an equal in its epoch, for bits to tell them apart."""
_PLAIN = (str, bytes, int, float, complex, bool, type(None))


class HeldRows:
    """Keeps what rows there have been, each in as many copies as an epoch has of it.

    Equal rows of one epoch are rows of their own, as training sees each of them; in a later epoch
    only those are new of which there are more than before. Where equal rows are frequent within an
    epoch, as of few numbers drawn at random, bits do not tell rows apart, and all are new. A
    batch of which the rows are not known by its tensors is one row; of one that holds other things
    than tensors, texts and numbers it cannot be told.
    """

    def __init__(self) -> None:
        self._held = Counter[bytes]()
        self._epoch = Counter[bytes]()
        self._num_seen = 0
        self._num_equal = 0

    def begin_epoch(self) -> None:
        """All rows of before may come again."""
        self._epoch.clear()

    def new_of(self, batch: Any) -> list[int] | None:
        """The positions of new rows in the next batch, which count as held from now on.

        None where all are new: the batch is then not to be cut.
        """
        keys = _keys(batch)
        if keys is None:
            return None
        found = [row for row, key in enumerate(keys) if self._is_new(key)]
        is_told_apart = self._num_equal * SELDOM <= self._num_seen
        return found if is_told_apart and len(found) < len(keys) else None

    def _is_new(self, key: bytes) -> bool:
        self._num_seen += 1
        self._num_equal += self._epoch[key] > 0
        self._epoch[key] += 1
        is_new = self._epoch[key] > self._held[key]
        self._held[key] += is_new
        return is_new


def cut(batch: Any, rows: Sequence[int]) -> Any:
    """Some rows of a batch that consists of tensors whose first dimension they are."""
    memo = {
        id(leaf): leaf.detach()[list(rows)].requires_grad_(leaf.requires_grad)
        for leaf in leaves_of(batch)
    }
    return copy.deepcopy(batch, memo)


def _keys(batch: Any) -> list[bytes] | None:
    """A key of each row, or one of the batch; None where it cannot be told."""
    leaves = list(leaves_of(batch))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    others = [leaf for leaf in leaves if not isinstance(leaf, Tensor)]
    if not tensors or not all(map(_is_plain, tensors)):
        return None
    if not all(type(leaf) in _PLAIN for leaf in others):
        return None
    lengths = {tensor.shape[0] if tensor.ndim else None for tensor in tensors}
    length = lengths.pop()
    if others or lengths or length is None:
        shapes = repr([others, [tensor.shape for tensor in tensors]]).encode()
        return [_digest([shapes, *(_rows(tensor[None])[0] for tensor in tensors)])]
    columns = [_rows(tensor) for tensor in tensors]
    return [_digest([column[row] for column in columns]) for row in range(length)]


def _is_plain(tensor: Tensor) -> bool:
    return type(tensor) is Tensor and tensor.layout == torch.strided and not tensor.is_quantized


def _rows(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The bytes of each row, one after the other."""
    flat = tensor.detach().resolve_conj().resolve_neg().reshape(len(tensor), tensor[:1].numel())
    if flat.is_complex():
        flat = torch.view_as_real(flat).flatten(1)
    return flat.contiguous().view(torch.uint8).cpu().numpy()


def _digest(parts: Sequence[Any]) -> bytes:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()
