"""Modalities: the protocol that every embedder fulfills, and images and spectra as two implementations."""

from skastro.modalities.base import Modality, RowModality, TrainedModality, as_modality, check_all, feature_width
from skastro.modalities.fixed import (
    SPECTRUM_ENCODERS,
    FixedImageEmbedder,
    FixedSpectrumEmbedder,
    as_embedder,
    as_specification,
    is_specification,
    warn_of_fitted,
)
from skastro.modalities.images import IMAGE_CONSTRAINTS, ImageEmbedder, ImageModality
from skastro.modalities.spectra import FluxView, SpectrumModality, SpectrumView

__all__ = [
    "IMAGE_CONSTRAINTS",
    "SPECTRUM_ENCODERS",
    "FixedImageEmbedder",
    "FixedSpectrumEmbedder",
    "FluxView",
    "ImageEmbedder",
    "ImageModality",
    "Modality",
    "RowModality",
    "SpectrumModality",
    "SpectrumView",
    "TrainedModality",
    "as_embedder",
    "as_modality",
    "as_specification",
    "check_all",
    "feature_width",
    "is_specification",
    "warn_of_fitted",
]
