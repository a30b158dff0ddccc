"""Docstrings of estimators: what their shared parameters and attributes mean, written once."""

import re
from collections.abc import Iterator
from inspect import Parameter, cleandoc, get_annotations, signature
from typing import TypeVar

__all__ = ["ALIGNMENT", "FINE_TUNING", "SPECTRA", "documented"]

T = TypeVar("T")

PARAMETERS = """\
encoder : str, ImageEncoder or nn.Module
    A timm model name, a specification with stem, pooling and where weights come from, or a module from images to rows
    of features. Weights are random unless the specification names others; nothing is downloaded then.
augment : str, Augment, MultiView or None
    Recipe of the views, applied to raw flux: ``"galaxy"``, ``"radio"``, ``"radio-finetune"`` or your own.
survey : str, Survey or None
    What the bands and pixels mean; checked against the images and kept with the fitted estimator.
size : int
    Side in pixels of the central window that the encoder sees; None is the whole cutout.
image_shape : tuple of int
    ``(bands, height, width)`` of 2-D rows; None makes a row an image of one line, and warns of rows that have as many
    values as a square image.
bands_axis : {1, -1} or None
    -1 if the bands are the last axis of the images, 1 if they come before height and width; None is 1, but refuses
    images whose last axis looks like the bands.
normalize : {"standard", "asinh"}, Stretch or None
    Per band, learned in `fit`, applied after augmentation: standardize; divide by the noise, take asinh, then
    standardize; or neither. A fixed one of `skastro.stretches` learns nothing.
average : {"dihedral"}, int or None
    Average the embedding over the eight flips and quarter turns, or over that many rotations, at `transform`.
hidden_dim : int
    Hidden width of the projector.
projection_dim : int
    Width of the projection in which the loss is taken.
predictor_lr_factor : float
    Factor on the learning rate of the predictor over the encoder's.
early_stopping : bool
    Hold out some rows, stop when their loss no longer falls, and restore the best epoch.
validation_fraction : float
    Share of the rows that early stopping holds out.
n_iter_no_change : int
    Epochs without a new lowest loss after which early stopping stops.
max_epochs : int or "auto"
    Passes over the images; ``"auto"`` shows about 32,000, within 1,000 steps, in ten passes at least; 0 leaves the
    encoder untrained.
batch_size : int
    Largest batch, in training and at `transform`.
lr : float
    Peak learning rate.
training : Training
    Optimizer, schedules, precision, callbacks: the settings that are rarely changed.
device : str
    Torch device; ``"auto"`` is CUDA when there.
verbose : int
    1 shows a progress bar with loss, learning rate, rows per second and time left.
random_state : int, RandomState instance or None
    An int makes `fit` repeat bit for bit on the same machine, versions, threads and precision.
"""

FINE_TUNING = """\
encoder : str, specification, nn.Module, embedder or FrozenEstimator
    Where the weights come from: ``FrozenEstimator(embedder)`` is a fitted embedder of any modality, used as it is and
    never changed; a bare embedder is cloned and fitted to the rows first; a timm name, ``"conv-attention"``, a
    specification or a module is trained from random weights (or its own), the "direct" baseline. An
    embedder of spectra, a :class:`~skastro.encoders.SpectrumEncoder`, a :class:`~skastro.encoders.SpecFormer` or
    ``"conv-attention"`` takes rows as spectra: NaN is missing, and `survey`, `size`, `image_shape`, `bands_axis`,
    `normalize`, `average` and names of recipes are refused.
n_layers : int or "all"
    Blocks of the encoder that are trained, counted from the head down; 0 is a linear probe.
layer_decay : float
    :math:`\\rho`: the i-th block from the head, from 0, learns at the encoder's rate times :math:`\\rho^i`.
encoder_lr : float
    Rate of the encoder's last block; None is `lr`.
batch_norm : {"eval", "train"}
    Whether frozen blocks use and keep their batch-norm statistics, or use each batch's and go on updating them.
head_norm : {"layer", "batch"} or None
    Normalization of the features before the head's own layer.
augment : str, Augment or None
    Recipe of the training rows: ``"auto"`` is ``"supervised"`` for images, applied to raw flux, and none for other
    modalities. Without one, what frozen blocks give is computed once, if no later layer looks around them, as
    ``pool="stages"`` does, and the transformer of spectra, which pools the tokens that count.
survey : str, Survey or None
    What bands and pixels of images mean. An embedder brings its own, as it does the next four.
normalize : {"standard", "asinh"}, Stretch or None
    Per band of images, learned in `fit`: standardize; divide by the noise, take asinh, then standardize; or neither.
average : {"dihedral"}, int or None
    Average the answers over the eight flips and quarter turns of images, or over that many rotations.
max_epochs : int or "auto"
    Passes over the rows; ``"auto"`` shows about 32,000, within 1,000 steps, in ten passes at least.
batch_size : int
    Largest batch, in training and when asked.
lr : float
    Peak learning rate of the head.
"""

ALIGNMENT = """\
max_epochs : int or "auto"
    Passes over the objects; ``"auto"`` shows about 32,000, within 1,000 steps, in ten passes at least.
batch_size : int
    Largest batch, in training and at `transform`; in training it is also the number of objects that each is told apart
    from.
random_state : int, RandomState instance or None
    An int makes `fit` repeat bit for bit on the same machine, versions, threads and precision. A bare embedder
    without a ``random_state`` of its own gets one drawn from it.
"""

SPECTRA = """\
encoder : SpectrumEncoder or None
    Depth, width, heads and tokens of the transformer; None is a small one, ``SpectrumEncoder()``.
floor : float
    Smallest scale that a spectrum is divided by, in units of the median of the training spectra: what is nearly
    constant is not blown up to noise.
max_epochs : int or "auto"
    Passes over the spectra; ``"auto"`` shows about 32,000, within 1,000 steps, in ten passes at least; 0 leaves the
    encoder untrained.
"""

ATTRIBUTES = """\
encoder_ : nn.Module
    The trained encoder, on the CPU.
normalizer_ : dict of ndarray of shape (bands,)
    Measured noise, mean, standard deviation, and softening of the asinh, in units of ``unit``: 1, or a power of ten
    where float32 needs one. In the images' own unit ``center``, ``limit`` and ``bound``: images with a pixel further
    than the limit from the center are far outside, and are bounded.
augment_ : Augment
    The recipe in use.
survey_ : Survey or None
    The survey in use.
image_shape_ : tuple of int
    ``(bands, height, width)`` seen in `fit`.
size_ : tuple of int
    Height and width that the encoder sees.
provenance_ : dict
    Number and shape of the training images, survey, bands, pixel scale (arcsec), library versions.
n_features_in_ : int
    Number of columns of 2-D rows, else of bands.
"""


def documented(cls: type[T], words: str = "") -> type[T]:
    """Complete the docstring of an estimator, which itself describes only what is its own.

    Parameters
    ----------
    cls : type
        Parameters of its constructor that it does not describe get their entry of ``PARAMETERS``, with its defaults;
        attributes that it or a base annotates and that it does not describe get theirs of ``ATTRIBUTES``.
    words : str, default=""
        Entries of a family of classes, which come before those of ``PARAMETERS``.

    Returns
    -------
    type
        The same class.
    """
    summary, *rest = re.split(r"^(\w[\w ]+)\n-+\n", cleandoc(cls.__doc__ or ""), flags=re.MULTILINE)
    sections = {"Parameters": "", "Attributes": ""} | dict(zip(rest[::2], rest[1::2], strict=True))
    signed = signature(cls).parameters
    entries = [*_entries(PARAMETERS), *_entries(words)]
    shared = {name: _with_default(entry, signed[name]) for name, entry in entries if name in signed}
    own = dict(_entries(sections["Parameters"]))
    known = shared | own
    sections["Parameters"] = _section([*(known[name] for name in signed if name in known), *own.values()])
    annotated = {name for base in cls.__mro__ for name in get_annotations(base)}
    own = dict(_entries(sections["Attributes"]))
    shared = {name: entry for name, entry in _entries(ATTRIBUTES) if name in annotated - own.keys()}
    sections["Attributes"] = _section([*own.values(), *shared.values()])
    bodies = [f"{title}\n{'-' * len(title)}\n{body.rstrip()}" for title, body in sections.items() if body]
    cls.__doc__ = "\n\n".join([summary.rstrip(), *bodies]) + "\n"
    return cls


def _entries(section: str) -> Iterator[tuple[str, str]]:
    """Split a section into its entries, each under every name that it describes."""
    for entry in filter(str.strip, re.split(r"^(?=\S)", section, flags=re.MULTILINE)):
        for name in entry.partition("\n")[0].partition(" : ")[0].split(", "):
            yield name, entry.rstrip()


def _section(entries: list[str]) -> str:
    """Join entries: one that describes several names, once."""
    return "\n".join(dict.fromkeys(entries))


def _with_default(entry: str, parameter: Parameter) -> str:
    if parameter.default is Parameter.empty:
        return entry
    head, line, text = entry.partition("\n")
    default = f'"{parameter.default}"' if isinstance(parameter.default, str) else repr(parameter.default)
    return f"{head}, default={default}{line}{text}"
