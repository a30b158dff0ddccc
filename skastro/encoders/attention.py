"""Attention pooling: a learned query computes a weighted sum of the tokens of an object."""

import torch
from torch import Tensor, nn

__all__ = ["AttentionPool"]

SHORTCUTS = ("attention", "norm", None)


class AttentionPool(nn.Module):
    r"""Cross-attention of one learned query over tokens, then layer norm and two linear layers.

    Each of :math:`h` heads weights the tokens :math:`x_t` (standardized, if `standardize` was called) by its part of
    the query, and sums their values:

    .. math:: a_t = \operatorname{softmax}_t \frac{q^\top W_k x_t}{\sqrt{d / h}}, \qquad
              z = W_o \left[\sum_t a_t (W_v x_t + b_v)\right]_{\mathrm{heads}} + b_o, \qquad
              r = s + \mathrm{MLP}(\mathrm{LN}(z))

    with the shortcut :math:`s = z`, :math:`\mathrm{LN}(z)` or 0.

    Parameters
    ----------
    width : int
        Features of a token.
    heads : int
        Number of attention heads :math:`h`; it must divide `dim`.
    dim : int
        Number of output features :math:`d`.
    hidden : int
        Hidden width of the two linear layers, with a GELU between them.
    shortcut : {"attention", "norm"} or None, default="attention"
        What is added to the output of the linear layers: that of the attention, the same behind the layer norm, or
        nothing.

    Raises
    ------
    ValueError
        If `heads` does not divide `dim`, or the shortcut is unknown.

    Notes
    -----
    With a single query, no token needs its own projection: :math:`q^\top W_k` is one row per head, and :math:`W_v` is
    applied to the weighted sum of the tokens. A long sequence costs little more than a short one.

    References
    ----------
    Parker et al. (2024), `arXiv:2310.03024 <https://arxiv.org/abs/2310.03024>`_, section 3.3 and appendix B3: four
    heads, 512 features, two linear layers of 512. Their published pools have 1,024 features, a hidden width four times
    that, and the shortcut ``"norm"`` for spectra and None for images.

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders import AttentionPool
    >>> pool, tokens = AttentionPool(width=768, heads=4, dim=512, hidden=512), torch.rand(2, 778, 768)
    >>> pool(tokens).shape, pool.attention(tokens).shape
    (torch.Size([2, 512]), torch.Size([2, 4, 778]))
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, heads: int, dim: int, hidden: int, shortcut: str | None = "attention") -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads={heads} must divide the {dim} features that they give together.")
        if shortcut not in SHORTCUTS:
            raise ValueError(f"shortcut must be one of {SHORTCUTS}; got {shortcut!r}.")
        self.shortcut = shortcut
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.query = nn.Parameter(torch.empty(heads, dim // heads).normal_(std=0.02))  # pools nearly the mean at first
        self.key = nn.Linear(width, dim, bias=False)
        self.value = nn.Linear(width, dim)
        self.out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool the tokens of each object.

        Parameters
        ----------
        tokens : Tensor of shape (n, t, width)
            Tokens of n objects.
        mask : Tensor of shape (n, t), default=None
            False or zero where a token is ignored; every object needs at least one token.

        Returns
        -------
        Tensor of shape (n, dim)
        """
        heads, part = self.query.shape
        tokens = (tokens - self.mean) / self.std
        seen = self._attention(tokens, mask) @ tokens
        values = torch.einsum("nhw,hdw->nhd", seen, self.value.weight.view(heads, part, -1))
        pooled = self.out(values.flatten(1) + self.value.bias)
        if self.shortcut == "attention":
            return pooled + self.mlp(pooled)
        normed = self.mlp[0](pooled)
        rest = self.mlp[1:](normed)
        return rest if self.shortcut is None else normed + rest

    def attention(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the attention weight of each token in each head.

        Parameters
        ----------
        tokens : Tensor of shape (n, t, width)
            Tokens of n objects.
        mask : Tensor of shape (n, t), default=None
            False or zero where a token is ignored.

        Returns
        -------
        Tensor of shape (n, heads, t)
            Weights that sum to 1 over the tokens.
        """
        return self._attention((tokens - self.mean) / self.std, mask)

    def standardize(self, tokens: Tensor, mask: Tensor | None = None) -> None:
        """Measure the mean and the standard deviation of each feature, and standardize all tokens by them from now on.

        Parameters
        ----------
        tokens : Tensor of shape (n, t, width)
            Tokens of some objects.
        mask : Tensor of shape (n, t), default=None
            False or zero where a token is ignored.
        """
        counted = tokens.flatten(0, 1) if mask is None else tokens[mask.bool()]
        std, mean = torch.std_mean(counted.float(), dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6 * mean.abs(), std, 1.0))

    def _attention(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        heads, part = self.query.shape
        asked = torch.einsum("hd,hdw->hw", self.query, self.key.weight.view(heads, part, -1)) * part**-0.5
        scores = (tokens @ asked.T).transpose(1, 2)
        if mask is not None:
            scores = scores.masked_fill(~mask.bool()[:, None], -torch.inf)
        return scores.softmax(dim=2)
