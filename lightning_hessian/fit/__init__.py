"""What touches a running Trainer: when to measure, on what, what becomes of reports."""

from lightning_hessian.fit.budget import OverheadBudget
from lightning_hessian.fit.checkpoints import CheckpointReports
from lightning_hessian.fit.clocks import stopped_clocks
from lightning_hessian.fit.fingerprint import fingerprint, planned_batches
from lightning_hessian.fit.fit_loss import FitLoss
from lightning_hessian.fit.growth import measure_until_precise
from lightning_hessian.fit.history import load_history, save_history
from lightning_hessian.fit.interruptions import Interruptions
from lightning_hessian.fit.progress import progress
from lightning_hessian.fit.schedule import Schedule

__all__ = [
    "CheckpointReports",
    "FitLoss",
    "Interruptions",
    "OverheadBudget",
    "Schedule",
    "fingerprint",
    "load_history",
    "measure_until_precise",
    "planned_batches",
    "progress",
    "save_history",
    "stopped_clocks",
]
