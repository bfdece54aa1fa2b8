"""
How to read each picture
========================

Three trainings of one small network: a healthy one, one whose learning rate is too large, and one
that is stuck. Each leaves a picture of its own. In TensorBoard these are ``hessian/spectrum`` (the
density) and ``hessian/history``, at the size of its cards; here the package's large figures draw
them.
"""

import textwrap

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian import HessianSpectrum, Loss, SpectrumReport
from lightning_hessian.show import history_figure, spectrum_figure, table

# %%
# The network, and 300 digits in one batch: full-batch gradient descent, so that theory says
# exactly what to expect.


class Network(pl.LightningModule):
    def __init__(self, learning_rate, scale=1.0):
        super().__init__()
        self.learning_rate = learning_rate
        self.network = nn.Sequential(
            nn.Linear(64, 16, bias=False), nn.Tanh(), nn.Linear(16, 10, bias=False)
        )
        with torch.no_grad():
            for weight in self.parameters():
                weight.mul_(scale)

    def training_step(self, batch, batch_idx):
        images, targets = batch
        return (self.network(images) - targets).square().sum(1).mean() / 2

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)


images, labels = load_digits(return_X_y=True)
data = TensorDataset(
    torch.tensor(images[:300] / 16, dtype=torch.float32),
    F.one_hot(torch.tensor(labels[:300]), 10).float(),
)


def train(learning_rate, scale=1.0):
    pl.seed_everything(0)
    hessian = HessianSpectrum(
        num_samples="all",
        every_n_epochs=None,
        every_n_train_steps=50,
        max_overhead=None,
        loss=Loss(batch_size=300),
    )
    trainer = pl.Trainer(
        max_steps=300,
        accelerator="cpu",
        callbacks=[hessian],
        # sphinx_gallery_start_ignore
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        # sphinx_gallery_end_ignore
    )
    trainer.fit(Network(learning_rate, scale), DataLoader(data, batch_size=300))
    return hessian.reports


# %%
# A healthy training
# ------------------
#
# A learning rate of 0.05. Gradient descent is stable along an eigenvector as long as its
# eigenvalue is below ``2 / learning_rate``, here 40.

healthy = train(learning_rate=0.05)
print(table(SpectrumReport, healthy))

# %%
# Read: the loss falls. The largest eigenvalue, which papers call the **sharpness**, stays far
# below 40: the learning rate could be larger by a factor of four. It rises slowly (*progressive
# sharpening*). The smallest eigenvalue is negative at first and shrinks towards zero: the
# weights are coming down into a valley.

history_figure(healthy)

# %%
# The density at the end. Most eigenvalues sit in a **bulk** at zero: directions along which
# nothing happens. Some **outliers** stand to the right, about as many as there are classes;
# they carry the trace. To the left there is next to nothing: this is what a **flat minimum** in
# the making looks like, sharp along a few directions and flat along the rest. The band is the
# error of the density.

spectrum_figure(healthy[-1])

# %%
# Too sharp: the learning rate is too large
# -----------------------------------------
#
# The same network with a learning rate of 0.3: the limit is at 2 / 0.3 = 6.7, below where the
# network wants to go.

sharp = train(learning_rate=0.3)
print(table(SpectrumReport, sharp))

# %%
# Read: the largest eigenvalue hovers at the limit or a little above it, at 7 instead of 9, and
# the norm of the gradient jumps about instead of going down. That is the **edge of stability**:
# the training bounces from wall to wall along the sharpest direction, and the bouncing itself keeps
# the sharpness near ``2 / learning_rate``. The loss still falls, not at every step. It is common
# and not an alarm by itself. It says that the learning rate, not the loss, decides how sharp
# the weights are; a smaller one, or one that decays, lets the gradient go down.

history_figure(sharp)

# %%
# Compare the limit with the sharpness in one line. With momentum ``b`` the limit is ``2 (1 + b)
# / learning_rate``. For Adam the eigenvalues of the Hessian must first be scaled by its step
# sizes: there this line does not hold.

for report in sharp:
    share = report.largest.values[0] * 0.3 / 2
    gradient = report.gradient_norm
    print(f"step {report.global_step:3d}: {share:.2f} of the limit, gradient {gradient:.2f}")

# %%
# The density shows it as well: several outliers have risen and crowd at the limit, and none stands
# far beyond it.

spectrum_figure(sharp[-1])

# %%
# With a learning rate of 1 the training explodes within a few steps. Then there are no numbers, and
# the report says why.

exploded = train(learning_rate=1.0)
print(textwrap.fill(exploded[-1].failure, 85))

# %%
# Stuck
# -----
#
# A learning rate that was healthy, and weights that begin a thousand times smaller.

stuck = train(learning_rate=0.05, scale=1e-3)
print(table(SpectrumReport, stuck))

# %%
# Read: the loss does not move for a hundred steps, and the gradient is nearly zero. That is a
# minimum or a saddle, and the loss cannot tell which. The smallest eigenvalue can: at the start
# it is as large as the largest one, with the other sign. This is a **saddle**. Along its
# eigenvector the distance grows by ``1 + learning_rate * 1.03`` a step, so it takes some
# hundred steps to leave it. Around step 100 it does, and comes to rest at the next one: the
# loss is at 0.450, the gradient small again, the smallest eigenvalue at -0.25. It will take
# four times as long to leave this one.

history_figure(stuck)

# %%
# The density at the first saddle is symmetric:

spectrum_figure(stuck[0])

# %%
# What to do: a larger learning rate, momentum, or a start that is not so small.
#
# If the gradient *and* all eigenvalues are nearly zero, it is no saddle but a **plateau**:
# nothing will happen, whatever the learning rate. Dead ReLUs and saturated outputs look like
# that.
#
# In short
# --------
#
# - ``eig_1`` far below ``2 / learning_rate``: room for a larger learning rate.
# - ``eig_1`` hovering there: edge of stability. The learning rate decides.
# - ``eig_1`` growing away above it, loss growing: about to explode.
# - small gradient, ``eig_min_1`` clearly negative: a saddle. Wait, or push.
# - small gradient, ``eig_min_1`` near zero, outliers to the right: a minimum; the trace and
#   ``eig_1`` say how flat.
# - small gradient, everything near zero: a plateau.
#
# How near is "near"? Each number has its error, and ``negative_threshold`` says which signs are
# rounding. With mini-batches all of this holds on average only; the sharpness then stays some
# way below the limit.
