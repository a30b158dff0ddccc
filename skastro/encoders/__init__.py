"""Networks with weights: encoders, their blocks, heads, normalisation."""

from skastro.encoders.blocks import Tail, Trunk, blocks, split
from skastro.encoders.heads import Normalizer, PrototypeHead, VoteHead, mlp
from skastro.encoders.images import ImageEncoder, get_encoder
from skastro.encoders.patches import embed_patches, has_patches, hidden_patches, patch_grid
from skastro.encoders.spectra import SpectrumEncoder, SpectrumTransformer, get_spectrum_encoder

__all__ = [
    "ImageEncoder",
    "Normalizer",
    "PrototypeHead",
    "SpectrumEncoder",
    "SpectrumTransformer",
    "Tail",
    "Trunk",
    "VoteHead",
    "blocks",
    "embed_patches",
    "get_encoder",
    "get_spectrum_encoder",
    "has_patches",
    "hidden_patches",
    "mlp",
    "patch_grid",
    "split",
]
