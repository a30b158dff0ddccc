"""Published checkpoints, rebuilt from the fixtures of their layouts: real names and shapes, numbers by a rule."""

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

FOLDER = Path(os.environ.get("SKASTRO_DATA", Path(__file__).parents[2] / "shared" / "data")) / "weights"
SMALL = ("pos_embed", "position_embed", "cls_token", "mask_token", "register_tokens")

needs_fixtures = pytest.mark.skipif(not FOLDER.is_dir(), reason="the fixtures of published checkpoints are not here")


@lru_cache
def fixture(name: str) -> Any:
    return np.load(FOLDER / f"{name}.npz")


def fill(name: str, shape: tuple[int, ...], dtype: str, seed: int, gain: float) -> np.ndarray:
    """Make one tensor by the rule of the fixtures."""
    if dtype.startswith("int"):
        return np.zeros(shape, dtype)
    values = np.random.default_rng([20261128, seed]).normal(size=shape)
    if name.endswith("running_var"):
        values = 0.5 + np.abs(values)
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * values
    elif any(part in name for part in SMALL):
        values = 0.02 * values
    elif len(shape) >= 2 and not name.endswith("query"):
        values = values * np.sqrt(gain / np.prod(shape[1:]))
    elif len(shape) < 2:
        values = 1 + 0.1 * values
    return values.astype(dtype)


def state_dict(npz: Any, tag: str = "", only: str = "") -> dict[str, torch.Tensor]:
    """Tensors by name, levels parted by "/"; those whose names `only` does not find are zeros."""
    keys, gain = [str(key) for key in npz["keys" + tag]], float(npz["gain"])
    shapes = [tuple(int(n) for n in str(shape).split(",") if n) for shape in npz["shapes" + tag]]
    seeds = range(len(keys)) if tag else npz["seeds"].tolist()
    filled = {}
    for key, shape, dtype, seed in zip(keys, shapes, npz["dtypes" + tag], seeds, strict=True):
        value = fill(key, shape, str(dtype), seed, gain) if re.search(only, key) else np.zeros(shape, str(dtype))
        filled[key] = torch.from_numpy(np.asarray(value))
    return filled


def checkpoint(npz: Any, tag: str = "", only: str = "") -> dict[str, Any]:
    """Nested dictionaries as the file has them, ready for `torch.save`."""
    nested: dict[str, Any] = {}
    for key, tensor in state_dict(npz, tag, only).items():
        *levels, name = key.split("/")
        level = nested
        for part in levels:
            level = level.setdefault(part, {})
        level[name] = tensor.clone()
    return nested


def difference(came: Any, wanted: np.ndarray) -> float:
    """Largest difference, relative to the largest value wanted."""
    return float(np.abs(np.asarray(came) - wanted).max() / np.abs(wanted).max())
