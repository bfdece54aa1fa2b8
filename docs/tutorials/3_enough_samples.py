"""
How many samples are enough?
============================

One more line tells how much the training loss still moves when a sample is added.
"""

# sphinx_gallery_start_ignore
import logging
import warnings

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from examples.demo import DigitsClassifier, digits
from lightning_hessian import LossDifference
from lightning_hessian.show import loss_difference_figure

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")
# sphinx_gallery_end_ignore

# %%
# The demo's classifier on the digits. ``held_out`` takes samples that the network was not trained on; here they
# are the last fifth of the data.

from torch.utils.data import Subset

data = digits().dataset
training = DataLoader(Subset(data, range(1400)), batch_size=100, shuffle=True)
validation = DataLoader(Subset(data, range(1400, 1797)), batch_size=100)

pl.seed_everything(0)
difference = LossDifference(
    num_samples="all",
    thresholds=[2e-4, 1e-4],
    held_out=validation,
    every_n_epochs=4,
    max_overhead=None,
)
trainer = pl.Trainer(
    max_epochs=8,
    accelerator="cpu",
    callbacks=[difference],
    # sphinx_gallery_start_ignore
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    # sphinx_gallery_end_ignore
)
trainer.fit(DigitsClassifier(), training)

# %%
# The answer, in words:

report = difference.reports[-1]
for sentence in report.sentences:
    print(sentence)

# %%
# and as a picture. With ``k`` samples, one more moves their mean loss by ``MAD / (k + 1)`` on average, over all
# orders in which they could have come. Beyond the samples at hand the line is an extrapolation, drawn from
# held-out losses where there are some.

loss_difference_figure(report)

# %%
# Do not read it alone. A network that has learned nothing moves little too; the loss and the gap to the held-out
# samples say whether there is anything to be sure of.

print(f"training loss {report.loss:.3f}, held-out loss {report.held_out.loss:.3f}")
print(f"gap {report.held_out.gap.value:.3f} +- {report.held_out.gap.standard_error:.3f}")

# %%
# Another threshold, and another rule, without measuring again: no later mean loss strays by more than 0.05 from
# that of all samples, with 95 % confidence.

print(report.required_sample_size(0.05, rule="uniform"))
