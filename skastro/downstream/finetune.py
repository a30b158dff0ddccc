"""Fine-tuned answers: classes, soft labels, votes, values, redshifts."""

from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skastro._docs import FINE_TUNING, documented
from skastro.base import constructed
from skastro.downstream.answers import Answers, ValueRegressorMixin, VoteClassifierMixin
from skastro.downstream.heads import ClassHead, DirichletHead, Head, SoftmaxHead, ValueHead, as_head, get_head
from skastro.downstream.photoz import RedshiftBins
from skastro.downstream.tuning import FineTuner
from skastro.votes import VoteSchema

__all__ = ["FineTuneClassifier", "FineTuneRegressor"]


def _head_in_use(model: FineTuner) -> Any:
    return getattr(model, "fitted_head_", as_head(model.head))


def _head_has(name: str) -> Callable[[FineTuner], bool]:
    return lambda model: hasattr(_head_in_use(model), name)


@partial(documented, words=FINE_TUNING)
@constructed
class FineTuneClassifier(VoteClassifierMixin, FineTuner):
    r"""Classify images or spectra, or predict how volunteers vote, with an encoder and a head, trained together.

    ``head="softmax"`` minimizes the weighted cross-entropy of hard labels, or of soft ones such as vote fractions.
    ``head="dirichlet"`` takes counts of votes and gives every galaxy a Dirichlet distribution over the answers to each
    question: its loss is that of :class:`DirichletClassifier`, whose answers it has too. Any other
    :class:`~skastro.downstream.ClassHead` will do, your own too.

    Parameters
    ----------
    head : {"softmax", "dirichlet"} or ClassHead, default="softmax"
        What the network ends in. A name stands for :class:`~skastro.downstream.SoftmaxHead` or
        :class:`~skastro.downstream.DirichletHead` with the parameters `schema`, `dropout`, `class_weight` and
        `label_smoothing` from here; a head that is given brings its own.
    schema : str, VoteSchema or None, default=None
        For ``head="dirichlet"``: the questions, by the name of a campaign or as a schema. None makes labels of a 1-D
        ``y``, one vote each; of a 2-D one it reads the questions off a table's columns ``question_answer``, and makes
        other columns the answers to one question.
    dropout : float, default=0.2
        For ``head="dirichlet"``: share of the features that the head is denied in training.
    class_weight : dict or "balanced", default=None
        Weight of each class, as in scikit-learn; for soft labels, of the class with the largest share. Not for counts
        of votes.
    label_smoothing : float, default=0.0
        For ``head="softmax"``: share of each label that is spread evenly over all classes.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels; of soft ones and of votes the column names or numbers.
    schema_ : VoteSchema or None
        The questions in use; None for labels.
    embedder_ : embedder
        What embeds the rows, with the tuned encoder, its ``provenance_`` and what it learned of pixels.
    encoder_ : nn.Module
        The tuned encoder of `embedder_`, on the CPU.
    head_ : nn.Module
        Norm and output layer; for votes the layer is a :class:`~skastro.encoders.VoteHead`.
    fitted_head_ : ClassHead
        The head in use, with what it learned of the labels.
    answers_ : Answers
        What the columns of `predict_proba` stand for; see `skastro.downstream.answers.Answers`.
    learning_rates_ : dict of str to float
        Peak learning rate of the head and of each trained block, from the head down.
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss``, ``lr``, ``images_per_s`` (``samples_per_s`` of what is no image), ``embedding_std``,
        ``effective_rank``, and ``validation_loss`` under early stopping.
    augment_ : Augment or None
        The augmentation in use.
    n_features_in_ : int
        As `embedder_` has it.

    See Also
    --------
    sklearn.linear_model.LogisticRegression : The linear probe of choice on ``embedder.transform(images)``.
    DirichletClassifier : Votes from rows of numbers, such as embeddings.

    Notes
    -----
    Where the published code of Slijepcevic et al. (2023) errs, this does not: it takes the softmax once, frozen
    blocks keep their batch-norm statistics unless asked not to, and the best epoch is restored from a copy. Its head
    is ``head_norm="batch"``, its table 4 is ``lr=2.5e-4, batch_size=64, layer_decay=0.75, max_epochs=300,
    training=Training(weight_decay=0.005)`` with ``augment="radio-finetune"``. Hayat et al. (2021) give
    the encoder a tenth of the head's rate: ``lr=1e-3, encoder_lr=1e-4, layer_decay=1.0,
    training=Training(schedule="milestones")``.

    The head of votes is that of Walmsley et al. (2022), concentrations from 1 to 101 behind the dropout, with a layer
    norm before it. ``average`` averages concentrations.

    References
    ----------
    Slijepcevic et al. (2023), `arXiv:2305.16127 <https://arxiv.org/abs/2305.16127>`_, section 4 and tables 2 and 4;
    Hayat et al. (2021), `arXiv:2012.13083 <https://arxiv.org/abs/2012.13083>`_, section 3; Walmsley et al. (2022),
    `arXiv:2206.11927 <https://arxiv.org/abs/2206.11927>`_, section 3, for votes.

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

    head: str | ClassHead = "softmax"
    schema: str | VoteSchema | None = None
    dropout: float = 0.2
    class_weight: dict[Any, float] | str | None = None
    label_smoothing: float = 0.0

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = FineTuner._parameter_constraints | {
        "head": [StrOptions({"softmax", "dirichlet"}), ClassHead],
        "schema": [str, VoteSchema, None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }
    _shorthand: ClassVar[dict[str, Callable[[Any], Any]]] = FineTuner._shorthand | {"head": get_head}

    def fit(self, X: Any, y: Any, sample_weight: Any = None, ivar: Any = None, votes: Any = None) -> Self:
        """Train on rows with labels or votes.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images, or the flux of spectra.
        y : array-like of shape (n,) or (n, n_classes)
            Labels, or soft labels: rows of shares of one whole, which are scaled to sum to 1. For
            ``head="dirichlet"`` labels, or how many volunteers gave each answer: an array with the columns of the
            schema in its order, or a table with these columns in any order, and zeros where nobody was asked. Images
            without any vote are ignored.
        sample_weight : array-like of shape (n,), default=None
            Weight of each image in the loss, such as its number of votes for soft labels; counts of votes count by
            themselves.
        ivar : array-like of the shape of X, default=None
            Inverse variance, where the encoder's modality takes one, as spectra do; zero is missing.
        votes : array-like of shape (n, n_answers), default=None
            Votes for a bare embedder that learns from them before it is tuned.

        Returns
        -------
        FineTuneClassifier
            Itself. Ctrl-C keeps what was learned before it stops.

        Raises
        ------
        ValueError
            If a parameter, the images or the labels cannot be used (missing or continuous labels in one column, several
            classes or questions in a row of soft labels, votes that are negative, fractional or under other columns,
            more layers than the encoder has, an embedder of other bands); nothing has been trained then.

        Warns
        -----
        UserWarning
            If an embedder has been trained already and is not frozen, so that it is trained anew. If there are votes
            for a question whose parent nobody answered so: how many.
        """
        return self._fit(X, y, sample_weight, ivar=ivar, votes=votes)

    @property
    def answers_(self) -> Answers:  # noqa: D102
        check_is_fitted(self)
        return self.fitted_head_.answers_

    def predict_proba(self, X: Any, asked: bool = False, ivar: Any = None) -> np.ndarray | pd.DataFrame:
        r"""Predict the expected fraction of each answer among those to its question, or the probability of each class.

        .. math:: \hat f_a = \alpha_a / \sum_{b \in q} \alpha_b

        Parameters
        ----------
        X : array-like
            As in `fit`.
        asked : bool, default=False
            Multiply by the probability that a volunteer comes to the question, which turns shares of those who were
            asked into shares of all; see :meth:`skastro.votes.VoteSchema.asked`. Labels are one question, always
            asked.
        ivar : array-like of the shape of X, default=None
            Inverse variance, where the encoder's modality takes one, as spectra do; zero is missing.

        Returns
        -------
        ndarray or DataFrame of shape (n, n_answers)
        """
        outputs = self._outputs(X, ivar=ivar)
        fractions = self.fitted_head_.decode(outputs)
        return self.answers_.as_given(self.answers_.shares(fractions) if asked else fractions, X)

    @available_if(_head_has("concentrations"))
    def predict_concentrations(self, X: Any, ivar: Any = None) -> np.ndarray | pd.DataFrame:
        r"""Predict the Dirichlet concentrations :math:`\alpha`, for a head that has them, such as ``head="dirichlet"``.

        Parameters
        ----------
        X : array-like
            As in `fit`.
        ivar : array-like of the shape of X, default=None
            Inverse variance, where the encoder's modality takes one, as spectra do; zero is missing.

        Returns
        -------
        ndarray or DataFrame of shape (n, n_answers), float64
        """
        outputs = self._outputs(X, ivar=ivar)
        return self.answers_.as_given(self.fitted_head_.concentrations(outputs), X)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # after the few steps of scikit-learn's checks
        return tags

    def _make_head(self) -> Head:
        if isinstance(self.head, ClassHead):
            if changed := self._changed("schema", "dropout", "class_weight", "label_smoothing"):
                kind = type(self.head).__name__
                raise ValueError(
                    f"{changed[0]} cannot be set beside a {kind}, which brings parameters of its own: set "
                    f"head__{changed[0]}. A head__ parameter makes a name such as head='softmax' a head that is given."
                )
            return clone(self.head)
        if self.head == "softmax":
            if self.schema is not None:
                raise ValueError("schema is for head='dirichlet'; a softmax has one question.")
            return SoftmaxHead(class_weight=self.class_weight, label_smoothing=self.label_smoothing)
        if self.label_smoothing:
            raise ValueError("label_smoothing is for head='softmax'; votes bring their own shares.")
        return DirichletHead(self.schema, dropout=self.dropout, class_weight=self.class_weight)


@partial(documented, words=FINE_TUNING)
@constructed
class FineTuneRegressor(ValueRegressorMixin, FineTuner):
    r"""Estimate values from images or spectra with an encoder and a head, trained together.

    ``head="linear"`` minimizes the squared error of the standardized values. ``head="redshift-bins"`` minimizes the
    cross-entropy over bins of redshift and gives a distribution; see `skastro.downstream.RedshiftBins`. Any other
    :class:`~skastro.downstream.ValueHead` will do, your own too.

    Parameters
    ----------
    head : {"linear", "redshift-bins"}, RedshiftBins or ValueHead, default="linear"
        What the network ends in: :class:`~skastro.downstream.LinearHead`, or
        :class:`~skastro.downstream.RedshiftHead` with ``RedshiftBins()`` or the bins given, or the head given.

    Attributes
    ----------
    bins_ : RedshiftBins or None
        The bins in use; None for a head without.
    embedder_ : embedder
        What embeds the rows, with the tuned encoder, its ``provenance_`` and what it learned of pixels.
    encoder_ : nn.Module
        The tuned encoder of `embedder_`, on the CPU.
    head_ : nn.Module
        Norm and output layer.
    fitted_head_ : ValueHead
        The head in use, with what it learned of the values.
    learning_rates_ : dict of str to float
        Peak learning rate of the head and of each trained block, from the head down.
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss``, ``lr``, ``images_per_s`` (``samples_per_s`` of what is no image), ``embedding_std``,
        ``effective_rank``, and ``validation_loss`` under early stopping.
    augment_ : Augment or None
        The augmentation in use.
    n_features_in_ : int
        As `embedder_` has it.

    See Also
    --------
    skastro.downstream.PhotoZRegressor : Redshifts from rows of numbers, such as embeddings.

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

    head: str | RedshiftBins | ValueHead = "linear"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = FineTuner._parameter_constraints | {
        "head": [StrOptions({"linear", "redshift-bins"}), RedshiftBins, ValueHead],
    }
    _shorthand: ClassVar[dict[str, Callable[[Any], Any]]] = FineTuner._shorthand | {"head": get_head}

    def fit(self, X: Any, y: Any, sample_weight: Any = None, ivar: Any = None, votes: Any = None) -> Self:
        """Train on rows with known values.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images, or the flux of spectra.
        y : array-like of shape (n,) or (n, n_outputs)
            Values, of one or several properties; for ``head="redshift-bins"`` redshifts, where those outside the bins
            are clipped with one warning.
        sample_weight : array-like of shape (n,), default=None
            Weight of each image in the loss.
        ivar : array-like of the shape of X, default=None
            Inverse variance, where the encoder's modality takes one, as spectra do; zero is missing.
        votes : array-like of shape (n, n_answers), default=None
            Votes for a bare embedder that learns from them before it is tuned.

        Returns
        -------
        FineTuneRegressor
            Itself. Ctrl-C keeps what was learned before it stops.

        Raises
        ------
        ValueError
            If a parameter, the images or the values cannot be used (missing ones, more layers than the encoder has, an
            embedder of other bands); nothing has been trained then.

        Warns
        -----
        UserWarning
            If an embedder has been trained already and is not frozen, so that it is trained anew.
        """
        return self._fit(X, y, sample_weight, ivar=ivar, votes=votes)

    @property
    def bins_(self) -> RedshiftBins | None:
        """The bins of redshift in use; None for a head without."""
        return getattr(self.fitted_head_, "bins_", None)

    def predict(self, X: Any, ivar: Any = None) -> np.ndarray:
        """Estimate the values.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images, or the flux of spectra.
        ivar : array-like of the shape of X, default=None
            Inverse variance, where the encoder's modality takes one, as spectra do; zero is missing.

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
        """
        outputs = self._outputs(X, ivar=ivar)
        return self.fitted_head_.decode(outputs)

    @available_if(_head_has("pdf"))
    def predict_pdf(self, X: Any, ivar: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Predict the distribution of each redshift, for ``head="redshift-bins"``.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images, or the flux of spectra.
        ivar : array-like of the shape of X, default=None
            Inverse variance, where the encoder's modality takes one, as spectra do; zero is missing.

        Returns
        -------
        pdf : ndarray of shape (n, n_bins)
            Probability of each bin.
        edges : ndarray of shape (n_bins + 1,)
            Where bins begin and end.
        """
        outputs = self._outputs(X, ivar=ivar)
        return self.fitted_head_.pdf(outputs)

    @available_if(_head_has("interval"))
    def predict_interval(self, X: Any, level: float = 0.68, ivar: Any = None) -> np.ndarray:
        """Predict the central interval of each value, for a head that has it, such as ``head="redshift-bins"``.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images, or the flux of spectra.
        level : float, default=0.68
            Probability inside.
        ivar : array-like of the shape of X, default=None
            Inverse variance, where the encoder's modality takes one, as spectra do; zero is missing.

        Returns
        -------
        ndarray of shape (n, 2)
        """
        outputs = self._outputs(X, ivar=ivar)
        return self.fitted_head_.interval(outputs, level)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # after the few steps of scikit-learn's checks
        tags.target_tags.multi_output = getattr(_head_in_use(self), "multi_output", False)
        return tags

    def _make_head(self) -> Head:
        return clone(as_head(self.head))
