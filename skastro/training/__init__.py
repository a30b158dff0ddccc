"""Runs an objective: batches, precision, optimizer, schedules, history, progress. The only importer of skorch."""

from skastro.training.batches import ArrayDataset, BatchSampler
from skastro.training.callbacks import EarlyStopping, Monitor, Progress, ScheduleCallback, StopTraining, base_lr, spread
from skastro.training.config import Training, get_training
from skastro.training.device import draw_seed, local_seed, resolve_device, uses_bf16
from skastro.training.loop import Learner, LossAsGiven, Objective, auto_epochs, ema_update, train
from skastro.training.optimizer import make_optimizer

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "EarlyStopping",
    "Learner",
    "LossAsGiven",
    "Monitor",
    "Objective",
    "Progress",
    "ScheduleCallback",
    "StopTraining",
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
