"""Given tensors, made to fit a network of other bands, size and patches; what still does not fit is refused by name."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor, nn

__all__ = ["adapt_bands", "check_alike", "load_into"]

SHOWN = 5  # names in an error


def load_into(network: nn.Module, tensors: dict[str, Tensor], source: str, bands: Any = None) -> int:
    """Load tensors into a timm network: all of its own, and no others.

    Parameters
    ----------
    network : nn.Module
        A timm network without classifier, or one whose tensors are called as those; changed in place.
    tensors : dict of str to Tensor
        Its weights under timm's names; a classifier is left out.
    source : str
        Where they come from, for errors.
    bands : {"repeat", "mean"}, sequence of int or None, default=None
        How the first layer is adapted to other bands; see `adapt_bands`.

    Returns
    -------
    int
        How many of the tensors the network has taken.

    Raises
    ------
    ValueError
        If tensors are missing, unknown or of another shape: with the first five of each.
    """
    config = getattr(network, "pretrained_cfg", {})
    own = network.state_dict()
    heads = tuple(f"{name}." for name in listed(config.get("classifier")))
    given = {
        name: tensor.to(torch.float32) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
    }
    given = {name: tensor for name, tensor in given.items() if name in own or not heads or not name.startswith(heads)}
    for first in listed(config.get("first_conv")):
        if (name := f"{first}.weight") in given and name in own:
            given[name] = adapt_bands(given[name], own[name].shape[1], bands, source)
    resample_positions(network, given)
    taken = len(given)
    for name in own.keys() - given.keys():
        if name.endswith("num_batches_tracked"):  # a count that older files lack, and that nothing here reads
            given[name] = own[name]
    check_alike(given, own, source, type(network).__name__)
    network.load_state_dict(given)
    return taken


def listed(names: Any) -> tuple[str, ...]:
    """List names that timm gives as one, as several, or as none.

    Parameters
    ----------
    names : str, sequence of str or None
        Names.

    Returns
    -------
    tuple of str
    """
    return (names,) if isinstance(names, str) else tuple(names or ())


def adapt_bands(kernel: Tensor, bands: int, how: str | Sequence[int] | None, source: str) -> Tensor:
    r"""Adapt the kernel of a first layer to images of other bands.

    Parameters
    ----------
    kernel : Tensor of shape (width, channels, height, width)
        As it was trained.
    bands : int
        Bands of the images.
    how : {"repeat", "mean"}, sequence of int or None
        ``"repeat"`` gives the bands to the channels in turn, or the channels to the bands; ``"mean"`` gives every
        channel the mean of the bands; a sequence names the band of each channel, by its place. None takes images of as
        many bands as the network has channels.
    source : str
        Where it comes from, for errors.

    Returns
    -------
    Tensor of shape (width, bands, height, width)
        An image that is the same in all bands gives what such an image gave before.

    Raises
    ------
    ValueError
        If the bands differ and nothing is said about it, or a sequence does not name one band for each channel.

    Examples
    --------
    >>> import torch
    >>> from skastro.weights import adapt_bands
    >>> kernel = torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1)
    >>> [adapt_bands(kernel, 1, how, "").flatten().tolist() for how in ("repeat", "mean")]
    [[9.0], [9.0]]
    >>> adapt_bands(kernel, 4, "mean", "").flatten().tolist(), adapt_bands(kernel, 5, (4, 2, 1), "").flatten().tolist()
    ([2.25, 2.25, 2.25, 2.25], [0.0, 6.0, 2.0, 0.0, 1.0])
    """
    channels = kernel.shape[1]
    if how is None:
        if channels != bands:
            raise ValueError(
                f"The weights of {source} are for {channels} bands, the images have {bands}: choose how to adapt the "
                'first layer, ImageEncoder(bands="repeat"), bands="mean", or the band of each channel, such as '
                f"bands={tuple(range(channels))}."
            )
        return kernel
    if how == "mean":
        return kernel.sum(dim=1, keepdim=True).expand(-1, bands, -1, -1) / bands
    if how == "repeat" and bands > channels:
        places = torch.arange(bands) % channels
        return kernel[:, places] / torch.bincount(places)[places].view(1, -1, 1, 1)
    chosen = [channel % bands for channel in range(channels)] if how == "repeat" else [int(band) for band in how]
    if len(chosen) != channels or not all(0 <= band < bands for band in chosen):
        raise ValueError(
            f"bands={tuple(chosen)} must name one of the {bands} bands of the images for each of the {channels} "
            f"channels of {source}."
        )
    adapted = kernel.new_zeros(len(kernel), bands, *kernel.shape[2:])
    return adapted.index_add(1, torch.tensor(chosen), kernel)


def resample_positions(network: Any, given: dict[str, Tensor]) -> None:
    """Interpolate the patches and the position embeddings of a vision transformer to those of the network, in place.

    Parameters
    ----------
    network : nn.Module
        Any network; one without position embeddings has nothing to interpolate.
    given : dict of str to Tensor
        Weights, changed in place.
    """
    own: Any = getattr(network, "pos_embed", None)
    patches: Any = getattr(network, "patch_embed", None)
    if own is None or not hasattr(patches, "grid_size"):
        return
    kernel = given.get("patch_embed.proj.weight")
    if kernel is not None and kernel.ndim == 4 and kernel.shape[2:] != patches.proj.weight.shape[2:]:
        given["patch_embed.proj.weight"] = resample_patch_embed(kernel, list(patches.proj.weight.shape[2:]))
    places = given.get("pos_embed")
    if places is not None and places.ndim == 3 and places.shape[1] != own.shape[1]:
        prefix = 0 if getattr(network, "no_embed_class", False) else network.num_prefix_tokens
        given["pos_embed"] = resample_abs_pos_embed(places, patches.grid_size, num_prefix_tokens=prefix)


def check_alike(given: dict[str, Tensor], own: dict[str, Tensor], source: str, kind: str) -> None:
    """Refuse tensors that are not those of a network, naming them.

    Parameters
    ----------
    given : dict of str to Tensor
        Weights.
    own : dict of str to Tensor
        State of the network.
    source, kind : str
        Where the weights come from, and what the network is, for errors.

    Raises
    ------
    ValueError
        If tensors are missing, unknown or of another shape.

    Examples
    --------
    >>> import torch
    >>> from skastro.weights import check_alike
    >>> check_alike({"a": torch.ones(2)}, {"a": torch.ones(3), "b": torch.ones(1)}, "model.pt", "ResNet")
    Traceback (most recent call last):
    ...
    ValueError: The weights of model.pt are not those of this ResNet: 1 missing (b); 1 of another shape (a ...
    """
    shapes = [
        f"{name} {tuple(given[name].shape)} in place of {tuple(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    faults = {
        "missing": [name for name in own if name not in given],
        "unknown": [name for name in given if name not in own],
        "of another shape": shapes,
    }
    told = [
        f"{len(names)} {fault} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
        for fault, names in faults.items()
        if names
    ]
    if told:
        raise ValueError(f"The weights of {source} are not those of this {kind}: {'; '.join(told)}.")
