"""Train an objective of a test by the loop itself."""

import torch

from skastro.training import Learner, Monitor, Randomness, Settings, Training, TrainingRows, train

CPU = torch.device("cpu")


def learn(objective, views, images, epochs, lr=0.01, batch_size=8):
    """Train with seed 0, in single precision, and give the history."""
    monitor = Monitor(objective.online[0])
    settings = Settings(Training(precision="fp32"), epochs, batch_size, lr, CPU)
    train(Learner(objective, views, Randomness(0), bf16=False), TrainingRows({"images": images}), settings, monitor)
    return monitor.history
