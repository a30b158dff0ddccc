"""Patches of a vision transformer: hide them before the first block, and return them after the last."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from skastro.encoders.images import TimmEncoder, is_vit, padded_size, zoomed

__all__ = ["embed_patches", "has_patches", "hidden_patches", "patch_grid"]


def has_patches(encoder: nn.Module) -> bool:
    """Return whether an encoder is a plain vision transformer, with patches that can be hidden and returned.

    Parameters
    ----------
    encoder : nn.Module
        Network built by `ImageEncoder`, or any other module.

    Returns
    -------
    bool

    Examples
    --------
    >>> from skastro.encoders import ImageEncoder, has_patches
    >>> [has_patches(ImageEncoder(name).build(1, (32, 32))) for name in ("test_vit", "test_resnet")]
    [True, False]
    """
    return isinstance(encoder, TimmEncoder) and is_vit(encoder.network)


def patch_grid(encoder: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Return the number of patches of an image, down and across.

    Parameters
    ----------
    encoder : nn.Module
        Encoder with patches.
    size : tuple of int
        Height and width of the image in pixels, which is padded to whole patches.

    Returns
    -------
    tuple of int
        Patches down and across.

    Examples
    --------
    >>> from skastro.encoders import ImageEncoder, patch_grid
    >>> encoder = ImageEncoder("test_vit", patch=12).build(bands=3, size=(144, 144))
    >>> patch_grid(encoder, (144, 144)), patch_grid(encoder, (60, 60)), patch_grid(encoder, (13, 60))
    ((12, 12), (5, 5), (2, 5))
    """
    network: Any = encoder
    stride = network.stride
    height, width = padded_size(zoomed(size, network.zoom), stride)
    return height // stride, width // stride


@contextmanager
def hidden_patches(encoder: nn.Module, mask: Tensor, token: Tensor) -> Iterator[None]:
    """Replace the masked patches of all images that are embedded inside the block by a token.

    Parameters
    ----------
    encoder : nn.Module
        Encoder with patches.
    mask : Tensor of bool of shape (n, patches)
        True where a patch is hidden.
    token : Tensor of shape (width,)
        Replacement of a hidden patch; the patch keeps its position.
    """
    network: Any = encoder.network

    def hide(module: nn.Module, inputs: Any, patches: Tensor) -> Tensor:
        return torch.where(mask.view(patches.shape[:-1]).unsqueeze(-1), token.to(patches.dtype), patches)

    with network.patch_embed.register_forward_hook(hide):
        yield


def embed_patches(encoder: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Embed images and each of their patches.

    Parameters
    ----------
    encoder : nn.Module
        Encoder with patches.
    images : Tensor of shape (n, bands, height, width)
        Normalized images.

    Returns
    -------
    rows : Tensor of shape (n, d)
        Output of the encoder.
    patches : Tensor of shape (n, patches, width)
        Output of the last block for each patch, normalized; row by row from the upper left.

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders import ImageEncoder, embed_patches
    >>> encoder = ImageEncoder("test_vit", pool="avg").build(bands=1, size=(32, 48))
    >>> rows, patches = embed_patches(encoder, torch.zeros(5, 1, 32, 48))
    >>> rows.shape, patches.shape
    (torch.Size([5, 64]), torch.Size([5, 6, 64]))
    """
    network: Any = encoder.network
    kept: list[Tensor] = []
    with network.blocks[-1].register_forward_hook(lambda module, inputs, output: kept.append(output)):
        rows = encoder(images)
    return rows, network.norm(kept[0])[:, network.num_prefix_tokens :]
