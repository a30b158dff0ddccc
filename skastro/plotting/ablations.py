"""Display of an augmentation ablation."""

from typing import Any, Self

import numpy as np
import pandas as pd

from skastro.inputs import as_rows
from skastro.plotting.style import COLORS, new_figure, score_label

__all__ = ["AblationDisplay"]

# Drawn as lines, because not every font has a tick.
_TICK = ((-0.5, 0.0), (-0.15, -0.4), (0.5, 0.45))


class AblationDisplay:
    r"""Effect of each augmentation step on the score: table 10 of [1]_ as a plot, like figure 13 of [2]_.

    Parameters
    ----------
    frame : DataFrame
        Result of :func:`~skastro.model_selection.augmentation_ablation`, with the columns ``setting``, ``repeat``,
        ``fold`` and ``score``, and one column of booleans per step. With several metrics, rename the column to draw to
        ``score``.
    metric_name : str, default=None
        Name of the score on the axis; ``None`` is "score".

    Attributes
    ----------
    table_ : DataFrame
        One row per setting, in the order of `frame`. ``setting``; the steps, True where on; ``mean`` and ``sem``, the
        mean score over folds and repeats and its standard error; ``difference`` and ``difference_sem``, the mean
        difference to the setting "all" of the same repeat and fold and its standard error. NaN without a setting "all",
        or with only one score. In percent if errors were drawn.
    axes_ : array of matplotlib Axes, of shape (2,)
        The panels with the ticks and crosses, and with the scores.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    skastro.model_selection.augmentation_ablation : Run an ablation and return its table.

    Notes
    -----
    With :math:`s_{rk}` the score in repeat r and fold k, of n in all,

    .. math:: \Delta_{rk} = s_{rk} - s_{rk}^{\mathrm{all}}, \qquad
              \mathrm{sem} = \sqrt{\frac{\sum_{rk} (\Delta_{rk} - \bar\Delta)^2}{n (n - 1)}}.

    Settings share folds and seeds, so the differences scatter less than the scores. Folds share training rows, so
    either error is only a guide and not a confidence interval.

    References
    ----------
    .. [1] Slijepcevic et al. (2023), "Radio Galaxy Zoo: Towards building the first multi-purpose foundation
       model for radio astronomy with self-supervised learning", `arXiv:2305.16127
       <https://arxiv.org/abs/2305.16127>`_, table 10.
    .. [2] Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", `arXiv:2012.13083
       <https://arxiv.org/abs/2012.13083>`_, figure 13.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import pandas as pd
    >>> from skastro.plotting import AblationDisplay
    >>> frame = pd.DataFrame(
    ...     {
    ...         "setting": ["all", "all", "without flip", "without flip"],
    ...         "rotate": True,
    ...         "flip": [True, True, False, False],
    ...         "repeat": 0,
    ...         "fold": [0, 1, 0, 1],
    ...         "score": [0.90, 0.80, 0.86, 0.78],
    ...     }
    ... )
    >>> AblationDisplay.from_frame(frame).table_.round(2)
            setting  rotate   flip  mean   sem  difference  difference_sem
    0           all    True   True  0.85  0.05        0.00            0.00
    1  without flip    True  False  0.82  0.04       -0.03            0.01
    """

    def __init__(self, frame: pd.DataFrame, *, metric_name: str | None = None) -> None:
        self.frame = frame
        self.metric_name = metric_name

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, *, metric_name: str | None = None, error: bool = False, figure: Any = None
    ) -> Self:
        """Draw the table of an ablation.

        Parameters
        ----------
        frame : DataFrame
            Result of :func:`~skastro.model_selection.augmentation_ablation`.
        metric_name : str, default=None
            Name of the score on the axis; ``None`` is "score".
        error : bool, default=False
            Show 100 (1 - score), in percent, instead of the score.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        AblationDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If a column is missing, no column is of booleans, or a setting occurs twice in a repeat and fold.
        """
        return cls(frame, metric_name=metric_name).plot(error=error, figure=figure)

    def plot(self, *, metric_name: str | None = None, error: bool = False, figure: Any = None) -> Self:
        """Draw one row per setting: a tick or a cross for each step, and the mean score with its standard error.

        The vertical line is the mean of the setting "all".

        Parameters
        ----------
        metric_name : str, default=None
            Name of the score on the axis; ``None`` is the `metric_name` of the display.
        error : bool, default=False
            Show 100 (1 - score), in percent, instead of the score.
        figure : matplotlib Figure or SubFigure, default=None
            Figure to draw on; ``None`` makes a new one.

        Returns
        -------
        AblationDisplay
            The display itself.

        Raises
        ------
        ValueError
            If a column is missing, no column is of booleans, or a setting occurs twice in a repeat and fold.
        """
        frame = as_rows(self.frame)
        _check_frame(frame)
        steps = _steps(frame)
        scores = 100 * (1 - frame["score"]) if error else frame["score"]
        self.table_ = _tabulate(frame.assign(score=scores))
        self.figure_ = figure = figure or new_figure(4.5 + 0.35 * len(steps), 1.5 + 0.27 * len(self.table_))
        self.axes_ = figure.subplots(1, 2, sharey=True, width_ratios=(0.35 * len(steps), 3))
        _draw_steps(self.axes_[0], self.table_[steps].to_numpy())
        _draw_scores(self.axes_[1], self.table_)
        self.axes_[0].set_xticks(range(len(steps)), steps, rotation=45, ha="left", rotation_mode="anchor")
        self.axes_[0].set_yticks(range(len(self.table_)), self.table_["setting"])
        self.axes_[1].set_xlabel(score_label(metric_name or self.metric_name or "score", error))
        return self


def _steps(frame: pd.DataFrame) -> list[str]:
    return list(frame.select_dtypes("bool").columns)


def _check_frame(frame: pd.DataFrame) -> None:
    keys = ["setting", "repeat", "fold"]
    missing = {*keys, "score"} - set(frame.columns)
    if missing:
        raise ValueError(
            f"frame lacks {', '.join(sorted(missing))}: give the table that augmentation_ablation returns."
        )
    if not _steps(frame):
        raise ValueError("frame has no column of booleans, one per step: give the table of augmentation_ablation.")
    twice = frame[frame.duplicated(keys)]
    if len(twice):
        setting, repeat, fold = twice[keys].iloc[0]
        raise ValueError(
            f"frame has {setting!r} twice in repeat {repeat} and fold {fold}: draw one ablation at a time."
        )


def _tabulate(frame: pd.DataFrame) -> pd.DataFrame:
    """Compute one row per setting, in the order of the frame."""
    groups = frame.groupby("setting", sort=False)
    scores = frame.pivot(index=["repeat", "fold"], columns="setting", values="score")
    differences = scores.sub(scores.get("all", np.nan), axis=0)
    columns = {
        "mean": groups["score"].mean(),
        "sem": groups["score"].sem(),
        "difference": differences.mean(),
        "difference_sem": differences.sem(),
    }
    return groups[_steps(frame)].first().assign(**columns).reset_index()


def _draw_steps(ax: Any, on: np.ndarray) -> None:
    styles = ((on, _TICK, COLORS[0], 8), (~on, "x", "0.7", 5))
    for chosen, marker, color, size in styles:
        rows, columns = np.nonzero(chosen)
        style = {"marker": marker, "color": color, "markersize": size, "linestyle": "none", "fillstyle": "none"}
        ax.plot(columns, rows, **style)
    n_rows, n_columns = on.shape
    ax.set(xlim=(-0.5, n_columns - 0.5), ylim=(n_rows - 0.5, -0.5))
    ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    ax.spines[:].set_visible(False)


def _draw_scores(ax: Any, table: pd.DataFrame) -> None:
    rows = np.arange(len(table))
    style = {"marker": "o", "markersize": 5, "linestyle": "none", "elinewidth": 1, "capsize": 2.5}
    ax.errorbar(table["mean"].to_numpy(), rows, xerr=table["sem"].to_numpy(), color=COLORS[0], **style)
    for mean in table.loc[table["setting"] == "all", "mean"]:
        ax.axvline(mean, color="black", linewidth=0.8, linestyle="--", zorder=0)
    ax.grid(axis="y", color="0.93")
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0, labelleft=False)
    ax.spines[["top", "right", "left"]].set_visible(False)
