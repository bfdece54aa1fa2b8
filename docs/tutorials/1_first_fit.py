"""
A first fit
===========

An ordinary Lightning module on scikit-learn's digits, trained as always, with one line added. Then
we read what was measured.
"""

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian import HessianSpectrum

# %%
# The module knows nothing of Hessians. Nor does the data.


class Classifier(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return F.cross_entropy(self.network(images), labels)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


images, labels = load_digits(return_X_y=True)
data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))

# %%
# The line. ``max_overhead=None`` measures at the start and after every epoch in full precision.
# By default ten smaller reports take a tenth of the training's work, or up to half of one as
# short as this.

pl.seed_everything(0)
hessian = HessianSpectrum(num_samples=500, max_overhead=None)
trainer = pl.Trainer(
    max_epochs=4,
    accelerator="cpu",
    callbacks=[hessian],  # <- the line
    # sphinx_gallery_start_ignore
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    # sphinx_gallery_end_ignore
)
trainer.fit(Classifier(), DataLoader(data, batch_size=64, shuffle=True))

# %%
# With a logger, TensorBoard has all of it. Here we ask for the table that ``make demo`` prints,
# one line a measurement:

from lightning_hessian import SpectrumReport
from lightning_hessian.show import table

print(table(SpectrumReport, hessian.reports))

# %%
# A report is a record of records. Each number has its error beside it, and the report says what
# it was measured on.

report = hessian.reports[-1]
print(f"{report.num_parameters:,} parameters, {report.data}, {report.mode} mode")
for value, bound in zip(report.largest.values, report.largest.residual_bounds, strict=True):
    print(f"eigenvalue {value:.4f}, within {bound:.1e}")
lower, upper = report.trace.interval
print(f"trace {report.trace.value:.2f}, between {lower:.2f} and {upper:.2f} with 95 % confidence")

# %%
# What the measurement did not reach, if anything, stands in notes, each with a code that a
# program can ask for:

print([note.code for note in report.notes])

# %%
# TensorBoard's *Images* page has a small picture of the density, the large one is
# :func:`~lightning_hessian.show.spectrum_figure`. On a logarithmic scale the bulk at zero and the
# few eigenvalues outside it are seen together: one for each class but one, as a rule.

from lightning_hessian.show import spectrum_figure

spectrum_figure(report)

# %%
# And over the training: the largest eigenvalue rises while the loss falls, as it does in most
# trainings.

from lightning_hessian.show import history_figure

history_figure(hessian.reports)
