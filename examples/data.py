"""Training sets for the configurations: from files where they are given, else small stand-ins."""

from __future__ import annotations

import gzip
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from examples.demo import digits


class Digits(pl.LightningDataModule):
    """The 1,797 images of 8 x 8 pixels that come with scikit-learn."""

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """In batches of 128, shuffled."""
        return digits()


class FewDigits(pl.LightningDataModule):
    """The first of them, as one batch: a step is then one of gradient descent.

    Args:
        num_samples: How many.
        batch_size: In shuffled batches of so many instead.
    """

    def __init__(self, num_samples: int = 400, batch_size: int | None = None) -> None:
        super().__init__()
        self.num_samples, self.batch_size = num_samples, batch_size

    def batch(self) -> tuple[Tensor, ...]:
        """Images ``(N, 64)`` from 0 to 1, and labels."""
        return digits().dataset[: self.num_samples]

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """One batch, or shuffled ones."""
        size, samples = self.batch_size, TensorDataset(*self.batch())
        return DataLoader(samples, batch_size=size or self.num_samples, shuffle=size is not None)


class Mnist(pl.LightningDataModule):
    """Images of 28 x 28 pixels in the format of MNIST, FashionMNIST and their like.

    Args:
        path: Folder with ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``, as they are
            or with ``.gz``. When None, the digits of scikit-learn, enlarged.
        batch_size: Images per step.
    """

    def __init__(self, path: str | None = None, batch_size: int = 128) -> None:
        super().__init__()
        self.path = path
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        """Read the files."""
        self.dataset = TensorDataset(*images_and_labels(self.path, "train"))

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """In shuffled batches."""
        return DataLoader(self.dataset, batch_size=self.batch_size, shuffle=True)


class HeldOutMnist(Mnist):
    """The same with a test set to validate on; pixels from -1 to 1, as Kiselev & Grabovoy have it.

    Args:
        path: Folder with the files of :class:`Mnist`, and ``t10k-images-idx3-ubyte`` and
            ``t10k-labels-idx1-ubyte``. When None, the digits, a sixth of them held out.
        batch_size: Images per step.
        num_samples: The first so many of the training images.
    """

    def __init__(
        self, path: str | None = None, batch_size: int = 64, num_samples: int = 10_000
    ) -> None:
        super().__init__(path, batch_size)
        self.num_samples = num_samples

    def setup(self, stage: str) -> None:
        """Read the files."""
        images, labels = images_and_labels(self.path, "train")
        if self.path is None:
            # in the order of the file the last ones are of other writers
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
            held_out, kept = order.tensor_split([len(order) // 6])
            test = images[held_out], labels[held_out]
            images, labels = images[kept], labels[kept]
        else:
            test = images_and_labels(self.path, "t10k")
        count = self.num_samples
        self.dataset = TensorDataset(2 * images[:count] - 1, labels[:count])
        self.held_out = TensorDataset(2 * test[0] - 1, test[1])

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """What training does not see."""
        return DataLoader(self.held_out, batch_size=1000)


class TextBytes(pl.LightningDataModule):
    """Pieces of a text, byte by byte.

    Args:
        path: Of a text file; bytes above 127 are replaced.
        context: Bytes that are read to predict one more.
        batch_size: Pieces per step.
    """

    def __init__(self, path: str = "LICENSE", context: int = 16, batch_size: int = 32) -> None:
        super().__init__()
        self.path = path
        self.context = context
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """In shuffled batches of pieces that overlap by half."""
        text = np.frombuffer(Path(self.path).read_bytes(), dtype=np.uint8)
        symbols = torch.from_numpy(np.minimum(text, 127)).long()
        pieces = symbols.unfold(0, self.context + 1, self.context // 2)
        return DataLoader(TensorDataset(pieces), batch_size=self.batch_size, shuffle=True)


def images_and_labels(path: str | None, part: str) -> tuple[Tensor, Tensor]:
    """Images ``(N, 1, 28, 28)`` from 0 to 1, and ``(N,)`` labels.

    Args:
        path: Folder with the files of ``part``, or None for the digits of scikit-learn, enlarged.
        part: ``train`` or ``t10k``.
    """
    if path is None:
        small, labels = digits().dataset[:]
        return F.interpolate(small.view(-1, 1, 8, 8), size=28, mode="bilinear"), labels
    images = read_idx(Path(path) / f"{part}-images-idx3-ubyte")
    return images[:, None].float() / 255, read_idx(Path(path) / f"{part}-labels-idx1-ubyte").long()


def read_idx(path: Path) -> Tensor:
    """Read an array of bytes: two zeros, 8 for bytes, the number of dimensions, the dimensions."""
    packed = path.with_name(f"{path.name}.gz")
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else path.read_bytes()
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} must begin with 00 00 08, got {content[:3].hex(' ')}.")
    num_dimensions = content[3]
    shape = np.frombuffer(content, dtype=">u4", count=num_dimensions, offset=4)
    values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * num_dimensions)
    return torch.tensor(values.reshape(shape.astype(int)))
