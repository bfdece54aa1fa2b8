"""
Checkpoints, measured then or now
=================================

A report beside every checkpoint while training, and the same numbers for checkpoints that exist
already.
"""

import json
import tempfile
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

from examples.demo import DigitsClassifier, digits
from lightning_hessian import HessianSpectrum, SpectrumReport, analyze, spectra_figure
from lightning_hessian.show import history_figure, read_sidecar, table

# %%
# With ``at_checkpoints=True`` each checkpoint gets a report of exactly its weights.

folder = Path(tempfile.mkdtemp())
pl.seed_everything(0)
hessian = HessianSpectrum(num_samples=512, at_checkpoints=True, max_overhead=None)
trainer = pl.Trainer(
    max_epochs=2,
    accelerator="cpu",
    callbacks=[hessian, ModelCheckpoint(folder, save_top_k=-1)],
    # sphinx_gallery_start_ignore
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    # sphinx_gallery_end_ignore
)
trainer.fit(DigitsClassifier(), digits())
print(*sorted(path.name for path in folder.iterdir()), sep="\n")

# %%
# The JSON beside a checkpoint is read by anything; we make a report of it again.

sidecar = sorted(folder.glob("*.json"))[-1]
report = SpectrumReport.from_dict(read_sidecar(sidecar))
print(report.global_step, report.largest.values)
print(list(json.loads(sidecar.read_text()))[:8])

# %%
# The spectra of all of them in one figure; ``reports_frame(folder)`` would be their numbers in one
# frame of pandas. A folder of runs does as well.

spectra_figure(folder)

# %%
# Afterwards, with another question: the same checkpoints need no callback in them. Each is
# loaded into a fit that takes no step.

reports = analyze(
    DigitsClassifier(),
    folder,
    dataloaders=digits(),
    callback=HessianSpectrum(num_eigenvalues=3, num_samples=512, density=False),
    # sphinx_gallery_start_ignore
    trainer=pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False),
    verbose=False,
    # sphinx_gallery_end_ignore
)
print(table(SpectrumReport, reports))

# %%
# Their history is drawn as that of a fit.

history_figure(reports)
