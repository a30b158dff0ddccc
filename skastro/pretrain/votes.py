"""Supervised pretraining: an encoder learns to predict how volunteers vote."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _num_samples
from torch import Tensor, nn

from skastro._docs import documented
from skastro.augment import Augment, MultiView, one_recipe
from skastro.base import constructed, fitting
from skastro.encoders import VoteHead
from skastro.inputs import as_table, as_target
from skastro.losses import dirichlet_multinomial_nll
from skastro.modalities import ImageEmbedder
from skastro.ranks import gather
from skastro.training import Objective
from skastro.votes import VoteSchema, get_schema

__all__ = ["VoteEmbedder", "VotePretraining", "as_votes", "make_vote_head"]


class VotePretraining(Objective):
    """The objective of supervised pretraining; see `skastro.losses.dirichlet_multinomial_nll`.

    Parameters
    ----------
    encoder : nn.Module
        From images to rows of features; trained in place.
    head : nn.Module
        From features to the concentrations of all answers.
    sizes : sequence of int
        Answers of each question.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, sizes: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.sizes = sizes

    def forward(self, view: Tensor, votes: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        view : Tensor of shape (n, bands, height, width)
            One view of each image.
        votes : Tensor of shape (n, n_answers)
            Counts; rows of zeros teach nothing.

        Returns
        -------
        Tensor
            A scalar.
        """
        return dirichlet_multinomial_nll(gather(self.head(self.encoder(view))), gather(votes), self.sizes)


def make_vote_head(width: int, n_answers: int) -> nn.Module:
    """Make the norm and head for votes inside a seeded block, without drawing from the generators that were seeded.

    Parameters
    ----------
    width : int
        Features that come in.
    n_answers : int
        Answers to all questions.

    Returns
    -------
    nn.Module
        From features of any size to concentrations: without the norm, features of a hundred drive the sigmoid into
        its flat ends, where it learns nothing.
    """
    head = VoteHead(width, n_answers, torch.Generator().manual_seed(torch.initial_seed() + 1))
    return nn.Sequential(nn.LayerNorm(width), head)


def as_votes(votes: Any, schema: str | VoteSchema | None, n: int) -> tuple[VoteSchema, np.ndarray]:
    """Turn what the user gave for votes into counts under a schema.

    Parameters
    ----------
    votes : array-like of shape (n, n_answers) or (n,)
        Counts; without a schema also labels, which are one vote each for the answer of that name.
    schema : str, VoteSchema or None
        What the columns mean. None reads it off the names of a table's columns, or off the labels.
    n : int
        Number of images.

    Returns
    -------
    schema : VoteSchema
        A copy.
    counts : ndarray of int of shape (n, n_answers)

    Raises
    ------
    ValueError
        If these are no votes under the schema, or are not as many as the images.

    Examples
    --------
    >>> from skastro.pretrain.votes import as_votes
    >>> schema, counts = as_votes(["FRI", "FRII", "FRI"], None, 3)
    >>> schema.columns
    ['label_FRI', 'label_FRII']
    >>> counts.tolist()
    [[1, 0], [0, 1], [1, 0]]
    """
    if schema is not None:
        known = clone(get_schema(schema))
        return known, known.validate(votes, n)
    labels = check_array(as_target(votes, "votes"), ensure_2d=False, dtype=None, input_name="votes")
    if labels.ndim == 1 or labels.shape[1] == 1:
        return _read_labels(labels.ravel(), n)
    if as_table(votes) is None:
        raise ValueError(f"votes of {labels.shape[1]} columns need schema=, which tells to what questions they belong.")
    known = VoteSchema.from_columns(votes)
    return known, known.validate(votes, n)


def _read_labels(labels: np.ndarray, n: int) -> tuple[VoteSchema, np.ndarray]:
    if len(labels) != n:
        raise ValueError(f"There must be a label for each of the {n} images; got {len(labels)}.")
    check_classification_targets(labels)
    classes, index = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"All labels are of one class, {classes.tolist()[0]!r}: there is nothing to learn.")
    return VoteSchema({"label": [str(label) for label in classes]}), np.eye(len(classes), dtype=np.uint8)[index]


@documented
@constructed
class VoteEmbedder(ImageEmbedder):
    r"""Learn an embedding of images from volunteers' votes.

    A head predicts from the normalized features of each image the concentrations of a Dirichlet distribution for each
    question, and encoder and head are trained together on the likelihood of the votes; see
    `skastro.losses.dirichlet_multinomial_nll`. The head is then left behind.

    Parameters
    ----------
    augment : str, Augment or None, default="supervised"
        Recipe of the one view of each image, applied to raw flux.
    schema : str, VoteSchema or None, default=None
        The questions: a campaign's name, such as ``"gz_decals_dr5"``, or your own. None reads them off the names of
        a table's columns, and makes plain labels one question with one vote each.

    Attributes
    ----------
    schema_ : VoteSchema
        The questions in use.
    history_ : dict of ndarray of shape (n_epochs,)
        ``loss`` (negative log-likelihood in nats, summed over the questions of a galaxy; the mean over the batches, of
        which those without a vote count as 0), ``lr``, ``images_per_s``, ``embedding_std`` and ``effective_rank``.

    See Also
    --------
    HybridBYOLEmbedder : Learn from images without votes too.
    skastro.downstream.FineTuneClassifier : Keep the head, and answer one question.

    Notes
    -----
    This is what the paper calls "Pretrained". Its views are flips, rotations and crops off the center: the default
    recipe, with `size` smaller than the cutouts.

    References
    ----------
    Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning",
    `arXiv:2206.11927 <https://arxiv.org/abs/2206.11927>`_.

    Examples
    --------
    >>> import numpy as np
    >>> from skastro import VoteEmbedder, VoteSchema
    >>> images = np.random.default_rng(0).normal(size=(8, 3, 32, 32))
    >>> schema = VoteSchema({"shape": ["smooth", "featured"], "bar": ["yes", "no"]}, {"bar": ("shape", "featured")})
    >>> votes = [[9, 1, 0, 1], [2, 8, 7, 1]] * 4
    >>> embedder = VoteEmbedder("test_resnet", schema=schema, max_epochs=1, batch_size=4, random_state=0)
    >>> embedder.fit(images, votes=votes).transform(images).shape
    (8, 736)
    """

    augment: str | Augment | MultiView | None = "supervised"
    schema: str | VoteSchema | None = None
    batch_size: int = 128

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageEmbedder._parameter_constraints | {
        "augment": [str, Augment, None],
        "schema": [str, VoteSchema, None],
    }
    _shorthand: ClassVar[dict[str, Callable[[Any], Any]]] = ImageEmbedder._shorthand | {
        "augment": one_recipe,
        "schema": get_schema,
    }
    _n_views: ClassVar[int | None] = 1

    def fit(self, X: Any, y: Any = None, ivar: Any = None, votes: Any = None) -> Self:
        """Learn from images and votes.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images, flux or 8-bit; a memory map is read batch by batch.
        y : array-like of shape (n,) or (n, n_answers), default=None
            What to learn from where `votes` is None.
        ivar : array-like of the shape of X, default=None
            Inverse variance of each pixel, in the inverse square of the flux's unit; 0 is a missing pixel. For the
            `skastro.augment.InverseVarianceNoise` of a recipe.
        votes : array-like of shape (n, n_answers), default=None
            Counts under `schema`, zeros where nobody was asked; a table's columns are found by name. Images that
            have no vote at all only cost time.

        Returns
        -------
        self
            Ctrl-C keeps what was learned before it stops.

        Raises
        ------
        ValueError
            If a parameter, the images or the votes cannot be used (negative, fractional, of other columns than the
            schema's, none at all); nothing has been trained then.
        """
        given = y if votes is None else votes
        if given is None:
            raise ValueError(
                "VoteEmbedder requires y to be passed, but the target y is None, and so are votes. Fine-tuning and "
                "label sweeps keep y for what comes after: give them votes=."
            )
        with fitting(self):
            self.schema_, counts = as_votes(given, self.schema, _num_samples(X))
            if not counts.any():
                raise ValueError(f"votes are zero in all {len(counts)} rows: there is nothing to learn from.")
            return self._pretrain(X, ivar, votes=counts)

    def _objective(self, encoder: nn.Module) -> Objective:
        head = make_vote_head(self._n_features_out, self.schema_.n_answers)
        return VotePretraining(encoder, head, self.schema_.sizes)
