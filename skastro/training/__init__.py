"""Training and running of networks: batches, optimizer, schedules, history. The only importer of skorch."""

from skastro.training.batches import Window, as_batch
from skastro.training.callbacks import Monitor, NotBegun
from skastro.training.checkpoints import current_run, is_compared, resumable
from skastro.training.config import Training, get_training
from skastro.training.fingerprints import describe_arrays, describe_fit, differences
from skastro.training.inference import Inference
from skastro.training.loop import Settings, TrainingRows, train
from skastro.training.objectives import AsGiven, Learner, Objective, ema_update
from skastro.training.process import Randomness, bfloat16, free_threads, local_seed, own_state
from skastro.training.tasks import CallbackSupport, Tasks, copy_fitted, tell_fit, tell_inner_fit, tell_trainings
from skastro.training.validation import HeldOut, hold_out

__all__ = [
    "AsGiven",
    "CallbackSupport",
    "HeldOut",
    "Inference",
    "Learner",
    "Monitor",
    "NotBegun",
    "Objective",
    "Randomness",
    "Settings",
    "Tasks",
    "Training",
    "TrainingRows",
    "Window",
    "as_batch",
    "bfloat16",
    "copy_fitted",
    "current_run",
    "describe_arrays",
    "describe_fit",
    "differences",
    "ema_update",
    "free_threads",
    "get_training",
    "hold_out",
    "is_compared",
    "local_seed",
    "own_state",
    "resumable",
    "tell_fit",
    "tell_inner_fit",
    "tell_trainings",
    "train",
]
