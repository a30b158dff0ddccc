"""Display of predicted against volunteers' vote fractions."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from skastro.metrics import morphology_scores
from skastro.metrics.checks import as_numbers
from skastro.plotting.style import COLORS, pyplot

__all__ = ["VoteScatterDisplay"]


class VoteScatterDisplay:
    """Predicted against volunteers' fraction of votes for one answer: figure 3 of [1]_.

    Parameters
    ----------
    fractions : array of shape (n,)
        Fraction of the volunteers who gave the answer; NaN where none was asked.
    predicted : array of shape (n,)
        Predicted fraction.
    votes : array of shape (n,), default=None
        Number of volunteers who were asked; ``None`` treats all objects equally.
    high_quality : tuple of two float, default=(0.2, 0.8)
        Objects with a fraction below the first or above the second are of high quality. The scores are computed on
        them.
    answer : str, default=None
        Name of the answer on the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the points.
    figure_ : matplotlib Figure
        The figure of `ax_`.

    See Also
    --------
    skastro.metrics.morphology_scores : Compute the scores of high-quality objects.

    References
    ----------
    .. [1] Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", `arXiv:2012.13083
       <https://arxiv.org/abs/2012.13083>`_, section 3.2.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from skastro.plotting import VoteScatterDisplay
    >>> fractions, predicted, votes = [0.9, 1.0, 0.1, 0.0, 0.6], [0.8, 0.7, 0.2, 0.9, 0.6], [40, 38, 12, 35, 20]
    >>> display = VoteScatterDisplay.from_predictions(fractions, predicted, votes, answer="smooth")
    >>> print(display.ax_.texts[0].get_text())
    accuracy 0.75
    precision 0.67
    recall 1.00
    AUC 0.50
    η 25.00 %
    """

    def __init__(
        self,
        fractions: Any,
        predicted: Any,
        votes: Any = None,
        *,
        high_quality: tuple[float, float] = (0.2, 0.8),
        answer: str | None = None,
    ) -> None:
        self.fractions = fractions
        self.predicted = predicted
        self.votes = votes
        self.high_quality = high_quality
        self.answer = answer

    @classmethod
    def from_predictions(
        cls,
        fractions: Any,
        predicted: Any,
        votes: Any = None,
        *,
        high_quality: tuple[float, float] = (0.2, 0.8),
        answer: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw predictions.

        Parameters
        ----------
        fractions : array-like of shape (n,)
            Fraction of the volunteers who gave the answer; NaN where none was asked.
        predicted : array-like of shape (n,)
            Predicted fraction.
        votes : array-like of shape (n,), default=None
            Number of volunteers who were asked; ``None`` treats all objects equally.
        high_quality : tuple of two float, default=(0.2, 0.8)
            Objects with a fraction below the first or above the second are of high quality. The scores are computed on
            them.
        answer : str, default=None
            Name of the answer on the axes.
        ax : matplotlib Axes, default=None
            Axes to draw on; ``None`` makes a new figure.

        Returns
        -------
        VoteScatterDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If lengths differ, if there is more than one answer, if a fraction is not between 0 and 1, or if a
            number of votes is negative.
        """
        return cls(fractions, predicted, votes, high_quality=high_quality, answer=answer).plot(ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw each object, larger and less transparent the more votes it has, over the bands of high quality.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; ``None`` makes a new figure.

        Returns
        -------
        VoteScatterDisplay
            The display itself.

        Raises
        ------
        ValueError
            If lengths differ, if there is more than one answer, if a fraction is not between 0 and 1, or if a
            number of votes is negative.
        """
        fractions, predicted = as_numbers("fractions", self.fractions), as_numbers("predicted", self.predicted)
        scores = morphology_scores(fractions, predicted, high_quality=self.high_quality)
        weights = _vote_weights(self.votes, len(fractions))
        if ax is None:
            _, ax = pyplot().subplots(figsize=(4.75, 4.75), layout="constrained")
        low, high = self.high_quality
        for band in ((-0.02, low), (high, 1.02)):
            ax.axvspan(*band, color="0.93", linewidth=0, zorder=0)
        ax.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
        # The more points, the more transparent each, so that a crowd shows as a shade.
        opacity = weights * np.clip(30 / np.sqrt(len(weights)), 0.15, 0.8)
        style = {"color": COLORS[0], "linewidths": 0, "rasterized": True}
        ax.scatter(fractions, predicted, s=30 * weights, alpha=opacity, **style)
        box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 2}
        ax.text(low + 0.02, 0.99, _score_text(scores), va="top", linespacing=1.4, bbox=box)
        suffix = f", {self.answer}" if self.answer else ""
        ax.set(xlabel=f"Fraction of votes{suffix}", ylabel=f"Predicted fraction{suffix}")
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        ax.spines[["top", "right"]].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _vote_weights(votes: Any, n: int) -> np.ndarray:
    """Return votes relative to the largest number; equal weights without votes."""
    votes = np.ones(n) if votes is None else as_numbers("votes", votes)
    if votes.shape != (n,) or not (votes >= 0).all() or not np.isfinite(votes).all():
        raise ValueError(f"votes must be a number, at least 0, for each of the {n} fractions.")
    return votes / max(votes.max(initial=0), 1)


def _score_text(scores: Mapping[str, float]) -> str:
    """Return the scores that are defined, one per line."""
    names = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "auc": "AUC"}
    lines = [f"{name} {scores[key]:.2f}" for key, name in names.items() if np.isfinite(scores[key])]
    if np.isfinite(scores["outliers"]):
        lines.append(f"η {100 * scores['outliers']:.2f} %")
    return "\n".join(lines)
