"""Runs an objective: batches, precision, optimiser, schedules, history, progress. The only importer of skorch."""

from skastro.training.batches import Batches, Rows
from skastro.training.callbacks import Clock, Monitor, Progress, spread
from skastro.training.device import local_seed, resolve_device, uses_bf16
from skastro.training.knobs import Training, get_training
from skastro.training.loop import Learner, LossAsGiven, ema_update, make_optimizer, train

__all__ = [
    "Batches",
    "Clock",
    "Learner",
    "LossAsGiven",
    "Monitor",
    "Progress",
    "Rows",
    "Training",
    "ema_update",
    "get_training",
    "local_seed",
    "make_optimizer",
    "resolve_device",
    "spread",
    "train",
    "uses_bf16",
]
