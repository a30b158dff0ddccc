"""Light curves as a modality: an embedder of one's own, which the rest of skastro takes as it is.

By masked modeling, as in Donoso-Oliva et al. (2023), `arXiv:2205.01677 <https://arxiv.org/abs/2205.01677>`_.
"""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data
from timm.models.vision_transformer import Block
from torch import nn
from torch.nn.functional import pad

from skastro.base import fitting, provenance
from skastro.losses import masked_mse
from skastro.missing import scatter
from skastro.modalities import TrainedModality
from skastro.training import AsGiven, Objective

ARRAYS = ("time", "magnitude", "wavelength", "point_weights", "level")  # what `inputs` gives and the encoder takes
PERIODS = 2.0 ** torch.arange(-1, 13)  # of the sines and cosines that tell a time, from half a day to eleven years


class Pool(nn.Module):
    """Mean and maximum of the tokens that count."""

    def forward(self, tokens, mask):
        mask = mask[:, :, None]
        mean = (tokens * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.cat([mean, tokens.masked_fill(~mask, -torch.inf).amax(dim=1)], dim=1)


class CurveTransformer(nn.Module):
    """The encoder: a token for each point, and one in front for the level of the curve."""

    def __init__(self, width, depth, heads):
        super().__init__()
        self.register_buffer("rates", 2 * torch.pi / PERIODS)
        self.embed = nn.Linear(2 * len(PERIODS) + 4, width)
        self.level = nn.Linear(2, width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio=2, qkv_bias=True) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.pool = Pool()

    def forward(self, *curve):
        return self.pool(*self.tokens(*curve))

    def tokens(self, time, magnitude, wavelength, point_weights, level, hidden=None):
        known = point_weights > 0
        shown = (known if hidden is None else known & ~hidden).float()
        phase = time[:, :, None] * self.rates
        numbers = torch.stack([wavelength, shown, magnitude * shown, point_weights * shown], dim=2)
        points = self.embed(torch.cat([phase.sin(), phase.cos(), numbers], dim=2))
        tokens = torch.cat([self.level(level)[:, None], points], dim=1)
        mask = pad(known, (1, 0), value=True)
        for block in self.blocks:
            tokens = block(tokens, attn_mask=mask[:, None, None])
        return self.norm(tokens), mask


class HiddenRun:
    """The view of training: the curves, and a run of neighboring points to hide of each."""

    inputs = ARRAYS

    def __init__(self, share, generator):
        self.share, self.generator = share, generator

    def __call__(self, time, magnitude, wavelength, point_weights, level):
        known = point_weights > 0
        place = (known.cumsum(dim=1) - 1) / known.sum(dim=1, keepdim=True).clamp(min=1)
        start = torch.rand(len(time), 1, generator=self.generator, device=time.device)
        return [time, magnitude, wavelength, point_weights, level, known & ((place - start) % 1 < self.share)]


class FillIn(Objective):
    """Mean square error of the hidden magnitudes, weighted by what is known of them."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, time, magnitude, wavelength, point_weights, level, hidden):
        tokens, mask = self.encoder.tokens(time, magnitude, wavelength, point_weights, level, hidden)
        self.encoder.pool(tokens, mask)  # the embedding, for the history
        return masked_mse(self.decoder(tokens[:, 1:])[:, :, 0], magnitude, point_weights * hidden)


class LightCurveEmbedder(TrainedModality):
    """Learn an embedding of light curves without labels, by filling in what is hidden of them.

    A point is a time (days), a magnitude, its error, and the effective wavelength of its band (Å). Light curves are
    arrays (n, n_points, 4), or rows of as many numbers, filled up with NaN; what has no time or magnitude is no point.

    Parameters
    ----------
    width, depth, heads : int, default=64, 2, 4
        Features of a token, blocks and attention heads of the transformer; the heads divide the width.
    hide : float, default=0.3
        Share of each curve that is hidden, as one run of neighboring points.
    max_epochs, batch_size, lr, training, device, verbose, random_state
        As all embedders have them.

    Attributes
    ----------
    scale_ : float
        Scatter of the training magnitudes about the means of their curves: the unit of magnitudes and errors.
    level_ : ndarray of shape (2, 2)
        Mean and standard deviation over the training curves of their mean magnitudes and logarithms of lengths.
    """

    _parameter_constraints = TrainedModality._parameter_constraints | {
        **{name: [Interval(Integral, 1, None, closed="left")] for name in ("width", "depth", "heads")},
        "hide": [Interval(Real, 0, 1, closed="neither")],
    }
    unit = "curves"

    def __init__(self, width=64, depth=2, heads=4, *, hide=0.3, max_epochs="auto", batch_size=64, lr=1e-3,
                 training=None, device="auto", verbose=0, random_state=None):  # fmt: skip
        self.width, self.depth, self.heads, self.hide = width, depth, heads, hide
        self.max_epochs, self.batch_size, self.lr, self.training = max_epochs, batch_size, lr, training
        self.device, self.verbose, self.random_state = device, verbose, random_state

    def fit(self, X, y=None):
        """Learn from light curves alone."""
        self._validate_params()
        with fitting(self):
            return self._learn(self.inputs(X, reset=True), lambda generator: HiddenRun(self.hide, generator))

    def _objective(self, encoder):
        return FillIn(encoder, nn.Linear(self.width, 1))

    def _watched(self, encoder):
        return encoder.pool

    def transform(self, X):
        """Embed light curves of as many points as those learned from, each on its own."""
        check_is_fitted(self)
        return self._inference().mean(self.encoder_, [self.view()], self.inputs(X))

    def inputs(self, X, mask=None, *, reset=False, **metadata):
        if mask is not None and not mask.all():
            X = _safe_indexing(X, np.flatnonzero(mask))
        X = X.reshape(len(X), -1) if getattr(X, "ndim", 2) == 3 else X
        rows = validate_data(self, X, reset=reset, dtype=float, ensure_all_finite="allow-nan")
        points = np.pad(rows, [(0, 0), (0, -rows.shape[1] % 4)], constant_values=np.nan).reshape(len(rows), -1, 4)
        points[np.isnan(points[:, :, 1])] = np.nan
        order = np.argsort(points[:, :, 0], axis=1)  # NaN comes last
        time, magnitude, error, wavelength = np.take_along_axis(points, order[:, :, None], axis=1).transpose(2, 0, 1)
        known, count = ~np.isnan(time), (~np.isnan(time)).sum(axis=1, keepdims=True)
        if reset:
            if len(rows) < 2 or not known.any():
                raise ValueError(f"{known.sum()} points in {len(rows)} sample(s) of n_features={rows.shape[1]}.")
            self.scale_ = float((magnitude - masked_mean(magnitude, known))[known].std()) or 1.0
        sure = 1 / (1 + np.where(error > 0, error / self.scale_, 1.0) ** 2)  # what has no error is not very sure
        mean = masked_mean(magnitude, known * sure)
        level = np.hstack([mean, np.log(np.maximum(count, 1))])
        if reset:
            mid, std = (statistic(level[known.any(axis=1)], axis=0) for statistic in (np.mean, np.std))
            self.level_ = np.stack([mid, np.where(std > 1e-9, std, 1.0)])
            self._size = (self.width, self.depth, self.heads)
            self.provenance_ = provenance(n_curves=len(rows), n_points=points.shape[1])
        arrays = {
            "time": time - time[:, :1],
            "magnitude": (magnitude - mean) / self.scale_,
            "wavelength": np.nan_to_num((wavelength - 6000) / 2000),
            "point_weights": sure,
        }
        arrays = {name: np.where(known, array, 0).astype(np.float32) for name, array in arrays.items()}
        arrays["level"] = np.where(count, (level - self.level_[0]) / self.level_[1], 0).astype(np.float32)
        return arrays if mask is None else {name: scatter(array, mask) for name, array in arrays.items()}

    def view(self, recipe=None, generator=None):
        return AsGiven(*ARRAYS)

    def build_encoder(self):
        return CurveTransformer(*self._size)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.three_d_array = True
        return tags


def masked_mean(values, weights):
    total = (np.where(weights > 0, values, 0) * weights).sum(axis=1, keepdims=True)
    return total / np.maximum(weights.sum(axis=1, keepdims=True), 1e-30)
