"""Optimizers by name."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.optim import Lars

__all__ = ["make_optimizer"]


def make_optimizer(
    groups: Sequence[Mapping[str, Any]],
    lr: float,
    name: str,
    weight_decay: float,
    momentum: float = 0.9,
    betas: tuple[float, float] = (0.9, 0.999),
) -> torch.optim.Optimizer:
    """Make an optimizer by name that decays only matrices and kernels.

    Parameters
    ----------
    groups : sequence of mapping
        Parameter groups, with ``lr_scale`` if it is not 1.
    lr : float
        Learning rate.
    name : {"adamw", "adam", "sgd", "lars"}
        Name of the optimizer; ``"auto"`` is AdamW.
    weight_decay : float
        Weight decay of parameters with at least two axes, in groups with a ``decay_scale`` of 1; that of other
        parameters is 0.
    momentum : float, default=0.9
        Momentum of SGD and LARS.
    betas : tuple of two float, default=(0.9, 0.999)
        Decay rates of AdamW and Adam.

    Returns
    -------
    torch.optim.Optimizer
    """
    kinds = defaultdict(list)
    for group in groups:
        for parameter in filter(lambda p: p.requires_grad, group["params"]):
            kinds[group.get("lr_scale", 1.0), 1.0 if parameter.ndim > 1 else 0.0].append(parameter)
    split = [
        {
            "params": params,
            "lr_scale": scale,
            "lr": lr * scale,
            "decay_scale": decay,
            "weight_decay": decay * weight_decay,
        }
        for (scale, decay), params in kinds.items()
    ]
    if name == "lars":
        for group in split:  # timm's adapts to a weight's size only where that decays
            group["always_adapt"] = group["decay_scale"] == 1
        return Lars(split, lr=lr, momentum=momentum)
    if name == "sgd":
        return torch.optim.SGD(split, lr=lr, momentum=momentum, fused=True)
    if name == "adam":
        return torch.optim.Adam(split, lr=lr, betas=(betas[0], betas[1]), fused=True)
    return torch.optim.AdamW(split, lr=lr, betas=(betas[0], betas[1]), fused=True)
