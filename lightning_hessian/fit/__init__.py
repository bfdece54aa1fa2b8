"""What touches a running Trainer: when to measure, on what, what becomes of reports."""

from lightning_hessian.fit.budget import OverheadBudget
from lightning_hessian.fit.checkpoints import CheckpointReports
from lightning_hessian.fit.fingerprint import Fingerprint, planned_batches
from lightning_hessian.fit.fit_loss import FitLoss
from lightning_hessian.fit.interruptions import Interruptions
from lightning_hessian.fit.pace import Decision, Event, Moment, Pace
from lightning_hessian.fit.recorder import Recorder
from lightning_hessian.fit.schedule import Schedule
from lightning_hessian.fit.session import Session
from lightning_hessian.fit.settings import settings_text

__all__ = [
    "CheckpointReports",
    "Decision",
    "Event",
    "Fingerprint",
    "FitLoss",
    "Interruptions",
    "Moment",
    "OverheadBudget",
    "Pace",
    "Recorder",
    "Schedule",
    "Session",
    "planned_batches",
    "settings_text",
]
