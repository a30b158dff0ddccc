"""Augmentation recipes by name: one per paper, and a general one for galaxies.

Every recipe has a step named "noise", so that a search can set it without knowing the recipe.
"""

from difflib import get_close_matches

from sklearn.base import clone

from skastro.augment.aperture import Aperture
from skastro.augment.base import Augment
from skastro.augment.detector import Background, GaussianNoise
from skastro.augment.distributions import HalfNormal, LogNormal
from skastro.augment.geometry import Crop, Dihedral, Flip, Rotate, Shift, Zoom
from skastro.augment.multiview import MultiView
from skastro.augment.sky import ColorJitter, GaussianBlur, Grayscale, PSFBlur, Redden

__all__ = ["RECIPES", "get_recipe", "one_recipe"]

# How noise (nanomaggies), seeing (σ in pixels of 0.262") and dust vary over the Legacy Surveys in g, r and z: fits by
# the code of Stein et al. (2021). Recipes take copies: a recipe that held one object twice would not hash like its
# clone.
LEGACY_NOISE = LogNormal(
    shape=(0.2264926, 0.2431146, 0.1334844),
    loc=(-0.0006735, -0.0023663, -0.0143416),
    scale=(0.0037602, 0.0067417, 0.0260779),
    low=(0.001094, 0.0, 0.0),
    high=(0.013, 0.018, 0.061),
)
LEGACY_SEEING = LogNormal(
    shape=(0.2109966, 0.3008485, 0.3471172),
    loc=(1.0807153, 1.2394326, 1.1928363),
    scale=(1.3153171, 0.9164757, 0.8233702),
    low=(1.3233, 1.2667, 1.2126),
    high=(5.0, 4.5, 4.25),
)
LEGACY_DUST = LogNormal(shape=0.67306, loc=0.001146, scale=0.03338, high=1.0)


def galaxy(local: bool = False) -> Augment:
    """Return the recipe of one view of a galaxy, for any survey.

    Each step takes away what would tell two galaxies apart without a look at their shapes: colors and brightness
    (jitter, and all colors in three views of ten), neighbors in the field (aperture), the level of the sky
    (background), noise and seeing (noise, blur). ``benchmarks/RESULTS.md`` has what each is worth.

    Parameters
    ----------
    local : bool, default=False
        Shrink the object to half its size and keep 10 to 50 % of the area: part of the object, for a view of half the
        side. Quarter turns do not leave the cutout, and there is no aperture.

    Returns
    -------
    Augment

    Examples
    --------
    >>> from skastro.augment.recipes import galaxy
    >>> [name for name, step in galaxy(local=True).steps]
    ['noise', 'rotate', 'zoom', 'crop', 'flip', 'color', 'grayscale', 'blur', 'background']
    """
    part = [
        ("rotate", Dihedral()),
        ("zoom", Zoom(scale=(0.5, 0.5))),
        ("crop", Crop(scale=(0.1, 0.5), ratio=(1.0, 1.0))),
    ]
    whole = [
        ("rotate", Rotate(degrees=180)),
        ("shift", Shift(pixels=2)),
        ("crop", Crop(scale=(0.5, 1.0), ratio=(1.0, 1.0))),
    ]
    return Augment(
        [
            ("noise", GaussianNoise(scale=(0.0, 2.0))),
            *(part if local else whole),
            ("flip", Flip(p=0.5)),
            ("color", ColorJitter(brightness=0.6, contrast=0.6, saturation=0.8, p=0.8)),
            ("grayscale", Grayscale(p=0.3)),
            ("blur", GaussianBlur(sigma=(0.1, 1.5), radius=3, p=0.5)),
            *([] if local else [("aperture", Aperture())]),
            ("background", Background()),
        ]
    )


def sdss(psf: str | PSFBlur) -> Augment:
    """Return the recipe of Hayat et al. (2021), section 3; their best set has no PSF (figure 13).

    The noise is larger than theirs. They use the median absolute deviation times U(1, 3); here it is 1.4826 times that,
    which is the standard deviation of the pixels. ``skastro.published("hayat2021")`` has their value.

    Reddening comes first in the paper but after the geometric steps here. The result is the same, since a factor per
    band commutes with them, and fewer pixels remain to be dimmed.

    The paper does not say how to read a negative width of the PSF; here it is its absolute value. Shifts of 7 pixels,
    for windows of 64 in cutouts of 107, reach 2 pixels beyond the cutout in the corners. Their code fills these with
    zeros, as here.

    Parameters
    ----------
    psf : PSFBlur or "passthrough"
        Step for the seeing, or none.

    Returns
    -------
    Augment

    Examples
    --------
    >>> from skastro.augment.recipes import sdss
    >>> [name for name, step in sdss("passthrough").steps]
    ['psf', 'rotate', 'shift', 'extinction', 'noise']
    """
    steps = [
        ("psf", psf),
        ("rotate", Rotate(degrees=180)),
        ("shift", Shift(pixels=7)),
        ("extinction", Redden(ebv=(0.0, 0.5))),
        ("noise", GaussianNoise(scale=(1.0, 3.0))),
    ]
    return Augment(steps, edge="zeros")


def legacy_psf(p: float = 1.0) -> PSFBlur:
    """Return a blur from a drawn seeing of the Legacy Surveys to another drawn one.

    Parameters
    ----------
    p : float, default=1.0
        Probability that an image is blurred.

    Returns
    -------
    PSFBlur

    Examples
    --------
    >>> from skastro.augment.recipes import legacy_psf
    >>> legacy_psf().unit
    'pixel'
    """
    return PSFBlur(clone(LEGACY_SEEING), unit="pixel", true=clone(LEGACY_SEEING), p=p)


def legacy_noise(p: float = 1.0) -> GaussianNoise:
    """Return noise that goes from a drawn level of the Legacy Surveys up to another drawn one.

    Parameters
    ----------
    p : float, default=1.0
        Probability that an image receives noise.

    Returns
    -------
    GaussianNoise

    Examples
    --------
    >>> from skastro.augment.recipes import legacy_noise
    >>> legacy_noise().sigma.high
    (0.013, 0.018, 0.061)
    """
    return GaussianNoise(sigma=clone(LEGACY_NOISE), true=clone(LEGACY_NOISE), p=p)


def astrodino(p: float, shift: int) -> Augment:
    """Return the recipe of one view of Parker et al. (2024), appendix A: blurred and noisy with probability `p`.

    The paper rotates by U(0, π), its code not at all; quarter turns do not leave the cutout. The paper does not state
    the levels of seeing and noise; those of the Legacy Surveys are used.

    Parameters
    ----------
    p : float
        Probability of blur and of noise.
    shift : int
        Largest shift in pixels. Crops are shifted, not resized.

    Returns
    -------
    Augment

    Examples
    --------
    >>> from skastro.augment.recipes import astrodino
    >>> astrodino(0.5, shift=46).get_params()["noise__p"]
    0.5
    """
    return Augment(
        [
            ("rotate", Dihedral()),
            ("shift", Shift(pixels=shift)),
            ("psf", legacy_psf(p)),
            ("noise", legacy_noise(p)),
        ]
    )


RECIPES: dict[str, Augment | MultiView] = {
    # Slijepcevic et al. (2023), table 1. The saturation and hue of the paper's code do nothing on one band. The
    # images are clipped at the noise, so pixels outside a cutout are zero.
    "radio": Augment(
        [
            ("noise", "passthrough"),
            ("rotate", Rotate(degrees=180)),
            ("crop", Crop(scale=(0.8, 1.0))),
            ("flip", Flip(p=0.5)),
            ("color", ColorJitter(brightness=0.4, contrast=0.4, saturation=0.0, p=0.8)),
            ("blur", GaussianBlur(sigma=(0.1, 2.0), radius=3, p=0.1)),
        ],
        edge="zeros",
    ),
    # Slijepcevic et al. (2023), table 2.
    "radio-finetune": Augment(
        [
            ("noise", "passthrough"),
            ("rotate", Rotate(degrees=180)),
            ("crop", Crop(scale=(0.9, 1.0))),
            ("flip", Flip(p=0.5)),
        ],
        edge="zeros",
    ),
    # No step changes the flux, which redshifts and masses depend on. Hayat et al. (2021) shift by up to 7 pixels, for
    # cutouts larger than the window.
    "supervised": Augment(
        [
            ("noise", "passthrough"),
            ("rotate", Rotate(degrees=180)),
            ("shift", Shift(pixels=2)),
            ("flip", Flip(p=0.5)),
        ]
    ),
    "galaxy": galaxy(),
    # The same, with four local views of half the side, each of a part of the object, as in Caron et al. (2020). A
    # clone, since both recipes hold the same tuples.
    "galaxy-crops": clone(MultiView(galaxy(), None, local=galaxy(local=True), n_local=4, local_size=0.5)),
    # Hayat et al. (2021), for SDSS images in ugriz.
    "sdss": sdss("passthrough"),
    "sdss-all": sdss(PSFBlur(HalfNormal(0.13), unit="arcsec", reference="r")),
    # Stein et al. (2021), for Legacy Surveys images in g, r, z. The present level and the target level are both drawn,
    # and the difference is added. Their last step, a stretch to RGB, is left to ``normalize="asinh"``.
    "legacy": Augment(
        [
            ("extinction", Redden(ebv=LEGACY_DUST)),
            ("rotate", Rotate(degrees=180)),
            ("flip", Flip(p=0.5)),
            ("zoom", Zoom(scale=(0.9, 1.1))),
            ("psf", legacy_psf()),
            ("shift", Shift(pixels=7)),
            ("noise", legacy_noise()),
        ]
    ),
    # Parker et al. (2024), for cutouts of 152 pixels and ``size=144``. Probabilities are those of the paper; its code
    # has them swapped.
    "astrodino": MultiView(
        astrodino(1.0, shift=4), astrodino(0.1, shift=4), local=astrodino(0.5, shift=46), n_local=8, local_size=60
    ),
    # The contrastive view of Walmsley et al. (2022), from their code, since the paper has no numbers. Their code also
    # shifts the hue, which has no meaning for bands of flux.
    "galaxy-zoo": Augment(
        [
            ("noise", "passthrough"),
            ("rotate", Rotate(degrees=180)),
            ("crop", Crop(scale=(0.3, 0.85), ratio=(0.8, 1.2))),
            ("flip", Flip(p=0.5)),
            ("color", ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, p=0.8)),
            ("grayscale", Grayscale(p=0.3)),
        ]
    ),
}


def get_recipe(augment: str | Augment | MultiView | None) -> Augment | MultiView:
    """Return a recipe by name. A given recipe is copied, and None means a recipe without steps.

    Parameters
    ----------
    augment : str, Augment, MultiView or None
        One of ``RECIPES``, or a recipe.

    Returns
    -------
    Augment or MultiView
        A fresh copy, never the object in the table or the one given.

    Raises
    ------
    ValueError
        If no recipe has that name.

    Examples
    --------
    >>> from skastro.augment import get_recipe
    >>> [name for name, step in get_recipe("radio-finetune").steps]
    ['noise', 'rotate', 'crop', 'flip']
    """
    if augment is None:
        return Augment()
    if isinstance(augment, str):
        if augment not in RECIPES:
            close = get_close_matches(augment, RECIPES, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"Unknown augmentation recipe {augment!r}; known are {', '.join(RECIPES)}.{hint}")
        augment = RECIPES[augment]
    return clone(augment)


def one_recipe(augment: str | Augment | MultiView | None) -> Augment:
    """Return a recipe by name, for uses where several kinds of views have no meaning.

    Parameters
    ----------
    augment : str, Augment, MultiView or None
        As for `get_recipe`; ``"auto"`` is ``"supervised"``.

    Returns
    -------
    Augment
        A fresh copy.

    Raises
    ------
    ValueError
        If no recipe has that name, or it has a recipe for each view.

    Examples
    --------
    >>> from skastro.augment import one_recipe
    >>> one_recipe("astrodino")
    Traceback (most recent call last):
    ...
    ValueError: augment='astrodino' has a recipe for each view; here one is needed, such as 'supervised'.
    """
    recipe = get_recipe("supervised" if augment == "auto" else augment)
    if isinstance(recipe, MultiView):
        raise ValueError(f"augment={augment!r} has a recipe for each view; here one is needed, such as 'supervised'.")
    return recipe
