"""Image encoders: timm networks for any number of bands, with stems for small cutouts, random or published weights."""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, ClassVar

import timm
import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from timm.layers import DropPath, PatchEmbed
from timm.models import get_pretrained_cfg
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from skastro.weights import find_layout, load_into, read_weights

__all__ = ["ImageEncoder", "get_encoder"]

STEMS = {"3x3": (3, False), "3x3-pool": (3, True), "7x7": (7, False)}
POOLS = ("avg", "avgmax", "stages")
STAGES = 4  # number of feature maps that "stages" pools
SMALLEST = 32  # strided stages need this many pixels per side; smaller images are padded


class ImageEncoder(BaseEstimator):
    """Specification of an image encoder: plain parameters that can be hashed, searched and pickled.

    Parameters
    ----------
    name : str, default="resnet10t"
        A timm model name. With ``weights="timm"`` a tag chooses among the sets of weights, as in
        ``"resnet50.a1_in1k"``.
    stem : {"3x3", "3x3-pool", "7x7"}, default=None
        First layers of a ResNet for small cutouts: a convolution of that size with stride 1, without max-pool
        (``"3x3-pool"`` keeps it). None is the network's own stem; for timm's ResNets, 7×7 with stride 2 and max-pool.
    pool : {"stages", "avgmax", "avg"}, default="stages"
        ``"stages"`` takes mean and maximum over the feature maps of the last four stages (of a ViT, blocks), from fine
        to coarse; ``"avgmax"`` those of the last stage alone; ``"avg"`` is the network's own pooling (the mean over the
        feature map, or a ViT's class token).
    init : {"auto", "kaiming"} or None, default="auto"
        None is timm's initialization, which starts each residual block of a ResNet as the identity. ``"kaiming"`` draws
        convolutions from He's normal distribution and starts all norms at 1, which helps an encoder that is trained
        briefly or not at all. ``"auto"`` is ``"kaiming"`` for ResNets, and None otherwise.
    patch : int, default=None
        Side in pixels of the patches of a ViT. None is the network's own, 16 for ``"vit_tiny_patch16_224"``. Smaller
        patches resolve more detail and cost more.
    drop_path : float, default=0.0
        Stochastic depth: probability with which an image skips the last residual block in training; it rises linearly
        from 0 in the first block. For ViTs, ResNets and most other networks with residual blocks. DINO's teacher skips
        no blocks.
    weights : str, path-like or None, default=None
        What the weights are before any training. None draws them; a file (``.safetensors``, or torch's ``.pt``,
        ``.pth``, ``.ckpt``) or a folder with ``model.safetensors`` is read; ``"timm"`` means those that timm has for
        `name`, and ``"hf-hub:owner/name"`` or ``"hf-hub:owner/name/file.ckpt"`` those of a repository. Only the last
        two download, once. A fitted estimator holds its numbers: neither a pickle nor a saved model asks for them
        again.
    layout : str, default=None
        How the file is laid out, one of `skastro.weights.LAYOUTS`; None finds it by the names of the tensors.
    bands : {"repeat", "mean"}, sequence of int or None, default=None
        How weights for other bands are adapted: bands take turns at the channels of the network (``"repeat"``), each
        channel sees the mean of the bands, or the band that the sequence names for it. None refuses other bands.
    resize : int, default=None
        Pixels per side to which the window is scaled, bilinearly and antialiased, before the network sees it.
    pixel_scale : float, default=None
        Side in arcseconds of the pixels that the network knows: images of a ``survey=`` with another scale are resized
        to it. In place of `resize`.

    Notes
    -----
    A network of fixed input size is built for the size of the images, padded to whole patches. A ViT then also accepts
    other sizes, each padded so, and interpolates its position embeddings; given weights are interpolated to the size
    and the patches in use.

    Weights are loaded whole: a tensor that is missing, unknown or of another shape is refused by name. The heads of a
    published checkpoint, its momentum network and its optimizer are left; the provenance of the fitted embedder says
    how many tensors that were.

    References
    ----------
    Stems: Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, 7×7 with stride 1 and no
    max-pool; Slijepcevic et al. (2023), `arXiv:2305.16127 <https://arxiv.org/abs/2305.16127>`_, 3×3 (its code keeps the
    max-pool). Patches: Parker et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, 12 pixels.
    Stochastic depth: Huang et al. (2016), "Deep Networks with Stochastic Depth", `arXiv:1603.09382
    <https://arxiv.org/abs/1603.09382>`_.

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders import ImageEncoder
    >>> encoder = ImageEncoder("test_resnet", stem="3x3").build(bands=5, size=(32, 32))
    >>> encoder(torch.zeros(2, 5, 32, 32)).shape
    torch.Size([2, 736])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "name": [str],
        "stem": [StrOptions(set(STEMS)), None],
        "pool": [StrOptions(set(POOLS))],
        "init": [StrOptions({"auto", "kaiming"}), None],
        "patch": [Interval(Integral, 1, None, closed="left"), None],
        "drop_path": [Interval(Real, 0, 1, closed="left")],
        "weights": [str, os.PathLike, None],
        "layout": [str, None],
        "bands": [StrOptions({"repeat", "mean"}), list, tuple, None],
        "resize": [Interval(Integral, 1, None, closed="left"), None],
        "pixel_scale": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        name: str = "resnet10t",
        *,
        stem: str | None = None,
        pool: str = "stages",
        init: str | None = "auto",
        patch: int | None = None,
        drop_path: float = 0.0,
        weights: str | os.PathLike[str] | None = None,
        layout: str | None = None,
        bands: str | Sequence[int] | None = None,
        resize: int | None = None,
        pixel_scale: float | None = None,
    ) -> None:
        self.name = name
        self.stem = stem
        self.pool = pool
        self.init = init
        self.patch = patch
        self.drop_path = drop_path
        self.weights = weights
        self.layout = layout
        self.bands = bands
        self.resize = resize
        self.pixel_scale = pixel_scale

    def build(self, bands: int, size: tuple[int, int], pixel_scale: float | None = None) -> nn.Module:
        """Build the network, with the weights given, or random ones from torch's global generator.

        Parameters
        ----------
        bands : int
            Number of input channels.
        size : tuple of int
            Height and width of the images in pixels.
        pixel_scale : float, default=None
            Side of their pixels in arcseconds, if the network is for a certain one.

        Returns
        -------
        nn.Module
            Network from (n, bands, height, width) to (n, d).

        Raises
        ------
        ValueError
            If a setting is unknown, stem, patch or drop_path is invalid for the network, or weights are not its own.
        FileNotFoundError, ConnectionError
            If weights are not where they should be.
        """
        encoder = self.architecture(bands, size, pixel_scale)
        self.load(encoder)
        return encoder

    def load(self, encoder: nn.Module) -> dict[str, Any] | None:
        """Load the weights given into a network of this architecture, in place.

        Parameters
        ----------
        encoder : TimmEncoder
            Made by `architecture`.

        Returns
        -------
        dict or None
            For the provenance: ``source``, ``layout``, how many tensors of the file are ``left``, and ``citation`` and
            ``license`` where they are known; None without weights.

        Raises
        ------
        ValueError, FileNotFoundError, ConnectionError
            As in `build`.
        """
        if self.weights is None:
            return None
        weights = read_weights(self.weights, self.name)
        named = weights.config.get("architecture") or weights.config.get("architecture_name") or self.name
        if named.partition(".")[0] != self.name.partition(".")[0]:
            raise ValueError(f"{weights.source} is for {named!r}, this encoder is {self.name!r}.")
        layout = find_layout(weights, self.layout)
        network: Any = encoder.network
        taken = load_into(network, layout.select(weights.tensors), weights.source, self.bands)
        return layout.facts(weights, taken)

    def architecture(self, bands: int, size: tuple[int, int], pixel_scale: float | None = None) -> nn.Module:
        """Make the network with random weights, whatever `weights` says.

        Parameters
        ----------
        bands : int
            As in `build`.
        size : tuple of int
            As in `build`.
        pixel_scale : float, default=None
            As in `build`.

        Returns
        -------
        nn.Module

        Raises
        ------
        ValueError
            If a setting is unknown, or stem, patch or drop_path is invalid for the network.
        """
        self._check()
        zoom = self._zoom(size, pixel_scale)
        if self.drop_path and not has_drop_path(self.name):
            raise ValueError(f"drop_path= skips residual blocks; {self.name!r} has none to skip: leave drop_path=0.")
        sketch = meta_network(self.name) if getattr(get_pretrained_cfg(self.name), "fixed_input_size", False) else None
        if self.patch is not None and not is_vit(sketch):
            raise ValueError(f"patch= is for ViTs; {self.name!r} is a network of another kind: leave patch=None.")
        if sketch is None:
            return TimmEncoder(self._network(bands), self.pool, zoom=zoom)
        stride = self.patch or sketch.feature_info[-1]["reduction"]
        frame = padded_size(zoomed(size, zoom), stride)
        if not is_vit(sketch):
            return TimmEncoder(self._network(bands, img_size=frame), self.pool, frame=frame, zoom=zoom)
        patches = {} if self.patch is None else {"patch_size": int(self.patch)}
        network = self._network(bands, img_size=frame, dynamic_img_size=True, **patches)
        return TimmEncoder(network, self.pool, stride=stride, zoom=zoom)

    def _zoom(self, size: tuple[int, int], pixel_scale: float | None) -> float:
        """Find the factor by which images are resized."""
        if self.resize is not None:
            return self.resize / min(size)
        if self.pixel_scale is None:
            return 1.0
        if pixel_scale is None:
            raise ValueError(
                f"ImageEncoder(pixel_scale={self.pixel_scale}) resizes images from the pixels of their survey: give "
                "the embedder a survey= that has a pixel scale, or the encoder resize= in place of it."
            )
        return pixel_scale / self.pixel_scale

    def _check(self) -> None:
        self._validate_params()
        if not timm.is_model(self.name):
            close = ", ".join(get_close_matches(self.name, timm.list_models(), n=3))
            raise ValueError(
                f"Unknown encoder {self.name!r}: timm has no such model{'; close: ' + close if close else ''}."
            )
        if self.weights is None and (self.layout is not None or self.bands is not None):
            raise ValueError("ImageEncoder's layout and bands say how to read weights: give weights= too.")
        if isinstance(self.bands, tuple | list) and not all(isinstance(band, Integral) for band in self.bands):
            raise ValueError(f"ImageEncoder's bands must be the number of a band for each channel; got {self.bands!r}.")
        if self.resize is not None and self.pixel_scale is not None:
            raise ValueError("ImageEncoder takes resize or pixel_scale, not both.")

    def _network(self, bands: int, **kwargs: Any) -> nn.Module:
        kwargs |= {"drop_path_rate": self.drop_path} if self.drop_path else {}
        network = timm.create_model(self.name, pretrained=False, in_chans=bands, num_classes=0, **kwargs)
        if self.stem is not None:
            replace_stem(network, self.name, bands, *STEMS[self.stem])
        if self.init == "kaiming" or (self.init == "auto" and is_resnet(network)):
            network.apply(kaiming)
        return network


def get_encoder(encoder: "str | ImageEncoder | nn.Module") -> "ImageEncoder | nn.Module":
    """Turn a timm name into a specification; return everything else unchanged.

    Parameters
    ----------
    encoder : str, ImageEncoder or nn.Module
        Name, specification or network.

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
    """A timm network that pads images that are too small for it and returns one row per image.

    Parameters
    ----------
    network : nn.Module
        A timm model without classifier.
    pool : {"avg", "avgmax", "stages"}
        Pooling, as in `ImageEncoder`.
    frame : tuple of int, default=None
        Height and width to pad images to, for a network of fixed size.
    stride : int, default=None
        Side of the patches, for a ViT; images are padded to whole patches.
    zoom : float, default=1.0
        Factor by which images are resized before that.
    """

    def __init__(
        self,
        network: Any,
        pool: str,
        frame: tuple[int, int] | None = None,
        stride: int | None = None,
        zoom: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.pool = pool
        self.frame = frame
        self.stride = stride
        self.zoom = zoom

    def forward(self, images: Tensor) -> Tensor:
        """Embed images.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            Normalized images.

        Returns
        -------
        Tensor of shape (n, d)
        """
        images = self._framed(images)
        if self.pool == "avg":
            return self.network(images)
        maps = self._stages(images) if self.pool == "stages" else [self._last(images)]
        return torch.cat([pooled for places in maps for pooled in (places.mean(dim=2), places.amax(dim=2))], dim=1)

    def tokens(self, images: Tensor) -> tuple[Tensor, None]:
        """Compute the features of the last layer at each place.

        Parameters
        ----------
        images : Tensor of shape (n, bands, height, width)
            Normalized images.

        Returns
        -------
        tokens : Tensor of shape (n, t, width)
            A ViT's class token and patches, or the places of the last feature map, row by row from the upper left.
        mask : None
            None, since all tokens are used.
        """
        return self._tokens(self._framed(images)), None

    def _stages(self, images: Tensor) -> list[Tensor]:
        maps = self.network.forward_intermediates(images, indices=STAGES, intermediates_only=True)
        return [features.flatten(2) for features in maps]

    def _tokens(self, images: Tensor) -> Tensor:
        features = self.network.forward_features(images)
        if features.ndim == 3:
            return features
        last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        return features.flatten(1, 2) if last else features.flatten(2).transpose(1, 2)

    def _last(self, images: Tensor) -> Tensor:
        return self._tokens(images)[:, getattr(self.network, "num_prefix_tokens", 0) :].transpose(1, 2)

    def _framed(self, images: Tensor) -> Tensor:
        """Resize images, and pad those that are too small."""
        height, width = zoomed(images.shape[-2:], self.zoom)
        if (height, width) != tuple(images.shape[-2:]):
            images = interpolate(images, (height, width), mode="bilinear", antialias=True)
        rows, columns = self._frame(height, width)
        if (rows, columns) == (height, width):
            return images
        top, left = (rows - height) // 2, (columns - width) // 2
        return pad(images, (left, columns - width - left, top, rows - height - top))

    def _frame(self, height: int, width: int) -> tuple[int, int]:
        if self.stride is not None:
            return padded_size((height, width), self.stride)
        return self.frame or (max(height, SMALLEST), max(width, SMALLEST))


def meta_network(name: str) -> Any:
    """Build a timm network without weights, for inspection.

    Parameters
    ----------
    name : str
        A timm model name.

    Returns
    -------
    nn.Module
        Network on torch's meta device; its ``feature_info`` states how many pixels per side one cell of a feature map
        covers.

    Examples
    --------
    >>> from skastro.encoders.images import meta_network
    >>> [meta_network(name).feature_info[-1]["reduction"] for name in ("vit_small_patch14_dinov2", "test_resnet")]
    [14, 32]
    """
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False, num_classes=0)


def has_drop_path(name: str) -> bool:
    """Return whether a timm network can skip residual blocks in training.

    Parameters
    ----------
    name : str
        A timm model name.

    Returns
    -------
    bool

    Examples
    --------
    >>> from skastro.encoders.images import has_drop_path
    >>> [has_drop_path(name) for name in ("test_vit", "resnet18", "vgg11")]
    [True, True, False]
    """
    with torch.device("meta"):
        try:
            network = timm.create_model(name, pretrained=False, drop_path_rate=0.5)
        except TypeError:  # its constructor has no such parameter
            return False
    return any(isinstance(module, DropPath) for module in network.modules())


def zoomed(size: Sequence[int], zoom: float) -> tuple[int, int]:
    """Scale a size, to whole pixels.

    Parameters
    ----------
    size : sequence of int
        Height and width in pixels.
    zoom : float
        Factor.

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> from skastro.encoders.images import zoomed
    >>> zoomed((64, 48), 1.5)
    (96, 72)
    """
    return max(1, round(size[0] * zoom)), max(1, round(size[1] * zoom))


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
    """Replace the first convolution of a ResNet by one of stride 1, in place.

    Parameters
    ----------
    network : nn.Module
        A timm ResNet.
    name : str
        Name of the network, for the error.
    bands : int
        Number of input channels.
    kernel : int
        Side of the convolution.
    pool : bool
        If True, keep the max-pool.

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
    """Return whether a timm network is built like a ResNet.

    Parameters
    ----------
    network : nn.Module
        A timm network.

    Returns
    -------
    bool
    """
    return all(hasattr(network, part) for part in ("conv1", "bn1", "maxpool"))


def is_vit(network: nn.Module | None) -> bool:
    """Return whether a network is a plain vision transformer of timm, with one output token per patch.

    Parameters
    ----------
    network : nn.Module or None
        Network to check.

    Returns
    -------
    bool
    """
    return isinstance(network, VisionTransformer | Eva) and isinstance(network.patch_embed, PatchEmbed)


def kaiming(module: nn.Module) -> None:
    """Initialize one layer: He's normal distribution for convolutions, one and zero for norms.

    Parameters
    ----------
    module : nn.Module
        Layer of any kind; kinds other than convolutions and norms do not change.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
