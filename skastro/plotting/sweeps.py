"""Display of score against number of labels."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Self

import numpy as np
import pandas as pd

from skastro.inputs import as_rows
from skastro.model_selection import label_sweep
from skastro.plotting.style import COLORS, MARKERS, pyplot, score_label

__all__ = ["LabelSweepDisplay"]


class LabelSweepDisplay:
    """Score against number of labels, one line per method, one panel per metric.

    The plot of a label sweep: figure 1 of [1]_, with ``error=True`` figure 4 of [2]_, and with several `metrics` figure
    4 of [3]_.

    Parameters
    ----------
    frame : DataFrame
        Result of :func:`~skastro.model_selection.label_sweep`; the columns used are ``method``, ``n_labels``, and
        ``score`` or those named by `metrics`.
    metric_name : str, default=None
        Name of the score on the axis; ``None`` is "score".
    metrics : str, sequence of str or mapping of str to str, default=None
        Columns of `frame` to draw, each in its own panel; a mapping also sets their names on the axes. ``None`` draws
        only ``score``, under its `metric_name`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The first panel, with the legend of all panels.
    axes_ : array of matplotlib Axes, of shape (n_metrics,)
        The panels.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    lines_ : list of matplotlib Line2D
        One line per method, in the order of `frame`, panel by panel.

    See Also
    --------
    skastro.model_selection.label_sweep : Run a sweep and return its table.

    References
    ----------
    .. [1] Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning",
       `arXiv:2206.11927 <https://arxiv.org/abs/2206.11927>`_.
    .. [2] Slijepcevic et al. (2023), "Radio Galaxy Zoo: Towards building the first multi-purpose foundation
       model for radio astronomy with self-supervised learning", `arXiv:2305.16127
       <https://arxiv.org/abs/2305.16127>`_.
    .. [3] Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", `arXiv:2012.13083
       <https://arxiv.org/abs/2012.13083>`_.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import pandas as pd
    >>> from skastro.plotting import LabelSweepDisplay
    >>> scores = {"method": "BYOL", "n_labels": [72, 72, 145, 145], "score": [0.7, 0.8, 0.85, 0.87]}
    >>> display = LabelSweepDisplay.from_frame(pd.DataFrame(scores), error=True)
    >>> display.lines_[0].get_ydata().round(1)
    array([25., 14.])
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        *,
        metric_name: str | None = None,
        metrics: str | Sequence[str] | Mapping[str, str] | None = None,
    ) -> None:
        self.frame = frame
        self.metric_name = metric_name
        self.metrics = metrics

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        ax: Any = None,
        metric_name: str | None = None,
        error: bool = False,
        metrics: str | Sequence[str] | Mapping[str, str] | None = None,
    ) -> Self:
        """Draw the table of a label sweep.

        Parameters
        ----------
        frame : DataFrame
            Result of :func:`~skastro.model_selection.label_sweep`.
        ax : matplotlib Axes or array of them, default=None
            Axes to draw on, one per metric; ``None`` makes a new figure.
        metric_name : str, default=None
            Name of the score on the axis; ``None`` is "score".
        error : bool, default=False
            Draw 100 (1 - score), in percent, instead of the score.
        metrics : str, sequence of str or mapping of str to str, default=None
            Columns of `frame` to draw instead of ``score``, each in its own panel; a mapping also sets their names.

        Returns
        -------
        LabelSweepDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If a column is missing, or if there are not as many axes as metrics.
        """
        return cls(frame, metric_name=metric_name, metrics=metrics).plot(ax=ax, error=error)

    @classmethod
    def from_estimators(
        cls,
        methods: Mapping[str, Any],
        X: Any,
        y: Any,
        *,
        label_counts: Sequence[int] | np.ndarray,
        scoring: Any = None,
        ax: Any = None,
        metric_name: str | None = None,
        error: bool = False,
        **sweep: Any,
    ) -> Self:
        """Run a label sweep and draw it.

        Parameters
        ----------
        methods : mapping of str to estimator
            Estimators to compare, by name.
        X : array-like of shape (n, ...)
            Images, spectra or a table.
        y : array-like of shape (n,) or (n, n_outputs)
            Labels or values.
        label_counts : array-like of int
            Numbers of training rows that have a label.
        scoring : str, callable, list of str, mapping or None, default=None
            One metric, or several with one panel each, as in `~skastro.model_selection.label_sweep`.
        ax : matplotlib Axes or array of them, default=None
            Axes to draw on, one per metric; ``None`` makes a new figure.
        metric_name : str, default=None
            Name of the score on the axis; ``None`` is the name given as `scoring`, otherwise "score".
        error : bool, default=False
            Draw 100 (1 - score), in percent, instead of the score.
        **sweep : dict
            The other keywords of :func:`~skastro.model_selection.label_sweep`: `cv`, `groups`, `n_repeats` and so on.

        Returns
        -------
        LabelSweepDisplay
            The display, drawn; its `frame` is the table.

        Raises
        ------
        ValueError, TypeError, NotFittedError
            As in :func:`~skastro.model_selection.label_sweep`.
        """
        if metric_name is None and isinstance(scoring, str):
            metric_name = scoring.replace("_", " ")
        frame = label_sweep(methods, X, y, label_counts=label_counts, scoring=scoring, **sweep)
        metrics = None if scoring is None or isinstance(scoring, str) or callable(scoring) else list(scoring)
        return cls.from_frame(frame, metrics=metrics, ax=ax, metric_name=metric_name, error=error)

    def plot(self, ax: Any = None, *, metric_name: str | None = None, error: bool = False) -> Self:
        """Draw the mean over folds and repeats, with its standard error as bars.

        Folds share training rows, so the bars are only a guide and not a confidence interval.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            Axes to draw on, one per metric; ``None`` makes a new figure.
        metric_name : str, default=None
            Name of the score on the axis; ``None`` is the `metric_name` of the display.
        error : bool, default=False
            Draw 100 (1 - score), in percent, instead of the score.

        Returns
        -------
        LabelSweepDisplay
            The display itself.

        Raises
        ------
        ValueError
            If a column is missing, or if there are not as many axes as metrics.
        """
        names, frame = self._names(metric_name), as_rows(self.frame)
        missing = {"method", "n_labels", *names} - set(frame.columns)
        if missing:
            raise ValueError(f"frame lacks {', '.join(sorted(missing))}: give the table that label_sweep returns.")
        axes = _stack_panels(len(names)) if ax is None else np.ravel(ax)
        if len(axes) != len(names):
            raise ValueError(f"ax must be one Axes for each of the {len(names)} metrics; got {len(axes)}.")
        self.lines_ = []
        for panel, (metric, name) in zip(axes, names.items(), strict=True):
            scores = 100 * (1 - frame[metric]) if error else frame[metric]
            self.lines_ += _draw_sweep(panel, frame.assign(score=scores))
            panel.set_ylabel(score_label(name, error))
        axes[0].legend(frameon=False)
        self.ax_, self.axes_, self.figure_ = axes[0], axes, axes[0].figure
        return self

    def _names(self, metric_name: str | None) -> dict[str, str]:
        """Return the columns to draw and their names."""
        if self.metrics is None:
            return {"score": metric_name or self.metric_name or "score"}
        if isinstance(self.metrics, Mapping):
            return dict(self.metrics)
        metrics = [self.metrics] if isinstance(self.metrics, str) else self.metrics
        return {metric: metric.replace("_", " ") for metric in metrics}


def _stack_panels(n_panels: int) -> np.ndarray:
    figure = pyplot().figure(figsize=(5, 1.5 + 2.25 * n_panels), layout="constrained")
    axes = figure.subplots(n_panels, sharex=True, squeeze=False)[:, 0]
    figure.align_ylabels(axes)
    return axes


def _draw_sweep(ax: Any, frame: pd.DataFrame) -> list[Any]:
    styles = zip(cycle(COLORS), cycle(MARKERS), strict=False)
    lines = [
        _draw_line(ax, name, rows, color, marker)
        for (name, rows), (color, marker) in zip(frame.groupby("method", sort=False), styles, strict=False)
    ]
    ax.set_xscale("log")
    if ax.xaxis.get_tick_params().get("labelbottom", True):  # otherwise the panel below has the same axis
        ax.set_xlabel("Number of labels")
    counts = np.unique(frame["n_labels"])
    ax.set_xticks(counts, _tick_labels(ax, counts))
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)
    return lines


def _tick_labels(ax: Any, counts: np.ndarray) -> list[str]:
    """Label the counts, from the largest down, except where a label would touch the one before."""
    inches = ax.bbox.width / ax.figure.dpi
    letter = 0.09 * np.ptp(np.log10(ax.get_xlim())) / inches  # in decades; a letter is about 0.09 inches wide
    labels, end = [], np.inf
    for count in counts[::-1]:
        label = f"{count:,}"
        half = letter * (len(label) + 1) / 2
        touches = np.log10(count) + half > end
        labels.append("" if touches else label)
        end = end if touches else np.log10(count) - half
    return labels[::-1]


def _draw_line(ax: Any, name: Any, rows: pd.DataFrame, color: str, marker: str) -> Any:
    scores = rows.groupby("n_labels")["score"].agg(["mean", "sem"])
    counts, means = scores.index.to_numpy(), scores["mean"].to_numpy()
    (line,) = ax.plot(counts, means, color=color, marker=marker, markersize=5, linewidth=1.5, label=str(name))
    ax.errorbar(counts, means, scores["sem"], fmt="none", ecolor=color, elinewidth=1, capsize=2.5)
    return line
