"""What one more sample adds to the Hessian, as an operator."""

from __future__ import annotations

from torch import Tensor

from lightning_hessian.hvp.per_batch import sample_products
from lightning_hessian.linalg import check_block
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.sample_losses import AS_IT_IS, Filling


class SampleDifferenceOperator:
    """``V -> (H_i - H_others) V``, the Hessian of one sample less the mean one of all others.

    With the mean Hessian of all ``N``, ``H = (H_i + (N - 1) H_others) / N``, it is
    ``N / (N - 1) (H_i - H)``. Adding sample ``i`` to the ``k = N - 1`` others moves their Hessian
    by ``1 / (k + 1)`` of it.

    One product is one HVP over all samples and one over a single one.

    Args:
        loss: Over ``N >= 2`` samples.
        sample: Position ``i`` of the sample, from 0.
        filling: How one sample becomes a batch of a size that the step takes.

    Raises:
        ValueError: If there is no such sample, or no other.
    """

    def __init__(
        self, loss: TrainingLoss | Conductor, sample: int, filling: Filling = AS_IT_IS
    ) -> None:
        count = loss.sample.num_samples
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
        self.size, self.device, self.dtype = loss.size, loss.device, loss.dtype
        self._loss = loss
        self._sample = sample
        self._filling = filling
        self._factor = count / (count - 1)

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block ``(n, b)``; costs ``b`` HVPs over all samples and ``b`` over one."""
        check_block(vectors, self.size)  # before the costly part
        alone = sample_products(self._loss, self._sample, vectors, self._filling)
        return self._factor * (alone - self._loss.products.matmat(vectors))
