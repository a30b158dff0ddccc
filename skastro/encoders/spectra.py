"""Spectrum encoders: a transformer over overlapping pieces of a spectrum."""

import math
from abc import ABC, abstractmethod
from numbers import Integral
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import fold, pad

from skastro.encoders.lines import ConvAttention

__all__ = [
    "ConvSpectrumEncoder",
    "SpectrumEncoder",
    "SpectrumSpecification",
    "SpectrumTransformer",
    "get_spectrum_encoder",
]

AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")
POOLS = ("avgmax", "avg", "regions")
REGIONS = 32  # into which "regions" divides a spectrum


class SpectrumSpecification(BaseEstimator, ABC):
    """Base of specifications of spectrum encoders, with the hook `architecture`.

    Attributes
    ----------
    standardizes : bool
        Whether the network takes flux as it is, and standardizes it itself.
    """

    standardizes: ClassVar[bool] = False

    def build(self, n_wavelengths: int) -> Any:
        """Build the network, with the weights given, or random ones from torch's global generator.

        Parameters
        ----------
        n_wavelengths : int
            Number of pixels of the spectra.

        Returns
        -------
        nn.Module

        Raises
        ------
        ValueError
            If a setting is invalid, the number of pixels does not suit, or weights are not the network's own.
        FileNotFoundError, ConnectionError
            If weights are not where they should be.
        """
        network = self.architecture(n_wavelengths)
        self.load(network)
        return network

    @abstractmethod
    def architecture(self, n_wavelengths: int) -> nn.Module:
        """Make the network with random weights.

        Parameters
        ----------
        n_wavelengths : int
            Number of pixels of the spectra.

        Returns
        -------
        nn.Module

        Raises
        ------
        ValueError
            If a setting is invalid, or the number of pixels does not suit.
        """

    def load(self, network: nn.Module) -> dict[str, Any] | None:
        """Load the weights given, if any, into a network of this architecture, in place.

        Parameters
        ----------
        network : nn.Module
            Made by `architecture`.

        Returns
        -------
        dict or None
            For the provenance; None without weights.
        """
        return None

    def check(self) -> None:
        """Raise an error if a setting is invalid.

        Raises
        ------
        ValueError
            If a setting is invalid; the error names it.
        """
        self._validate_params()


class SpectrumEncoder(SpectrumSpecification):
    r"""Specification of a spectrum encoder: plain parameters that can be hashed, searched and pickled.

    A spectrum of :math:`T` pixels is cut into :math:`\lfloor (T - B) / A \rfloor + 1` tokens of length :math:`B`, one
    every :math:`A` pixels; up to :math:`A - 1` pixels at its end belong to no token. One more token, in front, holds
    the spectrum's mean and scale.

    Parameters
    ----------
    depth : int, default=4
        Number of transformer blocks.
    width : int, default=128
        Number of features of a token.
    heads : int, default=4
        Number of attention heads; it must divide the width.
    token : int, default=20
        Length :math:`B` of a token in pixels; a shorter spectrum is padded to this length.
    stride : int, default=10
        Number of pixels :math:`A` from one token to the next.
    pool : {"avgmax", "avg", "regions"}, default="avgmax"
        Pooling: mean and maximum over tokens, with twice `width` features, or the mean alone; both ignore tokens
        without a present pixel. ``"regions"`` keeps where in the spectrum something is: side by side the token in front
        and the means of up to 32 stretches of tokens, with 33 times `width` features. Missing pixels count as what the
        network makes of them from the rest. For spectra at rest, whose lines stay in their places.

    References
    ----------
    Parker et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, section 3.2 and appendix B2: depth 6,
    width 768, 6 heads. The number of tokens in the paper differs from that of the code, which is the one above.

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders import SpectrumEncoder
    >>> SpectrumEncoder().n_tokens(7781)
    777
    >>> encoder = SpectrumEncoder(depth=1, width=16).build(100)
    >>> spectra = torch.zeros(2, 100), torch.ones(2, 100, dtype=torch.bool), torch.zeros(2, 2)
    >>> tokens, mask = encoder.tokens(*spectra)
    >>> encoder(*spectra).shape, tokens.shape
    (torch.Size([2, 32]), torch.Size([2, 10, 16]))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{name: [AT_LEAST_ONE] for name in ("depth", "width", "heads", "token", "stride")},
        "pool": [StrOptions(set(POOLS))],
    }

    def __init__(
        self,
        *,
        depth: int = 4,
        width: int = 128,
        heads: int = 4,
        token: int = 20,
        stride: int = 10,
        pool: str = "avgmax",
    ) -> None:
        self.depth = depth
        self.width = width
        self.heads = heads
        self.token = token
        self.stride = stride
        self.pool = pool

    def n_tokens(self, n_wavelengths: int) -> int:
        """Return the number of tokens of a spectrum, without the one in front.

        Parameters
        ----------
        n_wavelengths : int
            Number of pixels of the spectrum.

        Returns
        -------
        int
        """
        return max(0, n_wavelengths - self.token) // self.stride + 1

    def architecture(self, n_wavelengths: int) -> "SpectrumTransformer":  # noqa: D102
        self.check()
        return SpectrumTransformer(
            self.n_tokens(n_wavelengths), self.depth, self.width, self.heads, self.token, self.stride, self.pool
        )

    def check(self) -> None:  # noqa: D102
        super().check()
        if self.width % self.heads or self.width % 2:
            raise ValueError(
                f"SpectrumEncoder has width={self.width}, which must be even and divisible by heads={self.heads}."
            )
        if self.stride > self.token:
            raise ValueError(
                f"SpectrumEncoder has stride={self.stride} above token={self.token}: it would lose pixels."
            )


class ConvSpectrumEncoder(SpectrumSpecification):
    """Specification of AstroCLIP's supervised network for spectra, by name ``"conv-attention"``.

    See `skastro.encoders.ConvAttention`. Its four channels are the flux, the mask of present pixels, and the two
    numbers of the level.

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders import ConvSpectrumEncoder
    >>> encoder = ConvSpectrumEncoder().build(1000)
    >>> encoder(torch.zeros(2, 1000), torch.ones(2, 1000, dtype=torch.bool), torch.zeros(2, 2)).shape
    torch.Size([2, 32])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    def architecture(self, n_wavelengths: int) -> nn.Module:  # noqa: D102
        return ConvAttention(channels=4)


def get_spectrum_encoder(encoder: Any) -> Any:
    """Turn None and names into specifications; return everything else unchanged.

    Parameters
    ----------
    encoder : SpectrumEncoder, ConvSpectrumEncoder, "conv-attention" or None
        Specification, name or None.

    Returns
    -------
    SpectrumEncoder or ConvSpectrumEncoder

    Raises
    ------
    ValueError
        If it is another name.

    Examples
    --------
    >>> from skastro.encoders import get_spectrum_encoder
    >>> get_spectrum_encoder(None), get_spectrum_encoder("conv-attention")
    (SpectrumEncoder(), ConvSpectrumEncoder())
    """
    if isinstance(encoder, str) and encoder != "conv-attention":
        raise ValueError(f"Unknown encoder of spectra {encoder!r}: give 'conv-attention' or a SpectrumEncoder.")
    if encoder is None:
        return SpectrumEncoder()
    return ConvSpectrumEncoder() if isinstance(encoder, str) else encoder


class SpectrumTransformer(nn.Module):
    r"""Transformer over the tokens of a standardized spectrum and of its mask of present pixels.

    Parameters
    ----------
    n_tokens : int
        Number of tokens of a spectrum, without the one in front.
    depth, width, heads : int
        Number of blocks, of features, and of attention heads.
    token, stride : int
        Length of a token and distance to the next, in pixels.
    pool : {"avgmax", "avg", "regions"}
        Pooling, as in `SpectrumEncoder`.

    Notes
    -----
    The blocks' weights are drawn from :math:`N(0, 1/(2 f d))` with :math:`f` the fan-in and :math:`d` the depth, as in
    Parker et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, footnote 6. Position embeddings start
    as sines and cosines and are then learned.
    """

    def __init__(self, n_tokens: int, depth: int, width: int, heads: int, token: int, stride: int, pool: str) -> None:
        super().__init__()
        self.n_tokens = n_tokens
        self.token = token
        self.stride = stride
        self.embed = nn.Linear(2 * token, width)
        self.level = nn.Linear(2, width)
        self.positions = nn.Parameter(sinusoidal_positions(n_tokens + 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.pool = RegionPool(REGIONS) if pool == "regions" else MaskedPool(maximum=pool == "avgmax")
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=(2 * module.in_features * depth) ** -0.5)
                nn.init.zeros_(module.bias)

    def forward(self, flux: Tensor, seen: Tensor, level: Tensor) -> Tensor:
        """Embed spectra.

        Parameters
        ----------
        flux : Tensor of shape (n, n_wavelengths)
            Standardized flux, zero in missing pixels.
        seen : Tensor of bool, shape (n, n_wavelengths)
            False where a pixel is missing or masked.
        level : Tensor of shape (n, 2)
            Numbers that represent each spectrum's mean and scale.

        Returns
        -------
        Tensor of shape (n, 2 * width), (n, width) or (n, (1 + n_regions) * width)
            Features pooled over the token in front and the tokens with a present pixel, or over regions.
        """
        return self.pool(*self.tokens(flux, seen, level))

    def tokens(self, flux: Tensor, seen: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the tokens of spectra, with the token of mean and scale in front.

        Parameters
        ----------
        flux, seen, level : Tensor
            As in `forward`.

        Returns
        -------
        tokens : Tensor of shape (n, 1 + n_tokens, width)
        mask : Tensor of bool of shape (n, 1 + n_tokens)
            False where all pixels of a token are missing.
        """
        here = self.split(seen.to(flux.dtype))
        tokens = self.embed(torch.cat([self.split(flux), here], dim=2))
        tokens = torch.cat([self.level(level)[:, None], tokens], dim=1) + self.positions
        return self.norm(self.blocks(tokens)), pad(here.amax(dim=2) > 0, (1, 0), value=True)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Group the parameters into a stem and the blocks, in timm's form.

        Parameters
        ----------
        coarse : bool, default=False
            Part of timm's interface, without effect.

        Returns
        -------
        dict
        """
        return {"stem": r"^embed|^level|^positions", "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99_999,))]}

    def split(self, pixels: Tensor) -> Tensor:
        """Cut rows of pixels into tokens.

        Parameters
        ----------
        pixels : Tensor of shape (n, n_wavelengths)
            One value per pixel; rows shorter than a token are padded with zeros.

        Returns
        -------
        Tensor of shape (n, n_tokens, token)
        """
        return pad(pixels, (0, max(0, self.token - pixels.shape[1]))).unfold(1, self.token, self.stride)

    def join(self, tokens: Tensor) -> Tensor:
        """Join tokens to rows of pixels, with the mean where they overlap.

        Parameters
        ----------
        tokens : Tensor of shape (n, n_tokens, token)
            One value per pixel.

        Returns
        -------
        Tensor of shape (n, (n_tokens - 1) * stride + token)
        """
        both = torch.stack([tokens, torch.ones_like(tokens)]).flatten(0, 1).transpose(1, 2)
        width = (self.n_tokens - 1) * self.stride + self.token
        total, count = fold(both, (1, width), (1, self.token), stride=(1, self.stride))[:, 0, 0].chunk(2)
        return total / count


class MaskedPool(nn.Module):
    """Pool tokens by their mean and optionally their maximum, ignoring masked tokens.

    Parameters
    ----------
    maximum : bool
        If True, append the maximum to the mean.
    """

    def __init__(self, maximum: bool) -> None:
        super().__init__()
        self.maximum = maximum

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Pool tokens.

        Parameters
        ----------
        tokens : Tensor of shape (n, t, width)
            Tokens of n objects.
        mask : Tensor of bool of shape (n, t)
            False where a token is ignored; every object needs at least one token.

        Returns
        -------
        Tensor of shape (n, 2 * width) or (n, width)
        """
        weights = mask.to(torch.float32)[:, :, None]
        mean = (weights * tokens).sum(dim=1) / weights.sum(dim=1)
        if not self.maximum:
            return mean
        return torch.cat([mean, tokens.masked_fill(weights == 0, -torch.inf).amax(dim=1)], dim=1)


class RegionPool(nn.Module):
    """Pool the tokens of each stretch of a spectrum by their mean, and keep the stretches apart.

    Parameters
    ----------
    n_regions : int
        Number of stretches, of about as many tokens each; at most one per token.
    """

    def __init__(self, n_regions: int) -> None:
        super().__init__()
        self.n_regions = n_regions

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Pool tokens.

        Parameters
        ----------
        tokens : Tensor of shape (n, 1 + t, width)
            Tokens of n spectra, with the token in front.
        mask : Tensor of bool of shape (n, 1 + t)
            Without effect: a token of missing pixels holds what the others tell of them.

        Returns
        -------
        Tensor of shape (n, (1 + n_regions) * width)
        """
        first, rest = tokens.split([1, tokens.shape[1] - 1], dim=1)
        stretches = rest.tensor_split(min(self.n_regions, rest.shape[1]), dim=1)
        return torch.cat([part.mean(dim=1) for part in (first, *stretches)], dim=1)


def sinusoidal_positions(n: int, width: int) -> Tensor:
    """Compute sines and cosines of positions, from one cycle in six places to one in 60,000.

    Parameters
    ----------
    n : int
        Number of positions.
    width : int
        Number of features; half of them sines, half cosines.

    Returns
    -------
    Tensor of shape (n, width)

    References
    ----------
    Vaswani et al. (2017), `arXiv:1706.03762 <https://arxiv.org/abs/1706.03762>`_, section 3.5.
    """
    rates = torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    angles = torch.arange(n)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
