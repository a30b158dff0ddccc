"""Published weights as they lie on disk or on the hub, read without running any code that they could bring."""

import json
import os
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg
from torch import Tensor

from skastro.hub import PREFIX, fetch

__all__ = ["Weights", "license_of", "read_weights"]

# In a folder and in a repository, in the order in which they are looked for.
NAMES = ("model.safetensors", "pytorch_model.bin")
TRAINING_STATE = ("optimizer", "lr_scheduler", "callbacks", "loops")  # parts of a checkpoint that hold no weights


@dataclass(frozen=True)
class Weights:
    """Tensors by name, and what stands beside them.

    Parameters
    ----------
    source : str
        Where they come from, for errors and for the provenance.
    tensors : dict of str to Tensor
        In a file of several levels these are joined by "/": ``"state_dict/encoder.conv1.weight"``.
    config : dict
        Content of the ``config.json`` beside the file, or of ``hyper_parameters`` inside it; empty if there is neither.
    """

    source: str
    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What a provenance calls the source: a local file without its folders."""
        return self.source if self.source.startswith(PREFIX) else os.path.basename(self.source)


def read_weights(source: str | os.PathLike[str], network: str | None = None) -> Weights:
    """Read the tensors of a checkpoint: of a file, a folder, a repository of the hub, or timm.

    Parameters
    ----------
    source : str or path-like
        File (``.safetensors``; anything else is taken for one of torch), folder with ``model.safetensors`` or
        ``pytorch_model.bin``, ``"hf-hub:owner/name"``, ``"hf-hub:owner/name/file.ckpt"`` for a certain file of a
        repository, or ``"timm"`` for the weights that timm names for `network`. Only the last three may download.
    network : str, default=None
        Name of the network in timm, for ``"timm"``; a tag chooses the weights, as in ``"resnet50.a1_in1k"``.

    Returns
    -------
    Weights

    Raises
    ------
    FileNotFoundError
        If there is no such file, folder, repository or set of weights.
    ConnectionError
        If the hub would have to be asked, and cannot be reached.
    ValueError
        If the file is cut short, holds no tensors, or holds objects that only code could build; none was run.

    Examples
    --------
    >>> import tempfile, torch
    >>> from skastro.weights import read_weights
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"epoch": 3, "state_dict": {"conv1.weight": torch.zeros(1)}}, f"{folder}/model.pt")
    ...     read_weights(f"{folder}/model.pt").tensors
    {'state_dict/conv1.weight': tensor([0.])}
    """
    text = os.fspath(source)
    if text == "timm":
        text = timm_repository(network or "")
    if text.startswith(PREFIX):
        file, config = fetch_weights(text)
    elif (folder := Path(text)).is_dir():
        file, config = in_folder(folder)
    else:
        file, config = folder, None
    if not file.is_file():
        raise FileNotFoundError(f"There is no file of weights {text}: give its path, ImageEncoder(weights=...).")
    content = read_safetensors(file) if file.suffix == ".safetensors" else read_torch(file)
    if not (tensors := dict(flatten(content))):
        raise ValueError(f"{text} holds no tensors.")
    known = json.loads(config.read_text()) if config else content.get("hyper_parameters")
    return Weights(text, tensors, known if isinstance(known, dict) else {})


def license_of(weights: Weights) -> str:
    """Find the license that the configuration beside the weights states, as timm writes it or at the top.

    Parameters
    ----------
    weights : Weights
        What was read.

    Returns
    -------
    str
        Empty if none is stated.

    Examples
    --------
    >>> from skastro.weights import Weights, license_of
    >>> license_of(Weights("model.safetensors", {}, {"pretrained_cfg": {"license": "apache-2.0"}}))
    'apache-2.0'
    """
    places = (weights.config, weights.config.get("pretrained_cfg") or {})
    return next((str(place["license"]) for place in places if place.get("license")), "")


def timm_repository(network: str) -> str:
    """Name the repository of the weights that timm has for a network.

    Parameters
    ----------
    network : str
        timm name, with or without a tag.

    Returns
    -------
    str

    Raises
    ------
    FileNotFoundError
        If timm has none on the hub.

    Examples
    --------
    >>> from skastro.weights.files import timm_repository
    >>> timm_repository("resnet50"), timm_repository("convnext_nano.in12k")
    ('hf-hub:timm/resnet50.a1_in1k', 'hf-hub:timm/convnext_nano.in12k')
    """
    config = get_pretrained_cfg(network)
    if config is None or not config.hf_hub_id:
        raise FileNotFoundError(
            f"timm has no weights for {network!r} on the hub: choose another network or tag (timm.list_pretrained())."
        )
    return f"{PREFIX}{config.hf_hub_id}"


def fetch_weights(name: str) -> tuple[Path, Path | None]:
    """Fetch a file of weights from the hub, and the configuration beside it, unless they are there already.

    Parameters
    ----------
    name : str
        ``"hf-hub:owner/name"`` or ``"hf-hub:owner/name/file"``, with ``"@revision"`` behind it if need be.

    Returns
    -------
    file : Path
    config : Path or None
        ``config.json``; None if a file was named, or the repository has none.
    """
    path, _, revision = name.removeprefix(PREFIX).partition("@")
    owner, _, rest = path.partition("/")
    repository, _, file = rest.partition("/")
    get = partial(fetch, f"{owner}/{repository}", revision=revision or None)
    if file:
        return get(file), None
    try:
        config = get("config.json")
    except FileNotFoundError:
        config = None
    try:
        return get(NAMES[0]), config
    except FileNotFoundError:
        return get(NAMES[1]), config


def in_folder(folder: Path) -> tuple[Path, Path | None]:
    """Find the weights of a folder, and the configuration beside them.

    Parameters
    ----------
    folder : Path
        Local folder, as timm and the hub lay it out.

    Returns
    -------
    file : Path
    config : Path or None

    Raises
    ------
    FileNotFoundError
        If the folder has no weights under a known name.
    """
    for name in NAMES:
        if (folder / name).is_file():
            config = folder / "config.json"
            return folder / name, config if config.is_file() else None
    raise FileNotFoundError(f"The folder {folder} has neither {' nor '.join(NAMES)}: name the file of the weights.")


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Read a file of safetensors.

    Parameters
    ----------
    file : Path
        File to read.

    Returns
    -------
    dict of str to Tensor
    """
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"{file} is cut short, or is no file of safetensors ({error}).") from error


def read_torch(file: Path) -> Any:
    """Read a file of torch, if it holds nothing but tensors and plain values.

    Parameters
    ----------
    file : Path
        File to read.

    Returns
    -------
    object
        Nested dictionaries, as they were saved.
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = str(error).partition("Unsupported global: GLOBAL ")[2].split()
        raise ValueError(
            f"{file} holds Python objects{f' ({named[0]})' if named else ''}, which only code can build; none was run. "
            "If you trust it, convert it once, where its own package is installed: "
            f'checkpoint = torch.load("{file.name}", weights_only=False); '
            'torch.save({"state_dict": checkpoint["state_dict"]}, "converted.pt").'
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{file} is cut short, or is no file of torch.") from error


def flatten(level: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """List the tensors of nested dictionaries, without the state of an optimizer.

    Parameters
    ----------
    level : object
        What was read; anything but tensors and dictionaries is passed over.
    path : str, default=""
        What stands before the names.

    Yields
    ------
    tuple of (str, Tensor)

    Examples
    --------
    >>> import torch
    >>> from skastro.weights.files import flatten
    >>> [name for name, _ in flatten({"epoch": 1, "teacher": {"norm.weight": torch.ones(1)}})]
    ['teacher/norm.weight']
    """
    if isinstance(level, Tensor):
        yield path, level
    elif isinstance(level, Mapping):
        for name, part in level.items():
            if path or not str(name).startswith(TRAINING_STATE):
                yield from flatten(part, f"{path}/{name}" if path else str(name))
