"""Runs an objective: batches, precision, optimiser, schedules, history, progress. The only importer of skorch."""

from skastro.training.batches import Batches, Rows
from skastro.training.callbacks import Best, Clock, EnoughError, Monitor, Progress, base_lr, spread
from skastro.training.device import draw_seed, local_seed, resolve_device, uses_bf16
from skastro.training.knobs import Training, get_training
from skastro.training.loop import Learner, LossAsGiven, Objective, auto_epochs, ema_update, make_optimizer, train

__all__ = [
    "Batches",
    "Best",
    "Clock",
    "EnoughError",
    "Learner",
    "LossAsGiven",
    "Monitor",
    "Objective",
    "Progress",
    "Rows",
    "Training",
    "auto_epochs",
    "base_lr",
    "draw_seed",
    "ema_update",
    "get_training",
    "local_seed",
    "make_optimizer",
    "resolve_device",
    "spread",
    "train",
    "uses_bf16",
]
