"""A small Fourier layer with complex weights, and the same of real numbers alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

LENGTH, MODES = 9, 4
"""An odd number of points, so that no frequency stands alone at the upper end."""


class SpectralConvolution(nn.Module):
    """The lowest frequencies of a signal ``(b, c, n)``, mixed between channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs, MODES, dtype=torch.cfloat) / inputs)

    def forward(self, x: Tensor) -> Tensor:
        low = torch.fft.rfft(x)[..., :MODES]
        mixed = torch.einsum("bif,iof->bof", low, self.weight)
        return torch.fft.irfft(mixed, n=x.shape[-1])


class RealSpectralConvolution(nn.Module):
    """The same by sums of cosines and sines: ``weight[..., 0]`` real parts, ``[..., 1]`` others."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.view_as_real(weight.detach()).double())

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bitofp,iofp->bot", self.design(x), self.weight)

    def design(self, x: Tensor) -> Tensor:
        """``(b, i, t, o, f, 2)``: what each real number adds to each point of an output."""
        count = x.shape[-1]
        angles = (
            2 * math.pi * torch.outer(torch.arange(count), torch.arange(MODES)).double() / count
        )
        cosines, sines = angles.cos(), angles.sin()
        real, imaginary = x @ cosines, -(x @ sines)
        twice = torch.full((MODES,), 2.0, dtype=torch.float64)
        twice[0] = 1
        # of ``(p + i q)(R + i I) exp(i a)`` the real part
        along = [
            real[:, :, None] * cosines - imaginary[:, :, None] * sines,
            -real[:, :, None] * sines - imaginary[:, :, None] * cosines,
        ]
        both = torch.stack(along, dim=-1) * (twice / count)[:, None]
        return both[:, :, :, None].expand(-1, -1, -1, self.weight.shape[1], -1, -1)


class FourierOperator(nn.Module):
    """Lift (with an odd number of weights), a spectral layer beside a bypass, and a projection."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.lift = nn.Conv1d(1, 3, 1, bias=False)
        self.spectral = SpectralConvolution(3, 2)
        self.bypass = nn.Conv1d(3, 2, 1)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Conv1d(2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.lift(x)
        mixed = torch.tanh(self.spectral(hidden) + self.bypass(hidden))
        return self.project(self.dropout(mixed))


def in_reals(network: FourierOperator) -> FourierOperator:
    """The same function, in float64, of real parameters that lie in the same order."""
    twin = FourierOperator()
    twin.load_state_dict(network.state_dict())
    twin = twin.double()
    twin.spectral = RealSpectralConvolution(network.spectral.weight)  # type: ignore[assignment]
    return twin


def signals(count: int = 26) -> TensorDataset:
    """Random ones, and what is to become of them."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(count, 1, LENGTH, generator=generator)
    return TensorDataset(inputs, inputs.roll(1, dims=-1) ** 2)
