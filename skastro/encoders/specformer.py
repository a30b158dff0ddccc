"""SpecFormer: AstroCLIP's transformer over spectra as it was published, with its own preprocessing and its weights."""

import os
from numbers import Integral
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from skastro.encoders.spectra import SpectrumSpecification
from skastro.weights import Layout, check_alike, find_layout, read_weights

__all__ = ["FLOOR", "SpecFormer", "SpecFormerNetwork"]

AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")
TOKEN, STRIDE = 20, 10  # pixels of a token, and from one to the next
FLOOR = 0.2  # smallest scale that a spectrum is divided by, in 1e-17 erg/s/cm²/Å
CITATION = "Parker et al. (2024), arXiv:2310.03024"

# github PolymathicAI/AstroCLIP: the two checkpoints that hold one; `head` fills in what is hidden of a spectrum.
SPECTRUM = r"(state_dict/)?spectrum_encoder\.backbone\."
LAYOUTS = {
    "astroclip": Layout("astroclip", SPECTRUM, SPECTRUM, r"head\.", citation=CITATION, license="MIT"),
    "specformer": Layout(
        "specformer", r"(state_dict/)?data_embed\.", r"(state_dict/)?", r"head\.", citation=CITATION, license="MIT"
    ),
}


class SpecFormer(SpectrumSpecification):
    r"""Specification of SpecFormer, the spectrum encoder of Parker et al. (2024), exactly as they published it.

    It takes flux as it is, in 1e-17 erg/s/cm²/Å, and standardizes it itself. Its published weights know the spectra of
    DESI: 7,781 pixels, one every 0.8 Å from 3600 to 9824 Å, not shifted to rest. Features are the mean over all tokens.

    Parameters
    ----------
    width : int, default=768
        Number of features of a token.
    depth : int, default=6
        Number of transformer blocks.
    heads : int, default=6
        Number of attention heads; it must divide the width.
    max_tokens : int, default=800
        Number of positions, the longest spectrum in tokens.
    weights : str, path-like or None, default=None
        File ``specformer.ckpt`` or ``astroclip.ckpt``, or ``"hf-hub:owner/name/specformer.ckpt"``, which downloads,
        once. None draws the weights. A fitted estimator holds its numbers: neither a pickle nor a saved model asks for
        them again.

    See Also
    --------
    SpectrumEncoder : The like of it, which knows missing pixels and takes flux in any unit.

    Notes
    -----
    With mean :math:`\mu` and standard deviation :math:`\sigma` (of :math:`n - 1`, and at least 0.2) of a spectrum,
    windows of 20 pixels start every 10 pixels of :math:`(f - \mu) / \sigma`. The last one is left out, whole or not, as
    the original does by mistake, so that up to 20 pixels at the end are not seen. Each window has two zeros in front,
    and before all comes the token :math:`((\mu - 2) / 2, (\sigma - 2) / 8, 0, \ldots)`.

    The original knows no missing pixels. Here they are filled before all else by straight lines between the pixels
    that are present, and at the ends by the nearest of these. ``ivar`` has no other effect.

    References
    ----------
    Parker et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, sections 3.2 and 5.2, and their code,
    which this follows where they differ.

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders import SpecFormer
    >>> SpecFormer().n_tokens(7781)
    777
    >>> encoder = SpecFormer(width=16, depth=1, heads=2).build(100)
    >>> spectra = torch.rand(2, 100)
    >>> encoder(spectra).shape, encoder.tokens(spectra)[0].shape
    (torch.Size([2, 16]), torch.Size([2, 9, 16]))
    """

    standardizes = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{name: [AT_LEAST_ONE] for name in ("width", "depth", "heads", "max_tokens")},
        "weights": [str, os.PathLike, None],
    }

    def __init__(
        self,
        *,
        width: int = 768,
        depth: int = 6,
        heads: int = 6,
        max_tokens: int = 800,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        self.width = width
        self.depth = depth
        self.heads = heads
        self.max_tokens = max_tokens
        self.weights = weights

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
        return count_windows(n_wavelengths)

    def architecture(self, n_wavelengths: int) -> "SpecFormerNetwork":  # noqa: D102
        self.check()
        if (tokens := 1 + self.n_tokens(n_wavelengths)) > self.max_tokens:
            raise ValueError(
                f"SpecFormer has max_tokens={self.max_tokens} positions; a spectrum of {n_wavelengths} pixels makes "
                f"{tokens} tokens. DESI's have 7781 pixels, one every 0.8 Å."
            )
        return SpecFormerNetwork(self.width, self.depth, self.heads, self.max_tokens)

    def load(self, network: nn.Module) -> dict[str, Any] | None:  # noqa: D102
        if self.weights is None:
            return None
        weights = read_weights(self.weights)
        layout = find_layout(weights, layouts=LAYOUTS)
        chosen = layout.select(weights.tensors)
        check_alike(chosen, network.state_dict(), weights.source, "SpecFormer")
        network.load_state_dict(chosen)
        return layout.facts(weights, len(chosen))

    def check(self) -> None:  # noqa: D102
        super().check()
        if self.width % self.heads:
            raise ValueError(f"SpecFormer has width={self.width}, which must be divisible by heads={self.heads}.")


def count_windows(n_wavelengths: int) -> int:
    """Count the windows of a spectrum: those that start before its last 10 pixels, without the last of them.

    Parameters
    ----------
    n_wavelengths : int
        Number of pixels.

    Returns
    -------
    int

    Examples
    --------
    >>> from skastro.encoders.specformer import count_windows
    >>> [count_windows(pixels) for pixels in (7781, 90, 85, 80, 20, 1)]
    [777, 7, 7, 6, 0, 0]
    """
    return max(0, -(-(n_wavelengths - STRIDE) // STRIDE) - 1)


class SpecFormerNetwork(nn.Module):
    """SpecFormer from flux to tokens, with the names that the published weights have.

    Parameters
    ----------
    width, depth, heads, max_tokens : int
        As in `SpecFormer`.
    """

    def __init__(self, width: int, depth: int, heads: int, max_tokens: int) -> None:
        super().__init__()
        self.data_embed = nn.Linear(2 + TOKEN, width)
        self.position_embed = nn.Embedding(max_tokens, width)
        self.blocks = nn.Sequential(*(SpecFormerBlock(width, heads) for _ in range(depth)))
        self.final_layernorm = nn.LayerNorm(width)
        nn.init.normal_(self.position_embed.weight, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=(2 * module.in_features * depth) ** -0.5)
                nn.init.zeros_(module.bias)

    def forward(self, flux: Tensor, seen: Tensor | None = None) -> Tensor:
        """Embed spectra.

        Parameters
        ----------
        flux : Tensor of shape (n, n_wavelengths)
            Flux in 1e-17 erg/s/cm²/Å; anything finite where a pixel is missing.
        seen : Tensor of bool, shape (n, n_wavelengths), default=None
            False where a pixel is missing; None is nowhere.

        Returns
        -------
        Tensor of shape (n, width)
            Mean over all tokens.
        """
        return self.tokens(flux, seen)[0].mean(dim=1)

    def tokens(self, flux: Tensor, seen: Tensor | None = None) -> tuple[Tensor, None]:
        """Compute the tokens of spectra, with the token of mean and scale in front.

        Parameters
        ----------
        flux, seen : Tensor
            As in `forward`.

        Returns
        -------
        tokens : Tensor of shape (n, 1 + n_tokens, width)
        mask : None
            None, since all tokens are used.
        """
        pieces = self.preprocess(flux if seen is None else bridge(flux, seen))
        tokens = self.data_embed(pieces) + self.position_embed.weight[: pieces.shape[1]]
        return self.final_layernorm(self.blocks(tokens)), None

    def preprocess(self, flux: Tensor) -> Tensor:
        """Standardize spectra and cut them into tokens; see the notes of `SpecFormer`.

        Parameters
        ----------
        flux : Tensor of shape (n, n_wavelengths)
            Flux without gaps.

        Returns
        -------
        Tensor of shape (n, 1 + n_tokens, 22)
        """
        pixels = flux.shape[1]
        std, mean = torch.std_mean(flux, dim=1, keepdim=True, correction=min(1, pixels - 1))
        std = std.clamp(min=FLOOR)
        level = pad(torch.cat([(mean - 2) / 2, (std - 2) / 8], dim=1), (0, TOKEN))[:, None]
        count = count_windows(pixels)
        if not count:
            return level
        windows = ((flux - mean) / std).unfold(1, TOKEN, STRIDE)[:, :count]
        return torch.cat([level, pad(windows, (2, 0))], dim=1)

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
        last = (r"^final_layernorm", (99_999,))
        return {"stem": r"^data_embed|^position_embed", "blocks": [(r"^blocks\.(\d+)", None), last]}


class SpecFormerBlock(nn.Module):
    """Self-attention and two linear layers, each behind a layer norm and with a shortcut around both.

    Parameters
    ----------
    width, heads : int
        Number of features, and of attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.layernorm1 = nn.LayerNorm(width)
        self.attention = nn.ModuleDict(
            {"attention": nn.Linear(width, 3 * width), "projection": nn.Linear(width, width)}
        )
        self.layernorm2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"encoder": nn.Linear(width, 4 * width), "decoder": nn.Linear(4 * width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        """Run the block.

        Parameters
        ----------
        tokens : Tensor of shape (n, t, width)
            Tokens of n spectra.

        Returns
        -------
        Tensor of shape (n, t, width)
        """
        projected = self.attention["attention"](self.layernorm1(tokens))
        queries, keys, values = projected.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        tokens = tokens + self.attention["projection"](attended)
        hidden = nn.functional.gelu(self.mlp["encoder"](self.layernorm2(tokens)))
        return tokens + self.mlp["decoder"](hidden)


def bridge(flux: Tensor, seen: Tensor) -> Tensor:
    """Fill missing pixels by straight lines between those that are present, and at the ends by the nearest of these.

    Parameters
    ----------
    flux : Tensor of shape (n, n_wavelengths)
        Flux, finite throughout.
    seen : Tensor of bool, shape (n, n_wavelengths)
        False where a pixel is missing.

    Returns
    -------
    Tensor of shape (n, n_wavelengths)

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders.specformer import bridge
    >>> bridge(torch.tensor([[0.0, 1, 0, 0, 7, 0]]), torch.tensor([[False, True, False, False, True, False]])).tolist()
    [[1.0, 1.0, 3.0, 5.0, 7.0, 7.0]]
    """
    end = flux.shape[1]
    places = torch.arange(end, device=flux.device)
    before = torch.where(seen, places, -1).cummax(dim=1).values
    behind = torch.where(seen, places, end).flip(1).cummin(dim=1).values.flip(1)
    left = torch.where(before < 0, behind, before).clamp(max=end - 1)  # the clamps are for rows without any pixel
    right = torch.where(behind == end, before, behind).clamp(min=0)
    share = (places - left).to(flux.dtype) / (right - left).clamp(min=1)
    start = flux.gather(1, left)
    return torch.where(seen, flux, start + share * (flux.gather(1, right) - start))
