"""Images as a modality: how pixels come in, and what an image embedder is."""

import copy
from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import field
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skastro._docs import documented
from skastro._warning import warn
from skastro.augment import Augment, MultiView, get_recipe, one_recipe
from skastro.augment.views import OneView, Views, orientations
from skastro.base import BaseEmbedder, constructed, fitting, provenance
from skastro.encoders import ImageEncoder, Normalizer, get_encoder
from skastro.images import check_image_shape, check_shape, fold, fold_ivar, scaled_ivar, warn_of_unfolded
from skastro.inputs import as_array, as_rows, check_rows
from skastro.missing import refuse_ivar_as_y
from skastro.modalities.base import Modality, TrainedModality
from skastro.pixels import Pixels, check_pixels, learn_pixels
from skastro.sources import Source
from skastro.stretches import Stretch
from skastro.surveys import Survey, get_survey
from skastro.training import Training

__all__ = ["IMAGE_CONSTRAINTS", "ImageEmbedder", "ImageModality"]

RAGGED = "cut or pad them to one size, with the same bands"

IMAGE_CONSTRAINTS: dict[str, list[Any]] = {
    "encoder": [str, ImageEncoder, nn.Module],
    "survey": [str, Survey, None],
    "size": [Interval(Integral, 1, None, closed="left"), None],
    "image_shape": [tuple, list, None],
    "bands_axis": [Options(Integral, {-1, 1}), None],
    "normalize": [StrOptions({"standard", "asinh"}), Stretch, None],
    "average": [StrOptions({"dihedral"}), Interval(Integral, 1, None, closed="left"), None],
}


class ImageModality(BaseEmbedder, Modality):
    """Base of every estimator that embeds images: pixels in, one row of features per image out.

    Its parameters are ``encoder``, ``survey``, ``size``, ``image_shape``, ``bands_axis``, ``normalize`` and
    ``average``.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = BaseEmbedder._parameter_constraints | IMAGE_CONSTRAINTS
    _shorthand: ClassVar[dict[str, Callable[[Any], Any]]] = BaseEmbedder._shorthand | {
        "encoder": get_encoder,
        "survey": get_survey,
    }
    unit: ClassVar[str] = "images"

    normalizer_: dict[str, np.ndarray]
    survey_: Survey | None
    image_shape_: tuple[int, int, int]
    size_: tuple[int, int]
    bands_axis: int | None = None  # also of a subclass whose constructor does not offer it
    provenance_: dict[str, Any]

    def transform(self, X: Any) -> np.ndarray:
        """Embed images, each on its own.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images; a memory map or a source on disk is read batch by batch. With ``bands_axis=-1`` the bands are
            its last axis.

        Returns
        -------
        ndarray of shape (n, d), float32

        Raises
        ------
        ValueError
            If the bands are not those learned, the images are smaller than what the encoder sees, or pixels are
            NaN or infinite.

        Warns
        -----
        UserWarning
            If images have pixels far outside what was learned: with their number and the first. They are bounded.
        """
        check_is_fitted(self)
        return self._inference().mean(self.encoder_, self.orientations(self.average), self.inputs(X))

    def inputs(self, X: Any, mask: np.ndarray | None = None, *, reset: bool = False, **metadata: Any) -> dict[str, Any]:
        """Fold images; those to learn from (reset) are checked whole, others for their shape, and when they are read.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images.
        mask : ndarray of bool of shape (n,), default=None
            True for the images that are present.
        reset : bool, default=False
            Learn shape, survey and band statistics from these images.
        **metadata : array-like
            None is taken.

        Returns
        -------
        dict of str to ndarray
            ``images`` of shape (n, bands, height, width), which reading refuses or bounds: see `Pixels`.

        Raises
        ------
        ValueError
            If the images cannot be used, or are not like those learned.
        """
        images = self._check_images(X, reset)
        if reset:
            self._learn_pixels(images)
        told = reset and not isinstance(images, Source)  # of which only a sample was looked at
        return {"images": Pixels(images, self.normalizer_, mask, told)}

    def check_training(self, arrays: dict[str, Any]) -> None:
        """Refuse NaN and infinite pixels, and images that are all constant; warn of those that are far outside.

        Parameters
        ----------
        arrays : dict of str to Pixels
            ``images``.
        """
        check_pixels(arrays["images"])
        arrays["images"].report()

    def view(self, recipe: Augment | None = None, generator: torch.Generator | None = None) -> Any:
        """Make the module from raw images to what the encoder sees: cropped or augmented, then normalized.

        Parameters
        ----------
        recipe : Augment, default=None
            Fitted augmentation; None shows the central window.
        generator : torch.Generator, default=None
            Source of randomness of the recipe.

        Returns
        -------
        nn.Module
        """
        if recipe is None:
            return self.orientations(None)[0]
        return Views([(recipe, self.size_)], self._normalizer(), generator or torch.default_generator)

    def orientations(self, average: str | int | None, recipe: Augment | None = None) -> list[Any]:
        """List the views over which outputs are averaged: flips and turns of the sky.

        Parameters
        ----------
        average : {"dihedral"}, int or None
            Symmetries to average over.
        recipe : Augment, default=None
            Recipe of the training, whose edge a rotation brings in; None is the embedder's own.

        Returns
        -------
        list of nn.Module
        """
        recipe = recipe or getattr(self, "augment_", None) or Augment()
        normalizer = self._normalizer()
        return [OneView(orientation, normalizer) for orientation in orientations(self.size_, average, recipe.edge)]

    def check_options(self, augment: Any = "auto", average: str | int | None = None) -> None:
        """Refuse a recipe that is unknown, or has one for each view.

        Parameters
        ----------
        augment : str, Augment or None, default="auto"
            Recipe that the user gave.
        average : str, int or None, default=None
            Symmetries to average over, which images have.
        """
        one_recipe(augment)

    def fit_recipe(self, augment: Any, arrays: dict[str, np.ndarray]) -> Augment | None:
        """Fit an augmentation (noise, extinction) on the training images.

        Parameters
        ----------
        augment : str, Augment or None
            Recipe; ``"auto"`` is ``"supervised"``, None draws nothing.
        arrays : dict of str to ndarray
            ``images``.

        Returns
        -------
        Augment
        """
        recipe = one_recipe(augment)
        return recipe.fit(arrays["images"], self.survey_, self.normalizer_["noise"], self.size_)

    def build_encoder(self) -> nn.Module:
        """Make the encoder for images of the shape learned, with random weights.

        Returns
        -------
        nn.Module
        """
        if isinstance(self._spec, nn.Module):
            return copy.deepcopy(self._spec)
        scale = self.survey_.pixel_scale if self.survey_ else None
        return self._spec.architecture(self.image_shape_[0], self.size_, scale)

    def start_encoder(self) -> nn.Module:
        """Make the encoder that training starts from, with the weights that its specification names.

        Returns
        -------
        nn.Module
        """
        encoder = self.build_encoder()
        if isinstance(self._spec, ImageEncoder) and (weights := self._spec.load(encoder)):
            self.provenance_["weights"] = weights
        return encoder

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _normalizer(self) -> nn.Module:
        """Make the module between the views and the encoder: as measured, or a fixed stretch."""
        if self._stretch is None:
            return Normalizer(self.normalizer_)
        return self._stretch.module(self.image_shape_[0], float(self.normalizer_["unit"][0]))

    def _check_images(self, X: Any, reset: bool) -> Any:
        """Fold and check images: at first sight (reset) they are learned from, later they must be alike."""
        if reset and self.image_shape is not None:
            check_image_shape(self.image_shape, self.bands_axis)
        array = check_rows(
            self,
            X if reset else self._as_stack(X),
            reset=reset,
            cure=RAGGED,
            lazy=True,
            dtype="numeric",
            allow_nd=True,
            ensure_all_finite=False,
            ensure_min_samples=2 if reset else 1,
        )
        if reset and array.ndim == 2 and self.image_shape is None:
            warn_of_unfolded(array.shape[1])
        images = fold(array, self.image_shape if reset else self.image_shape_, self.bands_axis)
        if not reset:
            check_shape(images.shape, self.image_shape_[0], self.size_)
            return images
        size = images.shape[2:] if self.size is None else (self.size, self.size)
        check_shape(images.shape, None, size, 1 if array.ndim == 2 else self.bands_axis)
        self.image_shape_, self.size_ = images.shape[1:], size
        if array.ndim > 2:
            self.n_features_in_ = images.shape[1]
            self.__dict__.pop("feature_names_in_", None)  # of an earlier fit to a table
        return images

    def _as_stack(self, X: Any) -> Any:
        """Fold rows of pixels, where the images learned from came as a stack, whose features are its bands."""
        rows, n_pixels = as_rows(X, cure=RAGGED), int(np.prod(self.image_shape_))
        if isinstance(rows, Source) or len(np.shape(rows)) != 2 or self.n_features_in_ == n_pixels:
            return rows
        if rows.shape[1] != n_pixels:
            raise ValueError(f"X of shape {np.shape(rows)} holds no images like those learned, of {self.image_shape_}.")
        bands, *window = self.image_shape_
        return as_array(rows).reshape(-1, *((*window, bands) if self.bands_axis == -1 else (bands, *window)))

    def _learn_pixels(self, images: Any) -> None:
        """Learn what the pixels mean: survey, normalization, provenance."""
        self.survey_ = get_survey(self.survey)
        bands = list(self.survey_.bands) if self.survey_ else None
        if bands is not None and len(bands) != images.shape[1]:
            raise ValueError(f"The survey has {len(bands)} bands ({', '.join(bands)}), X has {images.shape[1]}.")
        self._stretch = clone(self.normalize) if isinstance(self.normalize, Stretch) else None
        self.normalizer_ = learn_pixels(images, None if self._stretch else self.normalize)
        self._normalizer()  # refuses a stretch that does not suit
        self.provenance_ = provenance(
            n_images=len(images),
            image_shape=list(self.image_shape_),
            size=list(self.size_),
            bands=bands,
            survey=self.survey if isinstance(self.survey, str) else None,
            pixel_scale=self.survey_.pixel_scale if self.survey_ else None,
        )
        # Kept, because the parameter may be set anew before this fit is pickled.
        self._spec = clone(get_encoder(self.encoder), safe=False)


@documented
@constructed
class ImageEmbedder(ImageModality, TrainedModality, ABC):
    """Base of every embedder that is trained on images.

    A concrete one has a constructor that only stores and the hook `_objective`; one that learns from more than images
    has a ``fit`` of its own, with that metadata, which calls `_pretrain`.
    """

    encoder: str | ImageEncoder | nn.Module = field(default="resnet10t", kw_only=False)
    augment: str | Augment | MultiView | None = "galaxy"
    survey: str | Survey | None = None
    size: int | None = None
    image_shape: tuple[int, int, int] | None = None
    bands_axis: int | None = None
    normalize: str | None = "standard"
    average: str | int | None = None
    max_epochs: int | str = "auto"
    batch_size: int = 64
    lr: float = 1e-3
    training: Training | None = None
    device: str = "auto"
    verbose: int = 0
    random_state: Any = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = ImageModality._parameter_constraints | {
        "augment": [str, Augment, MultiView, None],
    }
    _shorthand: ClassVar[dict[str, Callable[[Any], Any]]] = ImageModality._shorthand | {"augment": get_recipe}
    _n_views: ClassVar[int | None] = 2  # None: as many as the recipe makes
    # On by default: an inverse variance that is given can mean nothing else.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"ivar": True}

    # Those annotated here and above are described by `skastro._docs.documented`.
    augment_: Augment = field(init=False)
    n_features_in_: int = field(init=False)

    def fit(self, X: Any, y: Any = None, ivar: Any = None) -> Self:
        """Learn from images alone.

        Parameters
        ----------
        X : array-like of shape (n, bands, height, width), (n, height, width) or (n, n_pixels)
            Raw images, flux or 8-bit; a memory map or a source on disk is read batch by batch.
        y : ignored
            Present for scikit-learn; refused if it looks like an inverse variance.
        ivar : array-like of the shape of X, default=None
            Inverse variance of each pixel, in the inverse square of the flux's unit; 0 is a missing pixel. For the
            `skastro.augment.InverseVarianceNoise` of a recipe.

        Returns
        -------
        self
            Ctrl-C keeps what was learned before it stops.

        Raises
        ------
        ValueError
            If a parameter or the images cannot be used; nothing has been trained then.
        """
        refuse_ivar_as_y(y, X)
        return self._pretrain(X, ivar)

    def _views(self) -> list[tuple[Augment, tuple[int, int]]]:
        """List the fitted recipe and the size of each view: two, unless a method compares more or looks at one."""
        views = self.augment_.views(self.size_)
        if self._n_views and len(views) != 2:
            raise ValueError(f"{type(self).__name__} compares two views; augment= makes {len(views)}: set n_local=0.")
        return views[: self._n_views]

    def _pretrain(self, X: Any, ivar: Any, **targets: np.ndarray) -> Self:
        """Fit on images, their inverse variance if the recipe takes it, and targets that go with them row by row."""
        self._check_params()
        with fitting(self):
            arrays = self.inputs(X, reset=True)
            self.augment_ = self._shorthand["augment"](self.augment).fit(
                arrays["images"], self.survey_, self.normalizer_["noise"], self.size_
            )
            views = self._views()
            if ivar is not None:
                targets |= self._check_ivar(ivar, arrays["images"], views)
            normalizer = self._normalizer()
            return self._learn(arrays, lambda generator: Views(views, normalizer, generator), **targets)

    def _check_ivar(self, ivar: Any, images: Pixels, views: Sequence[Any]) -> dict[str, Any]:
        """Return the inverse variance by name if a step of the recipe takes it, and warn if none does."""
        folded = fold_ivar(ivar, images, self.image_shape, self.bands_axis)
        if any("ivar" in recipe.metadata for recipe, _ in views):
            return {"ivar": _in_units(folded, images.unit)}
        warn("ivar is given, but no step of augment= takes it: see InverseVarianceNoise.")
        return {}


def _in_units(ivar: Any, unit: float) -> Any:
    """Scale inverse variances as the images are."""
    if unit == 1:
        return ivar
    return scaled_ivar(ivar, unit**2) if isinstance(ivar, np.ndarray) else ivar * unit**2
