"""AstroCLIP's image encoder: a vision transformer whose patches attention sees without class token and positions."""

import os
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from skastro.encoders.images import ImageEncoder, TimmEncoder, is_vit, meta_network

__all__ = ["AstroCLIPImageEncoder"]


class AstroCLIPImageEncoder(ImageEncoder):
    """Specification of the image encoder of Parker et al. (2024), as its published weights want it.

    It is an :class:`ImageEncoder` for vision transformers, and gives the same features, AstroDINO's. Its tokens are
    others: the original's cross-attention looks at patches that went through the blocks with neither the class token
    beside them nor position embeddings, although the network was trained with both.

    Parameters
    ----------
    name : str, default="vit_large_patch14_dinov2"
        A timm model name of a ViT.
    pool : {"stages", "avgmax", "avg"}, default="avg"
        Pooling of the features; ``"avg"`` is the class token.
    patch : int, default=12
        Side in pixels of the patches.
    drop_path : float, default=0.0
        Stochastic depth in training.
    weights : str, path-like or None, default=None
        Checkpoint: a file ``astroclip.ckpt`` or ``astrodino.ckpt``, or where on the hub it is. None draws the weights.
    bands : {"repeat", "mean"}, sequence of int or None, default=None
        How weights for three bands are adapted to others.
    resize : int, default=None
        Pixels per side to which the window is scaled.
    pixel_scale : float, default=None
        Side in arcseconds of the pixels that the network knows, 0.262 where it is the published one.

    See Also
    --------
    skastro.pretrained.astroclip : The whole of it, with SpecFormer and both pools.

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders import AstroCLIPImageEncoder
    >>> encoder = AstroCLIPImageEncoder("test_vit").build(bands=3, size=(48, 48))
    >>> encoder(torch.zeros(2, 3, 48, 48)).shape, encoder.tokens(torch.zeros(2, 3, 48, 48))[0].shape
    (torch.Size([2, 64]), torch.Size([2, 16, 64]))
    """

    def __init__(
        self,
        name: str = "vit_large_patch14_dinov2",
        *,
        pool: str = "avg",
        patch: int | None = 12,
        drop_path: float = 0.0,
        weights: str | os.PathLike[str] | None = None,
        bands: str | Sequence[int] | None = None,
        resize: int | None = None,
        pixel_scale: float | None = None,
    ) -> None:
        super().__init__(
            name,
            pool=pool,
            patch=patch,
            drop_path=drop_path,
            weights=weights,
            bands=bands,
            resize=resize,
            pixel_scale=pixel_scale,
        )

    def architecture(self, bands: int, size: tuple[int, int], pixel_scale: float | None = None) -> nn.Module:
        """Make the network with random weights, whatever `weights` says.

        Parameters
        ----------
        bands : int
            Number of input channels.
        size : tuple of int
            Height and width of the images in pixels.
        pixel_scale : float, default=None
            Side of their pixels in arcseconds.

        Returns
        -------
        nn.Module

        Raises
        ------
        ValueError
            If a setting is unknown or invalid for the network, or that is no plain vision transformer.
        """
        self._check()
        if not is_vit(meta_network(self.name)):
            raise ValueError(f"AstroCLIPImageEncoder has a vision transformer; {self.name!r} is another network.")
        made: Any = super().architecture(bands, size, pixel_scale)
        return BarePatches(made.network, made.pool, stride=made.stride, zoom=made.zoom)


class BarePatches(TimmEncoder):
    """A vision transformer whose tokens are its patches, computed without class token and position embeddings.

    Parameters
    ----------
    network : nn.Module
        A ViT of timm, without classifier.
    pool : {"avg", "avgmax", "stages"}
        Pooling, as in `ImageEncoder`.
    stride : int
        Side of the patches.
    zoom : float, default=1.0
        Factor by which images are resized before that.
    """

    def tokens(self, images: Tensor) -> tuple[Tensor, None]:
        """Compute the patches after the last block.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            Normalized images.

        Returns
        -------
        tokens : Tensor of shape (n, t, width)
            Patches, row by row from the upper left.
        mask : None
            None, since all tokens are used.
        """
        network = self.network
        patches = network.patch_embed(self._framed(images)).flatten(1, -2)
        return network.norm(network.blocks(network.norm_pre(patches))), None
