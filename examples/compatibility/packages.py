"""Which packages there are a program for, and what pip installs for each."""

from __future__ import annotations

from dataclasses import dataclass

TORCH = ("torch==2.13.0",)
# the newest pair of which both halves are on every index
VISION = ("torch==2.14.1", "torchvision==0.29.1")


@dataclass(frozen=True)
class Package:
    """A package that is trained with.

    Attributes:
        distribution: Its name on the index.
        others: What is installed beside it.
        base: The torch that it is tried on.
    """

    distribution: str
    others: tuple[str, ...] = ()
    base: tuple[str, ...] = TORCH

    @property
    def name(self) -> str:
        """The distribution's, without extras."""
        return self.distribution.partition("[")[0]

    @property
    def requirements(self) -> tuple[str, ...]:
        """What is installed beside this library."""
        return (self.distribution, *self.others, *self.base)


PACKAGES = {
    "with_anomalib": Package("anomalib", base=VISION),
    "with_chemprop": Package("chemprop"),
    "with_darts": Package("darts"),
    "with_diffusers": Package("diffusers", ("transformers",)),
    "with_gluonts": Package("gluonts[torch]"),
    "with_gpytorch": Package("gpytorch"),
    "with_lightly": Package("lightly", base=VISION),
    "with_litdata": Package("litdata", base=VISION),
    "with_litgpt": Package("litgpt"),
    "with_neuralforecast": Package("neuralforecast"),
    "with_peft": Package("peft", ("transformers",)),
    "with_pyg": Package("torch_geometric"),
    "with_pyro": Package("pyro-ppl"),
    "with_pytorch_forecasting": Package("pytorch-forecasting"),
    "with_pytorch_tabular": Package("pytorch-tabular", ("requests",)),
    "with_scvi": Package("scvi-tools"),
    "with_smp": Package("segmentation-models-pytorch", base=VISION),
    "with_timm": Package("timm", base=VISION),
    "with_torchrl": Package("torchrl", ("tensordict",)),
    "with_transformers": Package("transformers"),
}
