"""What touches a running Trainer: when to measure, on what, what becomes of reports."""

from lightning_hessian.fit.averages import BESIDE, has_running_statistics, note_on_file
from lightning_hessian.fit.bars import between_bars
from lightning_hessian.fit.checkpoints import CheckpointReports
from lightning_hessian.fit.fingerprint import Fingerprint
from lightning_hessian.fit.fit_loss import FitLoss
from lightning_hessian.fit.history import load_history
from lightning_hessian.fit.interruptions import Interruptions
from lightning_hessian.fit.length import FitLength
from lightning_hessian.fit.pace import Decision, Event, Moment, Pace
from lightning_hessian.fit.plan import Plan
from lightning_hessian.fit.recorder import Recorder
from lightning_hessian.fit.schedule import Schedule
from lightning_hessian.fit.session import Session
from lightning_hessian.fit.settings import settings_text
from lightning_hessian.fit.steps import Steps
from lightning_hessian.fit.stopwatch import Stopwatch
from lightning_hessian.fit.weights import choose_weights, named_as

__all__ = [
    "BESIDE",
    "CheckpointReports",
    "Decision",
    "Event",
    "Fingerprint",
    "FitLength",
    "FitLoss",
    "Interruptions",
    "Moment",
    "Pace",
    "Plan",
    "Recorder",
    "Schedule",
    "Session",
    "Steps",
    "Stopwatch",
    "between_bars",
    "choose_weights",
    "has_running_statistics",
    "load_history",
    "named_as",
    "note_on_file",
    "settings_text",
]
