"""The papers' configurations by name: full size, as printed, and as in the papers' code where they are silent.

Each function says what the paper prints, what only its code states, and what still differs here.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from skastro.augment import Augment, Flip, Rotate, Shift, get_recipe
from skastro.downstream import FineTuneClassifier, FineTuneRegressor, FlowPosterior
from skastro.encoders import ImageEncoder, SpectrumEncoder
from skastro.pretrain import (
    AstroCLIPEmbedder,
    BYOLEmbedder,
    DINOEmbedder,
    HybridBYOLEmbedder,
    MaskedSpectrumEmbedder,
    MoCoEmbedder,
)
from skastro.pretrained import NETWORKS
from skastro.training import Training

__all__ = [
    "PUBLISHED",
    "hayat2021",
    "hayat2021_photoz",
    "parker2024",
    "parker2024_image",
    "parker2024_posterior",
    "parker2024_spectrum",
    "published",
    "slijepcevic2023",
    "slijepcevic2023_finetune",
    "walmsley2022",
]


def published(name: str, **params: Any) -> Any:
    """Make an estimator as a paper configured it, full size and unfitted, or a published network with its weights.

    Parameters
    ----------
    name : str
        Of a configuration:
        ``"walmsley2022"``, ``"hayat2021"``, ``"hayat2021-photoz"``, ``"slijepcevic2023"``,
        ``"slijepcevic2023-finetune"``, ``"parker2024-image"``, ``"parker2024-spectrum"``, ``"parker2024"`` or
        ``"parker2024-posterior"``. A hyphen becomes an underscore in the name of the function in `skastro.papers` that
        explains it. Of a published network: ``"rgz-byol"``, ``"hayat-moco"``, ``"stein-moco"``, ``"astrodino"``,
        ``"specformer"``, ``"astroclip"`` or ``"zoobot-convnext-nano"``, explained in `skastro.pretrained`: an embedder
        that `fit` does not train, ready to embed, to be probed and to be fine-tuned. Those that no hub has take the
        path of their file as ``encoder__weights=``.
    **params : dict
        What should differ, as for ``set_params``. What takes an embedder holds the paper's own, unfitted, which ``fit``
        would train first: give a fitted one instead, such as ``encoder=FrozenEstimator(embedder)``.

    Returns
    -------
    estimator
        A new one each time.

    Raises
    ------
    ValueError
        If there is no such name, or the estimator has no such parameter.

    Examples
    --------
    >>> from skastro import published
    >>> byol = published("slijepcevic2023", random_state=0)
    >>> byol.lr, byol.batch_size, byol.encoder
    (0.8, 1024, ImageEncoder(name='resnet18', pool='avg', stem='3x3-pool'))
    >>> published("walmsley2022", encoder__name="resnet18").encoder.name
    'resnet18'
    """
    known = PUBLISHED | NETWORKS
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"No published configuration or network {name!r}; known are {', '.join(known)}.{hint}")
    return known[name]().set_params(**params)


def walmsley2022() -> HybridBYOLEmbedder:
    r"""BYOL and votes of volunteers together, on color images of 128 pixels.

    Returns
    -------
    HybridBYOLEmbedder

    Notes
    -----
    In print: EfficientNet-B0 (here) and ResNet18 (``encoder__name="resnet18"``), 206 answers to 65 questions, Adam with
    a rate of 0.001 and betas of 0.9 and 0.999, training to convergence.

    Only in the code: views, 400 epochs, batches of 512, a rate of 0.99 for the target network, heads of 1,024 and 256,
    dropout of 0.2 before the head for votes, no faster predictor, and votes that are scaled by \|cos\|, which rises
    from 0 to 1 as the views agree. Its settings file has a learning rate of 0.06 and
    a weight decay of 5e-4, which are not the printed ones.

    Nowhere: :math:`\lambda`, here 1.

    What differs: the loss is twice the code's, plus 2, which Adam does not feel. Features are normalized before the
    head for votes, where the code takes them as they are; concentrations reach from 1 to 101, as in the code, where
    print has 100. The target's batch-norm statistics move with its weights, after the step, where the code moves
    weights alone, before it. Colors are not shifted in hue. Images come at 128 pixels, where the code scales larger
    ones inside a view.

    References
    ----------
    Walmsley et al. (2022), "Towards Galaxy Foundation Models with Hybrid Contrastive Learning", `arXiv:2206.11927
    <https://arxiv.org/abs/2206.11927>`_.
    """
    return HybridBYOLEmbedder(
        ImageEncoder("efficientnet_b0", pool="avg"),
        augment="galaxy-zoo",
        normalize="standard",
        schema="gz_evo",
        vote_weight=1.0,
        vote_scaling="cosine",
        hidden_dim=1024,
        projection_dim=256,
        predictor_lr_factor=1.0,
        max_epochs=400,
        batch_size=512,
        lr=1e-3,
        training=Training(
            optimizer="adam",
            betas=(0.9, 0.999),
            weight_decay=0.0,
            warmup=0,
            schedule="constant",
            ema=0.99,
            ema_schedule="constant",
        ),
    )


def hayat2021() -> MoCoEmbedder:
    """MoCo v2 on SDSS images in u, g, r, i and z: windows of 64 pixels in cutouts of 107.

    Returns
    -------
    MoCoEmbedder

    Notes
    -----
    In print: a ResNet50 whose first convolution has stride 1 and no max-pool behind it, 2,048 features and a head of
    128; a queue of 62,000, a rate of 0.999 for the key network, a temperature of 0.1; SGD at 0.03 with a cosine, 50
    epochs; the best augmentations, which are all but the PSF. Noise is the median absolute deviation of each band times
    U(1, 3): `skastro.augment.GaussianNoise` counts in 1.4826 of these, hence the limits here.

    Their pretraining code was never released. Nowhere: the batch, momentum and weight decay, which are those of MoCo v2
    here: 256, 0.9 and 1e-4.

    What differs: norms and biases do not decay; in the code of MoCo v2 they do. Keys are normalized in random groups of
    32, as on eight GPUs, on one device. Shifts of 7 pixels reach 2 pixels beyond the cutouts in the corners, of which
    `fit` warns; zeros fill them, as in the code for redshifts.

    References
    ----------
    Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", `arXiv:2012.13083
    <https://arxiv.org/abs/2012.13083>`_, section 3 and appendix E.1; Chen, Fan et al. (2020), "Improved Baselines with
    Momentum Contrastive Learning", `arXiv:2003.04297 <https://arxiv.org/abs/2003.04297>`_.
    """
    return MoCoEmbedder(
        ImageEncoder("resnet50", stem="7x7", pool="avg"),
        augment=get_recipe("sdss").set_params(noise__scale=(0.6745, 2.0235)),
        survey="sdss",
        size=64,
        normalize="standard",
        projection_dim=128,
        queue_length=62_000,
        temperature=0.1,
        symmetric=False,
        max_epochs=50,
        batch_size=256,
        lr=0.03,
        training=Training(
            optimizer="sgd",
            momentum=0.9,
            weight_decay=1e-4,
            warmup=0,
            schedule="cosine",
            ema=0.999,
            ema_schedule="constant",
        ),
    )


def hayat2021_photoz() -> FineTuneRegressor:
    """Redshifts from SDSS images, by fine-tuning what `hayat2021` learned.

    Returns
    -------
    FineTuneRegressor
        Of a bare `hayat2021`; give ``encoder=FrozenEstimator(fitted)`` to skip its training.

    Notes
    -----
    In print: 180 bins from 0 to 0.4, the mean as the estimate, rotations and shifts; the head at 0.001 and the encoder
    at a tenth of it, both divided by ten at epochs 60 and 90 of 100, batches of 256.

    Only in the code: a fill of zeros outside the cutout, and SGD with a momentum of 0.9 and no weight decay, which are
    those of its network without pretraining.

    What differs: images are de-reddened by a step before it, `skastro.preprocessing.Deredden`.

    References
    ----------
    Hayat et al. (2021), "Self-supervised Representation Learning for Astronomical Images", `arXiv:2012.13083
    <https://arxiv.org/abs/2012.13083>`_, section 4 and appendix E.2.
    """
    return FineTuneRegressor(
        hayat2021(),
        head_norm=None,
        head="redshift-bins",
        n_layers="all",
        layer_decay=1.0,
        augment=Augment(
            [("noise", "passthrough"), ("rotate", Rotate(degrees=180)), ("shift", Shift(pixels=7))], edge="zeros"
        ),
        max_epochs=100,
        batch_size=256,
        lr=1e-3,
        encoder_lr=1e-4,
        training=Training(
            optimizer="sgd", momentum=0.9, weight_decay=0.0, warmup=0, schedule="milestones", milestones=(0.6, 0.9)
        ),
    )


def slijepcevic2023() -> BYOLEmbedder:
    """BYOL on radio galaxies of the FIRST survey: windows of 70 pixels.

    Returns
    -------
    BYOLEmbedder

    Notes
    -----
    In print: a ResNet18, the augmentations of table 1; of table 3 SGD at 0.2 for 256 images, which is 0.8 for batches
    of 1,024, a weight decay of 1.5e-6, a warm-up of 10 epochs and a cosine, 500 epochs.

    Only in the code: a first convolution of 3×3 with stride 1 before the max-pool, heads of 512 and 256, a constant
    rate of 0.996 for the target network, a momentum of 0.9, and no faster predictor.

    What differs: the loss is 2 − 2 cos where the code has minus cos, so that at the same rate steps are twice as long
    (``lr=0.4`` has the code's). The warm-up ends at the peak, where the code overshoots it by a ninth, and images are
    shuffled, which the code forgets. Norms and biases are not decayed. Rotations are bilinear, and areas of crops are
    drawn evenly, where torchvision's crop rejects those that do not fit.

    References
    ----------
    Slijepcevic et al. (2023), "Radio Galaxy Zoo: towards building the first multipurpose foundation model for radio
    astronomy with self-supervised learning", `arXiv:2305.16127 <https://arxiv.org/abs/2305.16127>`_, tables 1 and 3.
    """
    return BYOLEmbedder(
        ImageEncoder("resnet18", stem="3x3-pool", pool="avg"),
        augment="radio",
        survey="first",
        size=70,
        normalize="standard",
        hidden_dim=512,
        projection_dim=256,
        predictor_lr_factor=1.0,
        max_epochs=500,
        batch_size=1024,
        lr=0.8,
        training=Training(
            optimizer="sgd",
            momentum=0.9,
            weight_decay=1.5e-6,
            warmup=10,
            schedule="cosine",
            ema=0.996,
            ema_schedule="constant",
        ),
    )


def slijepcevic2023_finetune() -> FineTuneClassifier:
    """Classes of radio galaxies, by fine-tuning what `slijepcevic2023` learned.

    Returns
    -------
    FineTuneClassifier
        Of a bare `slijepcevic2023`; give ``encoder=FrozenEstimator(fitted)`` to skip its training.

    Notes
    -----
    In print: the augmentations of table 2; of table 4 AdamW at 0.001 for 256 images, which is 2.5e-4 for batches of 64,
    betas of 0.9 and 0.999, a weight decay of 0.005, a cosine, 300 epochs, and rates that fall by 0.75 from each block
    to the one before. The "final 10 layers" are all that a ResNet18 has: the stem and eight blocks.

    Only in the code: a label smoothing of 0.1. Its weight decay is 0.05.

    What differs: the softmax is taken once, where the code takes it twice.

    References
    ----------
    Slijepcevic et al. (2023), "Radio Galaxy Zoo: towards building the first multipurpose foundation model for radio
    astronomy with self-supervised learning", `arXiv:2305.16127 <https://arxiv.org/abs/2305.16127>`_, tables 2 and 4.
    """
    return FineTuneClassifier(
        slijepcevic2023(),
        head_norm="batch",
        n_layers="all",
        layer_decay=0.75,
        augment="radio-finetune",
        label_smoothing=0.1,
        max_epochs=300,
        batch_size=64,
        lr=2.5e-4,
        training=Training(optimizer="adamw", betas=(0.9, 0.999), weight_decay=0.005, warmup=0, schedule="cosine"),
    )


def parker2024_image() -> DINOEmbedder:
    """DINOv2 on images of the Legacy Surveys in g, r and z: windows of 144 pixels in cutouts of 152.

    Returns
    -------
    DINOEmbedder

    Notes
    -----
    In print: a ViT-L with patches of 12 pixels, heads of 2,048; two global views of 144 pixels and eight local ones of
    60, flipped, blurred and noisy; DINO and iBOT one to one; batches of 1,536, 500 epochs, a rate of 0.004 after a
    warm-up of 80, a rate from 0.994 to 1 for the teacher, a constant weight decay of 0.001.

    Only in the code: KoLeo at 0.1, 65,536 prototypes and a bottleneck of 256, centering, temperatures from 0.04 to
    0.07, stochastic depth of 0.3, rates that fall by 0.9 from each block to the one before and to a fifth for the
    patches, gradients clipped at 3, a last rate of 1e-6, heads without batch norm. Its schedule is not the printed one:
    200 epochs of 1,250 steps, a peak of 2e-4 for 1,024 images, a teacher from 0.992, and a weight decay from 0.001 to
    0.01 (``training__weight_decay_end=0.01``).

    What differs: stochastic depth rises to 0.3 from block to block, where the code has 0.3 in all; the last norm learns
    with the last block, 0.9 times as fast as in the code. Views are turned by quarters, where the text has any angle
    and the code none. Blur and noise are as likely as the text says; the code has it the wrong way round. Prototypes
    stand still for a hundredth of the steps (the code: one epoch of 200), and temperatures rise in 15 % of them, as in
    the code. Images are standardized, as print has it; the code stretches them to colors. Gradients are clipped as a
    whole, where the code clips backbone and heads apart, and the mask token does not decay. DINO and iBOT have a head
    each; in the code they share one. The student is kept, where the code keeps its teacher.

    References
    ----------
    Parker et al. (2024), "AstroCLIP: a cross-modal foundation model for galaxies", `arXiv:2310.03024
    <https://arxiv.org/abs/2310.03024>`_, section 5.1 and appendix B1; Oquab et al. (2023), "DINOv2: Learning Robust
    Visual Features without Supervision", `arXiv:2304.07193 <https://arxiv.org/abs/2304.07193>`_.
    """
    return DINOEmbedder(
        ImageEncoder("vit_large_patch14_dinov2", pool="avg", patch=12, drop_path=0.3),
        augment="astrodino",
        survey="legacy",
        size=144,
        normalize="standard",
        hidden_dim=2048,
        head_norm=False,
        prototypes=65_536,
        centering="centering",
        teacher_temperature=(0.04, 0.07),
        ibot_weight=1.0,
        koleo_weight=0.1,
        layer_decay=0.9,
        patch_lr_factor=0.2,
        max_epochs=500,
        batch_size=1536,
        lr=0.004,
        training=Training(
            optimizer="adamw",
            betas=(0.9, 0.999),
            weight_decay=1e-3,
            weight_decay_end=None,
            warmup=80,
            schedule="cosine",
            lr_end=1e-6 / 0.004,
            ema=0.994,
            ema_schedule="cosine",
            clip=3.0,
        ),
    )


def parker2024_spectrum() -> MaskedSpectrumEmbedder:
    """Masked spectra of DESI, of 7,781 pixels.

    Returns
    -------
    MaskedSpectrumEmbedder

    Notes
    -----
    In print: tokens of 20 pixels, one every 10, six blocks of 768 features with six heads, six masks of 30 tokens,
    which are 310 pixels, 500 epochs.

    Only in the code: AdamW at 1e-5 with betas of 0.9 and 0.95 and a weight decay of 0.1, batches of 64, a warm-up of
    2,000 of its 500,000 steps, gradients clipped at 1. Its masks are 50 tokens long.

    What differs: pixels are hidden from all tokens, where a token beside a mask shows the half of its first token that
    overlaps. The smallest scale of a spectrum is a tenth of the median, where the code has 0.2 in DESI's unit. Missing
    pixels are known to the network.

    References
    ----------
    Parker et al. (2024), "AstroCLIP: a cross-modal foundation model for galaxies", `arXiv:2310.03024
    <https://arxiv.org/abs/2310.03024>`_, sections 3.2 and 5.2 and appendix B2.
    """
    return MaskedSpectrumEmbedder(
        SpectrumEncoder(depth=6, width=768, heads=6, token=20, stride=10, pool="avg"),
        n_masks=6,
        mask_length=310,
        max_epochs=500,
        batch_size=64,
        lr=1e-5,
        training=Training(
            optimizer="adamw", betas=(0.9, 0.95), weight_decay=0.1, warmup=0.004, schedule="cosine", clip=1.0
        ),
    )


def parker2024() -> AstroCLIPEmbedder:
    """Images and spectra of the same galaxies in one space.

    Returns
    -------
    AstroCLIPEmbedder
        Of a bare `parker2024_image` and a bare `parker2024_spectrum`; give fitted ones, frozen, to skip their training.
        The alignment trains copies of them.

    Notes
    -----
    In print: four heads of cross-attention, 512 features, batches of 1,024 pairs, AdamW at 1e-4 with a cosine and a
    weight decay of 0.01, 500 epochs (called iterations), a factor of 15.5 on the cosines, and encoders that are trained
    on, with images flipped and rotated.

    Only in the code: gradients clipped at 1, and dropout of 0.1 in the cross-attention and behind it. There the
    encoders are frozen by default (``train_backbones=False``), batches have 256 pairs, and the features are 1,024.

    What differs: the loss has both directions, as in the code and not as printed. There is no dropout. Stochastic depth
    of the image encoder goes on in the alignment.

    References
    ----------
    Parker et al. (2024), "AstroCLIP: a cross-modal foundation model for galaxies", `arXiv:2310.03024
    <https://arxiv.org/abs/2310.03024>`_, sections 3.3 and 5.3 and appendix B3.
    """
    return AstroCLIPEmbedder(
        parker2024_image(),
        parker2024_spectrum(),
        augment=(Augment([("rotate", Rotate(degrees=180)), ("flip", Flip(p=0.5))]), None),
        embedding_dim=512,
        heads=4,
        scale=15.5,
        learn_scale=False,
        train_backbones=True,
        max_epochs=500,
        batch_size=1024,
        lr=1e-4,
        training=Training(
            optimizer="adamw", betas=(0.9, 0.999), weight_decay=0.01, warmup=0, schedule="cosine", clip=1.0
        ),
    )


def parker2024_posterior() -> FlowPosterior:
    """Redshift and properties of a galaxy from its embedding, by ten flows.

    Returns
    -------
    FlowPosterior

    Notes
    -----
    In print: ten flows of three to six coupling splines and 32 to 128 hidden features, a fifth of the rows held out,
    and a patience of 20 epochs.

    Only in the code: Adam at 5e-4 with a cosine down to 1e-6, batches of 128, 200 epochs at most (25 in its last
    version, which leaves little to patience). Its flows are others: two or three splines, each of one value alone, so
    that no correlation is learned, and three hidden layers of 16 to 32 features.

    What differs: in each transform both halves of the values have splines, the first of the embedding alone, the second
    of it and the first. Networks have two hidden layers with ELU between, and begin as flows that change nothing.

    References
    ----------
    Parker et al. (2024), "AstroCLIP: a cross-modal foundation model for galaxies", `arXiv:2310.03024
    <https://arxiv.org/abs/2310.03024>`_, section 6.4 and appendix B6; Durkan et al. (2019), "Neural Spline Flows",
    `arXiv:1906.04032 <https://arxiv.org/abs/1906.04032>`_.
    """
    return FlowPosterior(
        10,
        flow="coupling",
        n_transforms=(3, 6),
        hidden_dim=(32, 128),
        validation_fraction=0.2,
        n_iter_no_change=20,
        max_epochs=200,
        batch_size=128,
        lr=5e-4,
        training=Training(
            optimizer="adam", betas=(0.9, 0.999), weight_decay=0.0, warmup=0, schedule="cosine", lr_end=1e-6 / 5e-4
        ),
    )


PUBLISHED: dict[str, Callable[[], Any]] = {
    "walmsley2022": walmsley2022,
    "hayat2021": hayat2021,
    "hayat2021-photoz": hayat2021_photoz,
    "slijepcevic2023": slijepcevic2023,
    "slijepcevic2023-finetune": slijepcevic2023_finetune,
    "parker2024-image": parker2024_image,
    "parker2024-spectrum": parker2024_spectrum,
    "parker2024": parker2024,
    "parker2024-posterior": parker2024_posterior,
}
