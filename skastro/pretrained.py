"""Published networks whole: architecture, weights, and how images were shown to them. Nothing is trained.

Each function says where the file comes from, and what its pipeline does before the embedder.
"""

import os
from collections.abc import Callable
from typing import Any

from skastro.encoders import AstroCLIPImageEncoder, ImageEncoder, SpecFormer
from skastro.modalities import FixedImageEmbedder, FixedSpectrumEmbedder
from skastro.pretrain import AstroCLIPEmbedder
from skastro.stretches import Lupton, Standardize

__all__ = [
    "NETWORKS",
    "astroclip",
    "astrodino",
    "hayat_moco",
    "rgz_byol",
    "specformer",
    "stein_moco",
    "zoobot_convnext_nano",
]


def rgz_byol() -> FixedImageEmbedder:
    """BYOL on Radio Galaxy Zoo: images of FIRST in 8 bits, of 150 pixels, of which the central 70 are seen.

    Returns
    -------
    FixedImageEmbedder
        512 features. `encoder__weights` is the path of ``byol.ckpt``, which github.com/inigoval/byol links.

    References
    ----------
    Slijepcevic et al. (2023), "Radio Galaxy Zoo: towards building the first multipurpose foundation model for radio
    astronomy with self-supervised learning", `arXiv:2305.16127 <https://arxiv.org/abs/2305.16127>`_.
    """
    return FixedImageEmbedder(
        ImageEncoder("resnet18", stem="3x3-pool", pool="avg", weights="byol.ckpt", layout="rgz-byol"),
        survey="first",
        size=70,
        normalize=Standardize(255 * 0.008008896, 255 * 0.05303395),
    )


def hayat_moco() -> FixedImageEmbedder:
    """MoCo v2 on SDSS images in u, g, r, i and z, of 107 pixels, of which the central 64 are seen.

    Returns
    -------
    FixedImageEmbedder
        2,048 features. `encoder__weights` is the path of ``pretrained_paper_model.pth.tar``, which the authors' page
        at NERSC offers (github.com/mahayat/ssl-sky-surveys); it takes their photo-z models too.

    Notes
    -----
    Flux as it is, de-reddened by ``Deredden("sdss")`` before it, as for their redshifts. The code shows images
    transposed; the kernels are transposed here instead, which gives the same features.

    References
    ----------
    Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", `arXiv:2012.13083
    <https://arxiv.org/abs/2012.13083>`_.
    """
    return FixedImageEmbedder(
        ImageEncoder("resnet50", stem="7x7", pool="avg", weights="pretrained_paper_model.pth.tar", layout="hayat"),
        survey="sdss",
        size=64,
        normalize=None,
    )


def stein_moco() -> FixedImageEmbedder:
    """MoCo v2 on images of the Legacy Surveys in g, r and z, in nanomaggies, of 152 pixels, of which 96 are seen.

    Returns
    -------
    FixedImageEmbedder
        2,048 features. `encoder__weights` is the path of the checkpoint that github.com/georgestein/ssl-legacysurvey
        links, here called ``stein.ckpt``.

    Notes
    -----
    The colors are those of its code, which are not the viewer's, reddest first. As above, kernels are transposed in
    place of images.

    References
    ----------
    Stein et al. (2021), "Self-supervised similarity search for large scientific datasets", `arXiv:2110.13151
    <https://arxiv.org/abs/2110.13151>`_.
    """
    return FixedImageEmbedder(
        ImageEncoder("resnet50", pool="avg", weights="stein.ckpt", layout="stein"),
        survey="legacy",
        size=96,
        normalize=Lupton(formula="stein"),
    )


def astrodino() -> FixedImageEmbedder:
    """DINOv2 on images of the Legacy Surveys in g, r and z, in nanomaggies, of 152 pixels, of which 144 are seen.

    Returns
    -------
    FixedImageEmbedder
        1,024 features, the class token. The weights, 1.3 GB, come from the hub at the first `fit`.

    References
    ----------
    Parker et al. (2024), "AstroCLIP: a cross-modal foundation model for galaxies", `arXiv:2310.03024
    <https://arxiv.org/abs/2310.03024>`_.
    """
    weights = "hf-hub:polymathic-ai/astrodino/astrodino.ckpt"
    return FixedImageEmbedder(
        ImageEncoder("vit_large_patch14_dinov2", pool="avg", patch=12, weights=weights, layout="astrodino"),
        survey="legacy",
        size=144,
        normalize=Lupton(),
    )


def zoobot_convnext_nano() -> FixedImageEmbedder:
    """Zoobot's ConvNeXt-nano on color pictures of galaxies in 8 bits, of any size.

    Returns
    -------
    FixedImageEmbedder
        640 features. The weights come from the hub at the first `fit`. Its sisters there differ in ``encoder__name``
        and ``encoder__weights``.

    Notes
    -----
    Pictures are scaled to 224 pixels. Zoobot's own pipeline zooms in by 1.2 before that: ``size=`` of the side divided
    by 1.2 does so. Flux is shown by ``normalize=PercentileStretch()``, a single band by ``encoder__bands="mean"``.

    References
    ----------
    Walmsley et al. (2023), "Zoobot: Adaptable Deep Learning Models for Galaxy Morphology", `doi:10.21105/joss.05312
    <https://doi.org/10.21105/joss.05312>`_.
    """
    weights = "hf-hub:mwalmsley/zoobot-encoder-convnext_nano"
    return FixedImageEmbedder(
        ImageEncoder("convnext_nano", pool="avg", weights=weights, layout="zoobot-encoder", resize=224),
        normalize=Standardize(std=255.0),
    )


def astroclip(
    weights: str | os.PathLike[str] = "hf-hub:polymathic-ai/astroclip/astroclip.ckpt", **params: Any
) -> AstroCLIPEmbedder:
    """Make the model that Parker et al. (2024) trained, with its weights: images and spectra in one space.

    Parameters
    ----------
    weights : str or path-like, default="hf-hub:polymathic-ai/astroclip/astroclip.ckpt"
        Their checkpoint: a file, or where on the hub it is; `fit` downloads the latter, once.
    **params : dict
        What should differ, as for ``set_params``.

    Returns
    -------
    AstroCLIPEmbedder
        ``fit`` to two galaxies or more of the kind that it embeds trains nothing. With ``max_epochs=`` it trains both
        pools further, and with ``train_backbones=True`` all of it.

    Notes
    -----
    Images are of the Legacy Surveys in g, r and z, in nanomaggies, with pixels of 0.262 arcseconds, 144 of them or more
    on a side (152 in theirs). Spectra are of DESI, in 1e-17 erg/s/cm²/Å, on 7,781 wavelengths from 3600 to 9824 Å.

    What differs from their code in eval mode: rows have length 1, as in their loss, and pixels far outside those of the
    images that `fit` saw are bounded, with a warning. Their scripts leave dropout on, so that numbers which they wrote
    differ at random. The encoder of images looks at patches without class token and positions, as there: see
    :class:`~skastro.encoders.AstroCLIPImageEncoder`. Missing pixels of a spectrum, which they do not know, are bridged:
    see :class:`~skastro.encoders.SpecFormer`.

    If the file holds pickled modules beside its tensors it is refused, with a sentence that says how to convert it.

    References
    ----------
    Parker et al. (2024), "AstroCLIP: a cross-modal foundation model for galaxies", `arXiv:2310.03024
    <https://arxiv.org/abs/2310.03024>`_; weights under the MIT license.

    Examples
    --------
    >>> from skastro.pretrained import astroclip
    >>> clip = astroclip("astroclip.ckpt")
    >>> clip.embedding_dim, clip.first.size, clip.second.encoder
    (1024, 144, SpecFormer(weights='astroclip.ckpt'))
    """
    image = AstroCLIPImageEncoder(weights=weights)
    clip = AstroCLIPEmbedder(
        FixedImageEmbedder(image, survey="legacy", size=144, normalize=Lupton()),
        FixedSpectrumEmbedder(SpecFormer(weights=weights)),
        embedding_dim=1024,
        heads=4,
        weights=weights,
        max_epochs=0,
    )
    return clip.set_params(**params)


def specformer() -> FixedSpectrumEmbedder:
    """SpecFormer, masked modeling on spectra of DESI: flux in 1e-17 erg/s/cm²/Å, 7,781 pixels of 0.8 Å from 3600 Å.

    Returns
    -------
    FixedSpectrumEmbedder
        768 features, the mean over the tokens. The weights, 0.2 GB, come from the hub at the first `fit`.

    References
    ----------
    Parker et al. (2024), "AstroCLIP: a cross-modal foundation model for galaxies", `arXiv:2310.03024
    <https://arxiv.org/abs/2310.03024>`_.
    """
    return FixedSpectrumEmbedder(SpecFormer(weights="hf-hub:polymathic-ai/specformer/specformer.ckpt"))


NETWORKS: dict[str, Callable[[], Any]] = {
    "rgz-byol": rgz_byol,
    "hayat-moco": hayat_moco,
    "stein-moco": stein_moco,
    "astrodino": astrodino,
    "specformer": specformer,
    "astroclip": astroclip,
    "zoobot-convnext-nano": zoobot_convnext_nano,
}
