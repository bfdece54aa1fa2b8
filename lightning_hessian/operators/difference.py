"""What one more sample adds to the Hessian, as an operator."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_hessian.objective import Conductor, TrainingLoss, sample_products
from lightning_hessian.operators.hessian import check_block


class SampleDifferenceOperator:
    """``V -> (H_i - H_others) V``, the Hessian of one sample less the mean one of all others.

    With the mean Hessian of all ``N``, ``H = (H_i + (N - 1) H_others) / N``, it is
    ``N / (N - 1) (H_i - H)``. Adding sample ``i`` to the ``k = N - 1`` others moves their Hessian
    by ``1 / (k + 1)`` of it.

    One product is one HVP over all samples and one over a single one.

    Args:
        loss: Over ``N >= 2`` samples.
        sample: Position ``i`` of the sample, from 0.

    Raises:
        ValueError: If there is no such sample, or no other.
    """

    def __init__(self, loss: TrainingLoss | Conductor, sample: int) -> None:
        count = loss.batches.num_samples
        if count < 2:
            raise ValueError(
                f"a sample's Hessian has others to differ from among at least 2 samples, got "
                f"{count}. Raise `num_samples`."
            )
        if not 0 <= sample < count:
            raise ValueError(
                f"`sample` must be a position from 0 to {count - 1} among the frozen samples, got "
                f"{sample}."
            )
        self._loss = loss
        self._sample = sample
        self._factor = count / (count - 1)

    @property
    def size(self) -> int:
        """Number of parameters, ``n``."""
        return self._loss.size

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self._loss.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        return self._loss.dtype

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block of vectors; costs ``b`` HVPs over all samples and ``b`` over one.

        Args:
            vectors: ``(n, b)``.

        Returns:
            ``(n, b)``.

        Raises:
            ValueError: If the shape does not fit.
        """
        check_block(vectors, self.size)
        alone = sample_products(self._loss, self._sample, vectors)
        return self._factor * (alone - self._loss.hessian_products(vectors))
