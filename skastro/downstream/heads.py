"""Heads of fine-tuned networks, one object each: classes, votes, values, redshifts."""

import re
from abc import ABC, abstractmethod
from numbers import Real
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_array, column_or_1d, compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from skastro.downstream.answers import Answers, check_soft_labels, learn_answers, refuse_several, weigh_votes
from skastro.downstream.photoz import RedshiftBins
from skastro.encoders import VoteHead
from skastro.inputs import as_table, as_target, column_names
from skastro.losses import dirichlet_multinomial_nll
from skastro.outliers import warn_of_far_targets
from skastro.votes import VoteSchema
from skastro.weights import check_alike, read_weights

__all__ = ["ClassHead", "DirichletHead", "Head", "LinearHead", "RedshiftHead", "SoftmaxHead", "ValueHead"]


class Head(BaseEstimator, ABC):
    """A head of a fine-tuned network: the meaning of targets, the output layer, its loss, and the answers.

    A concrete one is a :class:`ClassHead` or a :class:`ValueHead`. Its constructor only stores; what `encode` learns
    ends in an underscore and is numbers, or small estimators. A fine-tuner takes a clone, calls `encode`, puts a norm
    before the layer of `build`, and takes the `loss` of each batch; to answer, it averages what `activation` gives
    over an image's symmetries and hands that to `decode`.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    multi_output: ClassVar[bool] = False  # whether y may hold several values of each image

    @abstractmethod
    def encode(self, y: Any, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Check the targets, and learn what they are.

        Parameters
        ----------
        y : array-like of shape (n, ...)
            As the user gave it.
        weight : ndarray of shape (n,)
            Of each row, some above 0.

        Returns
        -------
        target : ndarray of shape (n, ...)
            What the loss takes.
        weight : ndarray of shape (n,)
            Of each row; those with 0 are not trained on.
        """

    @abstractmethod
    def build(self, width: int) -> nn.Module:
        """Make the output layer, with fresh weights from torch's own generator.

        Parameters
        ----------
        width : int
            Features that come in, normalized.

        Returns
        -------
        nn.Module
            From (n, width) to (n, n_outputs).
        """

    def start(self, layer: nn.Module) -> bool:
        """Load given weights into a fresh output layer, in place: none, unless a head overrides this.

        Parameters
        ----------
        layer : nn.Module
            Made by `build`.

        Returns
        -------
        bool
            Whether there were any. They are for bare features: no norm may stand before the layer then.
        """
        return False

    @abstractmethod
    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of each row, without weights.

        Parameters
        ----------
        outputs : Tensor of shape (n, n_outputs)
            Of the output layer, in float32.
        target : Tensor of shape (n, ...)
            As `encode` gave it, in float32.

        Returns
        -------
        Tensor of shape (n,)
        """

    def activation(self) -> nn.Module:
        """Make the function applied to outputs before they are averaged: none, unless a head overrides this.

        Returns
        -------
        nn.Module
        """
        return nn.Identity()

    def strata(self, target: np.ndarray) -> np.ndarray | None:
        """Return the classes by which held-out rows are stratified: none, unless a head overrides this.

        Parameters
        ----------
        target : ndarray of shape (n, ...)
            As `encode` gave it.

        Returns
        -------
        ndarray of shape (n,), int, or None
        """
        return None

    @abstractmethod
    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Turn averaged outputs into answers.

        Parameters
        ----------
        outputs : ndarray of shape (n, n_outputs), float32
            After the activation.

        Returns
        -------
        ndarray of shape (n, ...)
        """


class ClassHead(Head):
    """A head for :class:`FineTuneClassifier`: `encode` learns ``answers_``, `decode` gives a fraction of each class.

    One with a method ``concentrations(outputs)`` also gives intervals and draws.

    Attributes
    ----------
    answers_ : Answers
        What the columns of the fractions stand for; ``Answers(classes)`` for labels.
    """

    answers_: Answers


class ValueHead(Head):
    """A head for :class:`FineTuneRegressor`: `decode` gives the values that `predict` returns.

    One with a method ``interval(outputs, level)`` also has ``predict_interval``, one with ``pdf(outputs)``, which gives
    probabilities of bins and their edges, ``predict_pdf``.
    """


class SoftmaxHead(ClassHead):
    r"""Labels, hard or soft, by the cross-entropy.

    .. math:: \ell = -\sum_k t_k \ln p_k, \qquad p = \operatorname{softmax}(W x + b)

    A hard label is the soft one whose whole share is in one class.

    Parameters
    ----------
    class_weight : dict or "balanced", default=None
        Weight of each class, as in scikit-learn; for soft labels, of the class with the largest share.
    label_smoothing : float, default=0.0
        Share of each label that is spread evenly over all classes.

    Attributes
    ----------
    answers_ : Answers
        The classes: labels, or for soft ones the names or numbers of the columns.

    References
    ----------
    Szegedy et al. (2016), section 7, for the smoothing.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.downstream import SoftmaxHead
    >>> target, weight = SoftmaxHead(class_weight={"FRI": 2.0}).encode(["FRI", "FRII"], np.ones(2))
    >>> target.tolist(), weight.tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [2.0, 1.0])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(self, *, class_weight: dict[Any, float] | str | None = None, label_smoothing: float = 0.0) -> None:
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing

    def encode(self, y: Any, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: D102
        self._validate_params()
        table = as_table(y)
        labels = check_array(as_target(y), ensure_2d=False, dtype=None, input_name="y")
        if labels.ndim == 2 and labels.shape[1] > 1:
            shares = check_soft_labels(labels)
            refuse_several(labels, column_names(y))
            classes = np.asarray(range(shares.shape[1]) if table is None else table.columns)
        else:
            labels = column_or_1d(labels, warn=True)
            check_classification_targets(labels)
            classes, place = np.unique(labels, return_inverse=True)
            shares = np.eye(len(classes))[place]
        self.answers_ = Answers(classes)
        return shares, weigh_classes(shares, classes, self.class_weight, weight)

    def build(self, width: int) -> nn.Module:  # noqa: D102
        return nn.Linear(width, len(self.answers_.classes))

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:  # noqa: D102
        return cross_entropy(outputs, target, label_smoothing=self.label_smoothing, reduction="none")

    def activation(self) -> nn.Module:  # noqa: D102
        return nn.Softmax(dim=1)

    def strata(self, target: np.ndarray) -> np.ndarray | None:
        """Return the classes of labels that are all certain.

        Parameters
        ----------
        target : ndarray of shape (n, n_classes)
            Shares.

        Returns
        -------
        ndarray of shape (n,), int, or None
        """
        return target.argmax(axis=1) if (target.max(axis=1) == 1).all() else None

    def decode(self, outputs: np.ndarray) -> np.ndarray:  # noqa: D102
        return outputs


class DirichletHead(ClassHead):
    r"""Counts of votes, by the likelihood of a Dirichlet-multinomial distribution.

    .. math:: \ell = -\sum_q \ln p(k_q \mid \alpha_q), \qquad \alpha = 1 + 100\,\sigma(W x + b)

    Parameters
    ----------
    schema : str, VoteSchema or None, default=None
        The questions, by the name of a campaign or as a schema. None makes labels of a 1-D ``y``, one vote each; of
        a 2-D one it reads the questions off a table's columns ``question_answer``, and makes other columns the answers
        to one question.
    dropout : float, default=0.2
        Share of the features that the layer is denied in training.
    class_weight : dict or "balanced", default=None
        Weight of each class, as in scikit-learn, for labels.
    weights : str, path-like or None, default=None
        Checkpoint of Zoobot whose head the layer starts from, as `skastro.ImageEncoder` takes it for the encoder. It
        needs ``head_norm=None`` in the fine-tuner; with ``max_epochs=0`` that gives Zoobot's own answers.

    Attributes
    ----------
    answers_ : Answers
        The questions, and the answers to them.

    See Also
    --------
    skastro.encoders.VoteHead : The layer.

    References
    ----------
    Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning", section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.downstream import DirichletHead
    >>> votes, weight = DirichletHead("gz_rings").encode([[8, 2], [0, 0], [1, 9]], np.ones(3))
    >>> weight.tolist()
    [1.0, 0.0, 1.0]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "schema": [str, VoteSchema, None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "weights": [str, PathLike, None],
    }

    def __init__(
        self,
        schema: str | VoteSchema | None = None,
        *,
        dropout: float = 0.2,
        class_weight: dict[Any, float] | str | None = None,
        weights: str | PathLike[str] | None = None,
    ) -> None:
        self.schema = schema
        self.dropout = dropout
        self.class_weight = class_weight
        self.weights = weights

    def encode(self, y: Any, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: D102
        self._validate_params()
        self.answers_, votes = learn_answers(y, self.schema)
        if self.answers_.schema is None:
            weight = weigh_classes(votes, self.answers_.classes, self.class_weight, weight)
        elif self.class_weight is not None:
            raise ValueError("class_weight is for labels; a galaxy with votes is of no one class.")
        return votes, weigh_votes(votes, weight)

    def build(self, width: int) -> nn.Module:  # noqa: D102
        generator = torch.Generator().manual_seed(int(torch.randint(1 << 62, ())))
        return VoteHead(width, len(self.answers_.classes), generator, self.dropout)

    def start(self, layer: nn.Module) -> bool:  # noqa: D102
        if self.weights is None:
            return False
        weights, head = read_weights(self.weights), re.compile(r"(state_dict/)?head\.(1\.0|linear)\.")
        given = {head.sub("", name): tensor for name, tensor in weights.tensors.items() if head.match(name)}
        pairs = weights.config.get("question_answer_pairs") or {}
        answers = [f"{question}{answer}" for question, these in pairs.items() for answer in these]
        if answers and answers != list(self.answers_.classes):
            raise ValueError(
                f"The head of {weights.source} gives {len(answers)} answers ({', '.join(answers[:3])}, …), the votes "
                f"are for {len(self.answers_.classes)} ({', '.join(map(str, self.answers_.classes[:3]))}, …): choose "
                "schema= to match."
            )
        linear: Any = layer
        check_alike(given, linear.linear.state_dict(), weights.source, "head")
        linear.linear.load_state_dict(given)
        return True

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:  # noqa: D102
        return dirichlet_multinomial_nll(outputs, target, self.answers_.sizes, reduction="none").sum(dim=1)

    def concentrations(self, outputs: np.ndarray) -> np.ndarray:
        r"""Return the concentrations :math:`\alpha`.

        Parameters
        ----------
        outputs : ndarray of shape (n, n_answers), float32
            Of the output layer.

        Returns
        -------
        ndarray of shape (n, n_answers), float64
        """
        return outputs.astype(np.float64)

    def decode(self, outputs: np.ndarray) -> np.ndarray:  # noqa: D102
        return self.answers_.fractions(self.concentrations(outputs))


class LinearHead(ValueHead):
    """Values of one or several properties, by the squared error, each in units of its own scatter.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape () or (n_values,)
        Weighted mean and standard deviation of the values learned from.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.downstream import LinearHead
    >>> LinearHead().encode([3.0, 5.0], np.ones(2))[0].tolist()
    [-1.0, 1.0]
    """

    multi_output: ClassVar[bool] = True

    def encode(self, y: Any, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: D102
        values = check_array(as_target(y), dtype=np.float64, ensure_2d=False, input_name="y")
        warn_of_far_targets(values)
        self.mean_ = np.asarray(np.average(values, axis=0, weights=weight))
        spread = np.sqrt(np.average((values - self.mean_) ** 2, axis=0, weights=weight))
        self.scale_ = np.where(spread > 0, spread, 1.0)
        return (values - self.mean_) / self.scale_, weight

    def build(self, width: int) -> nn.Module:  # noqa: D102
        return nn.Linear(width, self.mean_.size)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:  # noqa: D102
        return mse_loss(outputs.view_as(target), target, reduction="none").reshape(len(target), -1).mean(dim=1)

    def decode(self, outputs: np.ndarray) -> np.ndarray:  # noqa: D102
        return outputs.astype(np.float64).reshape(-1, *self.mean_.shape) * self.scale_ + self.mean_


class RedshiftHead(ValueHead):
    """Redshifts, by the cross-entropy over their bins: a distribution for each.

    Parameters
    ----------
    bins : RedshiftBins, default=None
        The bins, and what a distribution over them says; None is ``RedshiftBins()``.

    Attributes
    ----------
    bins_ : RedshiftBins
        Those in use.

    References
    ----------
    Hayat et al. (2021), section 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.downstream import RedshiftBins, RedshiftHead
    >>> RedshiftHead(RedshiftBins(4)).encode([0.05, 0.1, 0.4], np.ones(3))[0].tolist()
    [0, 1, 3]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"bins": [RedshiftBins, None]}

    def __init__(self, bins: RedshiftBins | None = None) -> None:
        self.bins = bins

    def encode(self, y: Any, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: D102
        self._validate_params()
        self.bins_ = RedshiftBins() if self.bins is None else clone(self.bins)
        return self.bins_.digitize(as_target(y)), weight

    def build(self, width: int) -> nn.Module:  # noqa: D102
        return nn.Linear(width, self.bins_.n_bins)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:  # noqa: D102
        return cross_entropy(outputs, target.long(), reduction="none")

    def activation(self) -> nn.Module:  # noqa: D102
        return nn.Softmax(dim=1)

    def decode(self, outputs: np.ndarray) -> np.ndarray:  # noqa: D102
        pdf, _ = self.pdf(outputs)
        return self.bins_.estimate(pdf)

    def pdf(self, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the distribution of each redshift.

        Parameters
        ----------
        outputs : ndarray of shape (n, n_bins), float32
            After the softmax.

        Returns
        -------
        pdf : ndarray of shape (n, n_bins), float64
            Probability of each bin.
        edges : ndarray of shape (n_bins + 1,)
            Where bins begin and end.
        """
        pdf = outputs.astype(np.float64)
        return pdf / pdf.sum(axis=1, keepdims=True), self.bins_.edges

    def interval(self, outputs: np.ndarray, level: float) -> np.ndarray:
        """Compute the central interval of each redshift.

        Parameters
        ----------
        outputs : ndarray of shape (n, n_bins), float32
            After the softmax.
        level : float
            Probability inside.

        Returns
        -------
        ndarray of shape (n, 2), float64
        """
        pdf, _ = self.pdf(outputs)
        return self.bins_.interval(pdf, level)


def get_head(head: Any) -> Any:
    """Turn a name into what it stands for; anything else passes through.

    Parameters
    ----------
    head : str, RedshiftBins or Head
        What the user gave.

    Returns
    -------
    Head or RedshiftBins
        ``"redshift-bins"`` is its bins.

    Examples
    --------
    >>> from skastro.downstream.heads import get_head
    >>> get_head("softmax"), get_head("redshift-bins")
    (SoftmaxHead(), RedshiftBins())
    """
    named = {"softmax": SoftmaxHead, "dirichlet": DirichletHead, "linear": LinearHead, "redshift-bins": RedshiftBins}
    return named[head]() if isinstance(head, str) and head in named else head


def as_head(head: Any) -> Any:
    """Turn a name, or bins of redshift, into a head; anything else passes through.

    Parameters
    ----------
    head : str, RedshiftBins or Head
        What the user gave.

    Returns
    -------
    Head

    Examples
    --------
    >>> from skastro.downstream.heads import as_head
    >>> as_head("redshift-bins")
    RedshiftHead(bins=RedshiftBins())
    """
    head = get_head(head)
    return RedshiftHead(head) if isinstance(head, RedshiftBins) else head


def weigh_classes(
    shares: np.ndarray, classes: np.ndarray, class_weight: dict[Any, float] | str | None, weight: np.ndarray
) -> np.ndarray:
    """Multiply the weight of each row by that of the class with the largest share.

    Parameters
    ----------
    shares : ndarray of shape (n, n_classes)
        Of each class.
    classes : ndarray of shape (n_classes,)
        Their labels.
    class_weight : dict, "balanced" or None
        Weight of each class, as in scikit-learn; balanced by the weights of their rows.
    weight : ndarray of shape (n,)
        Of each row.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ValueError
        If no weight is left.
    """
    label = shares.argmax(axis=1)
    present, index = np.unique(label, return_inverse=True)  # a soft class may have the largest share nowhere
    if class_weight == "balanced":
        total = np.bincount(index, weight)
        factors = np.divide(weight.sum(), np.count_nonzero(total) * total, out=np.zeros_like(total), where=total > 0)
    else:
        factors = compute_class_weight(class_weight, classes=classes[present], y=classes[label])
    weight = weight * factors[index]
    if not weight.any():
        raise ValueError("class_weight gives every row the weight 0: there is nothing to learn from.")
    return weight
