"""Fine-tuned answers: classes, soft labels, votes, values, redshifts."""

from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import RegressorMixin, clone
from sklearn.utils import Tags, check_array, column_or_1d, compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from skastro.augment import Augment
from skastro.downstream.dirichlet import VoteClassifierMixin, predicts_votes
from skastro.downstream.photoz import RedshiftBins
from skastro.downstream.tuning import FineTuner
from skastro.encoders import VoteHead
from skastro.losses import dirichlet_multinomial_nll
from skastro.surveys import Survey
from skastro.training import Training
from skastro.votes import VoteSchema

__all__ = ["FineTuneClassifier", "FineTuneRegressor"]


class FineTuneClassifier(VoteClassifierMixin, FineTuner):
    r"""Classify images, or predict how volunteers vote on them, with an encoder and a head, trained together.

    ``head="softmax"`` minimizes the weighted cross-entropy of hard labels, or of soft ones such as vote fractions.
    ``head="dirichlet"`` takes counts of votes and gives every galaxy a Dirichlet distribution over the answers to each
    question: its loss is that of :class:`DirichletClassifier`, whose answers it has too.

    Parameters
    ----------
    encoder : str, ImageEncoder, nn.Module, embedder or FrozenEstimator, default="resnet18"
        Where the weights come from: ``FrozenEstimator(embedder)`` is a fitted embedder, used as it is and never
        changed; a bare embedder is cloned and fitted on the images first; a timm name, a specification or a module
        is trained from random weights (a module: from its own), the "direct" baseline.
    head : {"softmax", "dirichlet"}, default="softmax"
        What the network ends in.
    schema : str, VoteSchema or None, default=None
        For ``head="dirichlet"``: the questions, by the name of a campaign or as a schema. None makes labels of a 1-D
        ``y``, one vote each, and the answers to one question of the columns of a 2-D one.
    dropout : float, default=0.2
        For ``head="dirichlet"``: share of the features that the head is denied in training.
    n_layers : int or "all", default="all"
        Blocks of the encoder that are trained, counted from the head down; 0 is a linear probe.
    layer_decay : float, default=1.0
        :math:`\rho`: the i-th block from the head, from 0, learns at the encoder's rate times :math:`\rho^i`.
    encoder_lr : float, default=None
        Rate of the encoder's last block; None is `lr`.
    batch_norm : {"eval", "train"}, default="eval"
        Whether frozen blocks use and keep their batch-norm statistics, or use each batch's and go on updating them.
    augment : str, Augment or None, default="auto"
        Recipe of the training rows: ``"auto"`` is ``"supervised"`` for images, applied to raw flux, and none for other
        modalities. Without one, what frozen blocks give is computed once,
        if no later layer looks around them, as ``pool="stages"`` does.
    survey : str, Survey or None, default=None
        What the bands and pixels mean. An embedder brings its own, as it does the next three.
    size : int, default=None
        Side in pixels of the central window that the encoder sees; None is the whole cutout.
    image_shape : tuple of int, default=None
        ``(bands, height, width)`` of 2-D rows; None makes a row an image of one line.
    normalize : {"standard", "asinh"} or None, default="standard"
        Per band, learned in `fit`: standardize; divide by the noise, take asinh, then standardize; or neither.
    average : {"dihedral"}, int or None, default=None
        Average the answers over the eight flips and quarter turns, or over that many rotations.
    class_weight : dict or "balanced", default=None
        Weight of each class, as in scikit-learn; for soft labels, of the class with the largest share. Not for counts
        of votes.
    label_smoothing : float, default=0.0
        For ``head="softmax"``: share of each label that is spread evenly over all classes.
    early_stopping : bool, default=False
        Hold out some rows, stop when their loss no longer falls, and restore the best epoch.
    validation_fraction : float, default=0.1
        How many rows early stopping holds out, of those with a weight and votes; by class for the hard labels of a
        softmax.
    n_iter_no_change : int, default=10
        Epochs without a new lowest loss after which early stopping stops.
    max_epochs : int or "auto", default="auto"
        Passes over the images; ``"auto"`` shows about 32,000, within 1,000 steps, in ten passes at least.
    batch_size : int, default=64
        Largest batch, in training and when asked.
    lr : float, default=2.5e-4
        Peak learning rate of the head.
    training : Training, default=None
        The rarer knobs: optimizer, schedules (cosine or milestones), precision, callbacks.
    device : str, default="auto"
        Torch device; ``"auto"`` is CUDA when there.
    verbose : int, default=0
        1 shows a progress bar with loss, learning rate, images per second and time left.
    random_state : int, RandomState instance or None, default=None
        An int makes `fit` repeat bit for bit on the same machine, versions, threads and precision.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels; of soft ones and of votes the column names or numbers.
    schema_ : VoteSchema or None
        The questions in use; None for labels.
    encoder_ : nn.Module
        The tuned encoder, on the CPU.
    head_ : nn.Module
        Layer norm and linear layer; for votes, layer norm and :class:`~skastro.encoders.VoteHead`.
    learning_rates_ : dict of str to float
        Peak learning rate of the head and of each trained block, from the head down.
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss``, ``lr``, ``images_per_s``, ``embedding_std``, ``effective_rank``, and ``validation_loss`` under
        early stopping.
    normalizer_, augment_, survey_, image_shape_, size_, provenance_, n_features_in_
        As an embedder has them.

    See Also
    --------
    sklearn.linear_model.LogisticRegression : The linear probe of choice on ``embedder.transform(images)``.
    DirichletClassifier : Votes from rows of numbers, such as embeddings.

    Notes
    -----
    Where the published code of Slijepcevic et al. (2023) errs, this does not: it takes the softmax once, frozen
    blocks keep their batch-norm statistics unless asked not to, and the best epoch is restored from a copy. Its head
    has a batch norm in the place of the layer norm, its table 4 is ``lr=2.5e-4, batch_size=64, layer_decay=0.75,
    max_epochs=300, training=Training(weight_decay=0.005)`` with ``augment="radio-finetune"``. Hayat et al. (2021) give
    the encoder a tenth of the head's rate: ``lr=1e-3, encoder_lr=1e-4, layer_decay=1.0,
    training=Training(schedule="milestones")``.

    The head of votes is that of Walmsley et al. (2022), concentrations from 1 to 101 behind the dropout, with a layer
    norm before it. ``average`` averages concentrations.

    References
    ----------
    Slijepcevic et al. (2023), section 4 and tables 2 and 4; Hayat et al. (2021), section 3; Walmsley et al. (2022),
    section 3, for votes.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.frozen import FrozenEstimator
    >>> from skastro import BYOLEmbedder, FineTuneClassifier
    >>> images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    >>> embedder = BYOLEmbedder("test_resnet", max_epochs=1, batch_size=4, random_state=0).fit(images)
    >>> model = FineTuneClassifier(
    ...     FrozenEstimator(embedder), n_layers=2, layer_decay=0.75, max_epochs=1, random_state=0
    ... )
    >>> model.fit(images, ["FRI", "FRII"] * 4).predict_proba(images).shape
    (8, 2)
    >>> model.learning_rates_
    {'head': 0.00025, 'network.layer4': 0.00025, 'network.layer3': 0.0001875}

    Votes, with error bars:

    >>> votes = [[8, 2], [1, 9]] * 4
    >>> model = FineTuneClassifier("test_resnet", head="dirichlet", schema="gz_rings", max_epochs=1, random_state=0)
    >>> model.fit(images, votes).predict_proba(images).shape
    (8, 2)
    >>> model.predict_interval(images, level=0.9).shape
    (8, 2, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = FineTuner._parameter_constraints | {
        "head": [StrOptions({"softmax", "dirichlet"})],
        "schema": [str, VoteSchema, None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        encoder: Any = "resnet18",
        *,
        head: str = "softmax",
        schema: str | VoteSchema | None = None,
        dropout: float = 0.2,
        n_layers: int | str = "all",
        layer_decay: float = 1.0,
        encoder_lr: float | None = None,
        batch_norm: str = "eval",
        augment: str | Augment | None = "auto",
        survey: str | Survey | None = None,
        size: int | None = None,
        image_shape: tuple[int, int, int] | None = None,
        normalize: str | None = "standard",
        average: str | int | None = None,
        class_weight: dict[Any, float] | str | None = None,
        label_smoothing: float = 0.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        max_epochs: int | str = "auto",
        batch_size: int = 64,
        lr: float = 2.5e-4,
        training: Training | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.encoder = encoder
        self.head = head
        self.schema = schema
        self.dropout = dropout
        self.n_layers = n_layers
        self.layer_decay = layer_decay
        self.encoder_lr = encoder_lr
        self.batch_norm = batch_norm
        self.augment = augment
        self.survey = survey
        self.size = size
        self.image_shape = image_shape
        self.normalize = normalize
        self.average = average
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.training = training
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, ivar: Any = None, votes: Any = None) -> Self:
        """Train on images with labels or votes.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images.
        y : array-like of shape (n,) or (n, n_classes)
            Labels, or soft labels: rows of shares, which are scaled to sum to 1. For ``head="dirichlet"`` labels, or
            how many volunteers gave each answer: an array with the columns of the schema in its order, or a DataFrame
            with these columns in any order, and zeros where nobody was asked. Images without any vote are ignored.
        sample_weight : array-like of shape (n,), default=None
            Weight of each image in the loss, such as its number of votes for soft labels; counts of votes count by
            themselves.

        Returns
        -------
        FineTuneClassifier
            Itself. Ctrl-C keeps what was learned before it stops.

        Raises
        ------
        ValueError
            If a parameter, the images or the labels cannot be used (continuous labels in one column, votes that are
            negative, fractional or under other columns, more layers than the encoder has, an embedder of other bands);
            nothing has been trained then.

        Warns
        -----
        UserWarning
            If there are votes for a question whose parent nobody answered so: how many.
        """
        return self._fit(X, y, sample_weight, ivar=ivar, votes=votes)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # after the few steps of scikit-learn's checks
        return tags

    def _concentrations(self, X: Any) -> np.ndarray:
        return self._answers(X, nn.Identity()).astype(np.float64)

    def _fractions(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        if predicts_votes(self):
            return self._expected(self._concentrations(X))
        return self._answers(X, nn.Softmax(dim=1))

    def _encode(self, y: Any, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        self._head = self.head
        return self._encode_votes(y, weight) if self.head == "dirichlet" else self._encode_labels(y, weight)

    def _encode_votes(self, y: Any, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        if self.label_smoothing:
            raise ValueError("label_smoothing is for head='softmax'; votes bring their own shares.")
        votes = self._learn_votes(y)
        if self.schema_ is None:
            weight = self._weigh_classes(votes.argmax(axis=1), weight)
        elif self.class_weight is not None:
            raise ValueError("class_weight is for labels; a galaxy with votes is of no one class.")
        return votes, self._weigh_votes(votes, weight), votes.shape[1]

    def _encode_labels(self, y: Any, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        if self.schema is not None:
            raise ValueError("schema is for head='dirichlet'; a softmax has one question.")
        self.schema_, self._is_table = None, False
        labels = check_array(y, ensure_2d=False, dtype=None, input_name="y")
        if labels.ndim == 2 and labels.shape[1] > 1:
            target = check_soft_labels(labels)
            self.classes_ = np.asarray(getattr(y, "columns", range(target.shape[1])))
            label = target.argmax(axis=1)
        else:
            y = column_or_1d(labels, warn=True)
            check_classification_targets(y)
            self.classes_, label = np.unique(y, return_inverse=True)
            target = label
        return target, self._weigh_classes(label, weight), len(self.classes_)

    def _weigh_classes(self, label: np.ndarray, weight: np.ndarray) -> np.ndarray:
        present, index = np.unique(label, return_inverse=True)  # a soft class may have the largest share nowhere
        class_weight = compute_class_weight(self.class_weight, classes=self.classes_[present], y=self.classes_[label])
        weight = weight * class_weight[index]
        if not weight.any():
            raise ValueError("class_weight gives every row the weight 0: there is nothing to learn from.")
        return weight

    def _build_output(self, width: int, out: int) -> nn.Module:
        if predicts_votes(self):
            return VoteHead(width, out, torch.Generator().manual_seed(int(torch.randint(1 << 62, ()))), self.dropout)
        return nn.Linear(width, out)

    def _loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        if predicts_votes(self):
            return dirichlet_multinomial_nll(outputs, target, self._sizes, reduction="none").sum(dim=1)
        target = target.long() if target.ndim == 1 else target
        return cross_entropy(outputs, target, label_smoothing=self.label_smoothing, reduction="none")


def check_soft_labels(y: Any) -> np.ndarray:
    """Scale rows of shares to sum to 1.

    Parameters
    ----------
    y : array-like of shape (n, n_classes)
        Shares, such as votes; none negative, and some in each row.

    Returns
    -------
    ndarray of shape (n, n_classes), float64

    Raises
    ------
    ValueError
        Naming the first row that has a negative share, or none.
    """
    shares = check_array(y, dtype=np.float64, input_name="y")
    bad = (shares < 0).any(axis=1) | (shares.sum(axis=1) == 0)
    if bad.any():
        raise ValueError(
            f"Soft labels are rows of shares, none negative and some in each row; {bad.sum()} rows of y are not, "
            f"the first is row {bad.argmax()}."
        )
    return shares / shares.sum(axis=1, keepdims=True)


def get_head(head: str | RedshiftBins) -> str | RedshiftBins:
    """Turn ``"redshift-bins"`` into its specification; anything else passes through.

    Parameters
    ----------
    head : str or RedshiftBins
        What the user gave.

    Returns
    -------
    str or RedshiftBins
    """
    return RedshiftBins() if head == "redshift-bins" else head


def _predicts_redshifts(model: "FineTuneRegressor") -> bool:
    return isinstance(getattr(model, "bins_", get_head(model.head)), RedshiftBins)


class FineTuneRegressor(RegressorMixin, FineTuner):
    r"""Estimate values from images with an encoder and a head, trained together.

    ``head="linear"`` minimizes the squared error of the standardized values. ``head="redshift-bins"`` minimizes the
    cross-entropy over bins of redshift and gives a distribution; see `skastro.downstream.RedshiftBins`.

    Parameters
    ----------
    encoder : str, ImageEncoder, nn.Module, embedder or FrozenEstimator, default="resnet18"
        Where the weights come from: ``FrozenEstimator(embedder)`` is a fitted embedder, used as it is and never
        changed; a bare embedder is cloned and fitted on the images first; a timm name, a specification or a module
        is trained from random weights (a module: from its own), the "direct" baseline.
    head : {"linear", "redshift-bins"} or RedshiftBins, default="linear"
        What the network ends in; ``"redshift-bins"`` is shorthand for ``RedshiftBins()``.
    n_layers : int or "all", default="all"
        Blocks of the encoder that are trained, counted from the head down; 0 is a linear probe.
    layer_decay : float, default=1.0
        :math:`\rho`: the i-th block from the head, from 0, learns at the encoder's rate times :math:`\rho^i`.
    encoder_lr : float, default=None
        Rate of the encoder's last block; None is `lr`.
    batch_norm : {"eval", "train"}, default="eval"
        Whether frozen blocks use and keep their batch-norm statistics, or use each batch's and go on updating them.
    augment : str, Augment or None, default="auto"
        Recipe of the training rows: ``"auto"`` is ``"supervised"`` for images, applied to raw flux, and none for other
        modalities. Without one, what frozen blocks give is computed once,
        if no later layer looks around them, as ``pool="stages"`` does.
    survey : str, Survey or None, default=None
        What the bands and pixels mean. An embedder brings its own, as it does the next three.
    size : int, default=None
        Side in pixels of the central window that the encoder sees; None is the whole cutout.
    image_shape : tuple of int, default=None
        ``(bands, height, width)`` of 2-D rows; None makes a row an image of one line.
    normalize : {"standard", "asinh"} or None, default="standard"
        Per band, learned in `fit`: standardize; divide by the noise, take asinh, then standardize; or neither.
    average : {"dihedral"}, int or None, default=None
        Average the answers over the eight flips and quarter turns, or over that many rotations.
    early_stopping : bool, default=False
        Hold out some rows, stop when their loss no longer falls, and restore the best epoch.
    validation_fraction : float, default=0.1
        How many rows early stopping holds out; by class for hard labels.
    n_iter_no_change : int, default=10
        Epochs without a new lowest loss after which early stopping stops.
    max_epochs : int or "auto", default="auto"
        Passes over the images; ``"auto"`` shows about 32,000, within 1,000 steps, in ten passes at least.
    batch_size : int, default=64
        Largest batch, in training and when asked.
    lr : float, default=2.5e-4
        Peak learning rate of the head.
    training : Training, default=None
        The rarer knobs: optimizer, schedules (cosine or milestones), precision, callbacks.
    device : str, default="auto"
        Torch device; ``"auto"`` is CUDA when there.
    verbose : int, default=0
        1 shows a progress bar with loss, learning rate, images per second and time left.
    random_state : int, RandomState instance or None, default=None
        An int makes `fit` repeat bit for bit on the same machine, versions, threads and precision.

    Attributes
    ----------
    bins_ : RedshiftBins or None
        The bins in use; None for ``head="linear"``.
    encoder_ : nn.Module
        The tuned encoder, on the CPU.
    head_ : nn.Module
        Layer norm and linear layer.
    learning_rates_ : dict of str to float
        Peak learning rate of the head and of each trained block, from the head down.
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss``, ``lr``, ``images_per_s``, ``embedding_std``, ``effective_rank``, and ``validation_loss`` under
        early stopping.
    normalizer_, augment_, survey_, image_shape_, size_, provenance_, n_features_in_
        As an embedder has them.

    See Also
    --------
    skastro.PhotoZRegressor : Redshifts from rows of numbers, such as embeddings.

    References
    ----------
    Hayat et al. (2021), section 3.3: 180 bins, the head at 1e-3 and the encoder at 1e-4.

    Examples
    --------
    >>> from skastro import FineTuneRegressor
    >>> from skastro.datasets import make_survey
    >>> sky = make_survey(16, size=32, random_state=0)
    >>> model = FineTuneRegressor("test_resnet", head="redshift-bins", survey="sdss", max_epochs=1, random_state=0)
    >>> model.fit(sky.images, sky.redshift).predict(sky.images).shape
    (16,)
    >>> pdf, edges = model.predict_pdf(sky.images)
    >>> pdf.shape, edges.shape
    ((16, 180), (181,))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = FineTuner._parameter_constraints | {
        "head": [StrOptions({"linear", "redshift-bins"}), RedshiftBins],
    }
    _shorthand: ClassVar[dict[str, Callable[[Any], Any]]] = FineTuner._shorthand | {"head": get_head}

    bins_: Any

    def __init__(
        self,
        encoder: Any = "resnet18",
        *,
        head: str | RedshiftBins = "linear",
        n_layers: int | str = "all",
        layer_decay: float = 1.0,
        encoder_lr: float | None = None,
        batch_norm: str = "eval",
        augment: str | Augment | None = "auto",
        survey: str | Survey | None = None,
        size: int | None = None,
        image_shape: tuple[int, int, int] | None = None,
        normalize: str | None = "standard",
        average: str | int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        max_epochs: int | str = "auto",
        batch_size: int = 64,
        lr: float = 2.5e-4,
        training: Training | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ) -> None:
        self.encoder = encoder
        self.head = head
        self.n_layers = n_layers
        self.layer_decay = layer_decay
        self.encoder_lr = encoder_lr
        self.batch_norm = batch_norm
        self.augment = augment
        self.survey = survey
        self.size = size
        self.image_shape = image_shape
        self.normalize = normalize
        self.average = average
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.training = training
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None, ivar: Any = None, votes: Any = None) -> Self:
        """Train on images with known values.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images.
        y : array-like of shape (n,) or (n, n_outputs)
            Values, of one or several properties; for ``head="redshift-bins"`` redshifts, where those outside the bins
            are clipped with one warning.
        sample_weight : array-like of shape (n,), default=None
            Weight of each image in the loss.

        Returns
        -------
        FineTuneRegressor
            Itself. Ctrl-C keeps what was learned before it stops.

        Raises
        ------
        ValueError
            If a parameter, the images or the values cannot be used (NaN, more layers than the encoder has, an embedder
            of other bands); nothing has been trained then.
        """
        return self._fit(X, y, sample_weight, ivar=ivar, votes=votes)

    def predict(self, X: Any) -> np.ndarray:
        """Estimate the values.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images.

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
        """
        if _predicts_redshifts(self):
            pdf, _ = self.predict_pdf(X)
            return self.bins_.estimate(pdf)
        return self._answers(X, nn.Identity()).reshape(-1, *self._mean.shape) * self._std + self._mean

    @available_if(_predicts_redshifts)
    def predict_pdf(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Give the distribution of each redshift, for ``head="redshift-bins"``.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images.

        Returns
        -------
        pdf : ndarray of shape (n, n_bins)
            Probability of each bin.
        edges : ndarray of shape (n_bins + 1,)
            Where bins begin and end.
        """
        pdf = self._answers(X, nn.Softmax(dim=1)).astype(np.float64)
        return pdf / pdf.sum(axis=1, keepdims=True), self.bins_.edges

    @available_if(_predicts_redshifts)
    def predict_interval(self, X: Any, level: float = 0.68) -> np.ndarray:
        """Give the central interval of each redshift, for ``head="redshift-bins"``.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images.
        level : float, default=0.68
            Probability inside.

        Returns
        -------
        ndarray of shape (n, 2)
        """
        return self.bins_.interval(self.predict_pdf(X)[0], level)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # after the few steps of scikit-learn's checks
        tags.target_tags.multi_output = not _predicts_redshifts(self)
        return tags

    def _encode(self, y: Any, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        head = get_head(self.head)
        self.bins_ = clone(head) if isinstance(head, RedshiftBins) else None
        if self.bins_ is not None:
            return self.bins_.digitize(y), weight, self.bins_.n_bins
        values = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
        self._mean = np.average(values, axis=0, weights=weight)
        spread = np.sqrt(np.average((values - self._mean) ** 2, axis=0, weights=weight))
        self._std = np.where(spread > 0, spread, 1.0)
        return (values - self._mean) / self._std, weight, values[0].size

    def _build_output(self, width: int, out: int) -> nn.Module:
        return nn.Linear(width, out)

    def _loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        if _predicts_redshifts(self):
            return cross_entropy(outputs, target.long(), reduction="none")
        return mse_loss(outputs.view_as(target), target, reduction="none").reshape(len(target), -1).mean(dim=1)
