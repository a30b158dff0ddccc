"""Training and running of networks: batches, optimizer, schedules, history. The only importer of skorch."""

from skastro.training.batches import ArrayDataset, BatchSampler, Window, as_batch, source_of
from skastro.training.callbacks import (
    EarlyStopping,
    Epochs,
    Monitor,
    NotBegun,
    Progress,
    ScheduleCallback,
    StopTraining,
    base_lr,
    spread,
)
from skastro.training.checkpoints import Checkpoint, current_run, describe_arrays, describe_fit, differences, resumable
from skastro.training.config import Training, get_training
from skastro.training.device import draw_seed, own_generator, resolve_device, uses_bf16
from skastro.training.inference import Inference
from skastro.training.loop import AsGiven, Learner, LossAsGiven, Objective, auto_epochs, ema_update, train
from skastro.training.optimizer import make_optimizer
from skastro.training.process import Randomness, bfloat16, free_threads, local_seed, own_state
from skastro.training.tasks import CallbackSupport, Tasks, copy_fitted, tell_fit, tell_inner_fit, tell_trainings
from skastro.training.validation import HeldOut, hold_out, mean_loss

__all__ = [
    "ArrayDataset",
    "AsGiven",
    "BatchSampler",
    "CallbackSupport",
    "Checkpoint",
    "EarlyStopping",
    "Epochs",
    "HeldOut",
    "Inference",
    "Learner",
    "LossAsGiven",
    "Monitor",
    "NotBegun",
    "Objective",
    "Progress",
    "Randomness",
    "ScheduleCallback",
    "StopTraining",
    "Tasks",
    "Training",
    "Window",
    "as_batch",
    "auto_epochs",
    "base_lr",
    "bfloat16",
    "copy_fitted",
    "current_run",
    "describe_arrays",
    "describe_fit",
    "differences",
    "draw_seed",
    "ema_update",
    "free_threads",
    "get_training",
    "hold_out",
    "local_seed",
    "make_optimizer",
    "mean_loss",
    "own_generator",
    "own_state",
    "resolve_device",
    "resumable",
    "source_of",
    "spread",
    "tell_fit",
    "tell_inner_fit",
    "tell_trainings",
    "train",
    "uses_bf16",
]
