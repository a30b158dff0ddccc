"""The patches of a vision transformer: hidden from it before its first block, and told apart after its last."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from skastro.encoders.images import TimmEncoder, is_vit, padded_size

__all__ = ["embed_patches", "has_patches", "hidden_patches", "patch_grid"]


def has_patches(encoder: nn.Module) -> bool:
    """Tell whether an encoder is a plain vision transformer, whose patches can be hidden and told apart.

    Parameters
    ----------
    encoder : nn.Module
        As `ImageEncoder` builds it, or any other module.

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
    """Count the patches of an image.

    Parameters
    ----------
    encoder : nn.Module
        That has patches.
    size : tuple of int
        Height and width of the image in pixels; it is padded to whole patches.

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
    stride: Any = encoder.stride
    height, width = padded_size(size, stride)
    return height // stride, width // stride


@contextmanager
def hidden_patches(encoder: nn.Module, mask: Tensor, token: Tensor) -> Iterator[None]:
    """Put a token in the place of the masked patches of all images that are embedded inside the block.

    Parameters
    ----------
    encoder : nn.Module
        That has patches.
    mask : Tensor of bool of shape (n, patches)
        True where a patch is hidden.
    token : Tensor of shape (width,)
        What the encoder sees instead; the patch keeps its position.
    """
    network: Any = encoder.network

    def hide(module: nn.Module, inputs: Any, patches: Tensor) -> Tensor:
        return torch.where(mask.view(patches.shape[:-1]).unsqueeze(-1), token.to(patches.dtype), patches)

    with network.patch_embed.register_forward_hook(hide):
        yield


def embed_patches(encoder: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Embed images, and each of their patches.

    Parameters
    ----------
    encoder : nn.Module
        That has patches.
    images : Tensor of shape (n, bands, height, width)
        Normalized images.

    Returns
    -------
    rows : Tensor of shape (n, d)
        What the encoder gives.
    patches : Tensor of shape (n, patches, width)
        What the last block gives for each patch, normalized; row by row from the upper left.

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
