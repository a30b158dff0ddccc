"""Image encoders: any timm network, any number of bands, stems for small cutouts."""

from difflib import get_close_matches
from typing import Any

import timm
import torch
from sklearn.base import BaseEstimator
from timm.models import get_pretrained_cfg
from torch import Tensor, nn
from torch.nn.functional import pad

__all__ = ["ImageEncoder", "get_encoder"]

STEMS = {"3x3": (3, False), "3x3-pool": (3, True), "7x7": (7, False)}
POOLS = ("avg", "avgmax", "stages")
INITS = ("auto", "kaiming", None)
STAGES = 4  # feature maps that "stages" pools
SMALLEST = 32  # strided stages need this many pixels a side; smaller images are padded


class ImageEncoder(BaseEstimator):
    """Specification of an image encoder: plain values that hash, search and pickle.

    Parameters
    ----------
    name : str, default="resnet10t"
        A timm model name. Weights are random: nothing is downloaded.
    stem : {"3x3", "3x3-pool", "7x7"}, default=None
        First layers of a ResNet for small cutouts: a convolution of that size with stride 1, without max-pool
        (``"3x3-pool"`` keeps it). None is the network's own, for timm's ResNets 7×7 with stride 2 and max-pool.
    pool : {"stages", "avgmax", "avg"}, default="stages"
        Mean and maximum over the feature maps of the last four stages (of a ViT, blocks), from fine to coarse; those
        of the last one alone; or the network's own pooling (the mean over the feature map, a ViT's class token).
    init : {"auto", "kaiming"} or None, default="auto"
        None is timm's initialisation, which starts each residual block of a ResNet as the identity.
        ``"kaiming"`` draws convolutions from He's normal distribution and starts all norms at 1, which helps an
        encoder that is trained briefly or not at all. ``"auto"`` is ``"kaiming"`` for ResNets, else None.

    References
    ----------
    Stems: Hayat et al. (2021), 7×7 with stride 1 and no max-pool; Slijepcevic et al. (2023), 3×3 (its code
    keeps the max-pool).

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders import ImageEncoder
    >>> encoder = ImageEncoder("test_resnet", stem="3x3").build(bands=5, size=(32, 32))
    >>> encoder(torch.zeros(2, 5, 32, 32)).shape
    torch.Size([2, 736])
    """

    def __init__(
        self,
        name: str = "resnet10t",
        stem: str | None = None,
        pool: str = "stages",
        init: str | None = "auto",
    ) -> None:
        self.name = name
        self.stem = stem
        self.pool = pool
        self.init = init

    def build(self, bands: int, size: tuple[int, int]) -> nn.Module:
        """Make the network with random weights from torch's global generator.

        Parameters
        ----------
        bands : int
            Number of input channels.
        size : tuple of int
            Height and width in pixels of what it will see.

        Returns
        -------
        nn.Module
            From (n, bands, height, width) to (n, d).

        Raises
        ------
        ValueError
            If a setting is unknown or the stem does not suit the network.
        """
        self._check()
        fixed = getattr(get_pretrained_cfg(self.name), "fixed_input_size", False)
        frame = padded_size(size, stride_of(self.name)) if fixed else None
        return TimmEncoder(self._network(bands, frame), self.pool, frame)

    def _check(self) -> None:
        if not timm.is_model(self.name):
            close = ", ".join(get_close_matches(self.name, timm.list_models(), n=3))
            raise ValueError(
                f"Unknown encoder {self.name!r}: timm has no such model{'; close: ' + close if close else ''}."
            )
        for key, choices in {"stem": (None, *STEMS), "pool": POOLS, "init": INITS}.items():
            if getattr(self, key) not in choices:
                raise ValueError(f"ImageEncoder's {key} must be one of {choices}; got {getattr(self, key)!r}.")

    def _network(self, bands: int, frame: tuple[int, int] | None) -> nn.Module:
        frame_kwargs: dict[str, Any] = {"img_size": frame} if frame else {}
        network = timm.create_model(self.name, pretrained=False, in_chans=bands, num_classes=0, **frame_kwargs)
        if self.stem is not None:
            replace_stem(network, self.name, bands, *STEMS[self.stem])
        if self.init == "kaiming" or (self.init == "auto" and is_resnet(network)):
            network.apply(kaiming)
        return network


def get_encoder(encoder: "str | ImageEncoder | nn.Module") -> "ImageEncoder | nn.Module":
    """Turn a timm name into its specification; anything else passes through.

    Parameters
    ----------
    encoder : str, ImageEncoder or nn.Module
        What the user gave.

    Returns
    -------
    ImageEncoder or nn.Module

    Examples
    --------
    >>> from skastro.encoders import get_encoder
    >>> get_encoder("resnet10t")
    ImageEncoder()
    """
    return ImageEncoder(encoder) if isinstance(encoder, str) else encoder


class TimmEncoder(nn.Module):
    """A timm network that pads what is too small for it and gives one row per image.

    Parameters
    ----------
    network : nn.Module
        A timm model without classifier.
    pool : {"avg", "avgmax", "stages"}
        Pooling.
    frame : tuple of int or None
        Height and width that images are padded to, for a network of fixed size.
    """

    def __init__(self, network: Any, pool: str, frame: tuple[int, int] | None) -> None:
        super().__init__()
        self.network = network
        self.pool = pool
        self.frame = frame

    def forward(self, images: Tensor) -> Tensor:
        """Embed images.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            Normalised images.

        Returns
        -------
        Tensor of shape (n, d)
        """
        images = self._padded(images)
        if self.pool == "avg":
            return self.network(images)
        maps = self._stages(images) if self.pool == "stages" else [self._last(images)]
        return torch.cat([pooled for places in maps for pooled in (places.mean(dim=2), places.amax(dim=2))], dim=1)

    def _stages(self, images: Tensor) -> list[Tensor]:
        maps = self.network.forward_intermediates(images, indices=STAGES, intermediates_only=True)
        return [features.flatten(2) for features in maps]

    def _last(self, images: Tensor) -> Tensor:
        features = self.network.forward_features(images)
        if features.ndim == 3:
            return features[:, getattr(self.network, "num_prefix_tokens", 0) :].transpose(1, 2)
        last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        return features.flatten(1, 2).transpose(1, 2) if last else features.flatten(2)

    def _padded(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        rows, columns = self.frame or (max(height, SMALLEST), max(width, SMALLEST))
        if (rows, columns) == (height, width):
            return images
        top, left = (rows - height) // 2, (columns - width) // 2
        return pad(images, (left, columns - width - left, top, rows - height - top))


def stride_of(name: str) -> int:
    """Look up how many pixels a side one cell of a network's last feature map covers.

    Parameters
    ----------
    name : str
        A timm model name.

    Returns
    -------
    int

    Examples
    --------
    >>> from skastro.encoders.images import stride_of
    >>> stride_of("vit_small_patch14_dinov2"), stride_of("test_resnet")
    (14, 32)
    """
    with torch.device("meta"):
        network: Any = timm.create_model(name, pretrained=False, num_classes=0)
        return network.feature_info[-1]["reduction"]


def padded_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Round a size up to whole cells of the feature map.

    Parameters
    ----------
    size : tuple of int
        Height and width in pixels.
    stride : int
        Side of a cell in pixels.

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> from skastro.encoders.images import padded_size
    >>> padded_size((64, 70), 16)
    (64, 80)
    """
    return (-(-size[0] // stride) * stride, -(-size[1] // stride) * stride)


def replace_stem(network: Any, name: str, bands: int, kernel: int, pool: bool) -> None:
    """Give a ResNet a first convolution of stride 1, in place.

    Parameters
    ----------
    network : nn.Module
        A timm ResNet.
    name : str
        Its name, for the error.
    bands : int
        Input channels.
    kernel : int
        Side of the convolution.
    pool : bool
        Keep the max-pool.

    Raises
    ------
    ValueError
        If the network is not built like a ResNet.
    """
    if not is_resnet(network):
        raise ValueError(f"stem= is for ResNets; {name!r} has a first layer of another kind: leave stem=None.")
    width = network.bn1.num_features
    network.conv1 = nn.Conv2d(bands, width, kernel, padding=kernel // 2, bias=False)
    kaiming(network.conv1)
    if not pool:
        network.maxpool = nn.Identity()


def is_resnet(network: nn.Module) -> bool:
    """Tell whether a timm network is built like a ResNet.

    Parameters
    ----------
    network : nn.Module
        A timm network.

    Returns
    -------
    bool
    """
    return all(hasattr(network, part) for part in ("conv1", "bn1", "maxpool"))


def kaiming(module: nn.Module) -> None:
    """Initialise one layer: He's normal distribution for convolutions, one and zero for norms.

    Parameters
    ----------
    module : nn.Module
        Any layer; other kinds are left alone.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
