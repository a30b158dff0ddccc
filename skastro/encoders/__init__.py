"""Networks with weights: encoders, their blocks, heads, normalisation."""

from skastro.encoders.blocks import Tail, Trunk, blocks, split
from skastro.encoders.heads import Normalizer, VoteHead, mlp
from skastro.encoders.images import ImageEncoder, get_encoder
from skastro.encoders.spectra import SpectrumEncoder, SpectrumTransformer, get_spectrum_encoder

__all__ = [
    "ImageEncoder",
    "Normalizer",
    "SpectrumEncoder",
    "SpectrumTransformer",
    "Tail",
    "Trunk",
    "VoteHead",
    "blocks",
    "get_encoder",
    "get_spectrum_encoder",
    "mlp",
    "split",
]
