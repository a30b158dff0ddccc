"""Neural networks: encoders, their blocks, heads, and normalization."""

from skastro.encoders.astroclip import AstroCLIPImageEncoder
from skastro.encoders.attention import AttentionPool
from skastro.encoders.blocks import Tail, Trunk, blocks, split
from skastro.encoders.heads import Normalizer, PrototypeHead, VoteHead, expander, mlp
from skastro.encoders.images import ImageEncoder, get_encoder
from skastro.encoders.lines import ConvAttention
from skastro.encoders.patches import embed_patches, has_patches, hidden_patches, patch_grid
from skastro.encoders.specformer import SpecFormer, SpecFormerNetwork
from skastro.encoders.spectra import ConvSpectrumEncoder, SpectrumEncoder, SpectrumTransformer, get_spectrum_encoder
from skastro.encoders.tokens import CachedTokens, Tokens

__all__ = [
    "AstroCLIPImageEncoder",
    "AttentionPool",
    "CachedTokens",
    "ConvAttention",
    "ConvSpectrumEncoder",
    "ImageEncoder",
    "Normalizer",
    "PrototypeHead",
    "SpecFormer",
    "SpecFormerNetwork",
    "SpectrumEncoder",
    "SpectrumTransformer",
    "Tail",
    "Tokens",
    "Trunk",
    "VoteHead",
    "blocks",
    "embed_patches",
    "expander",
    "get_encoder",
    "get_spectrum_encoder",
    "has_patches",
    "hidden_patches",
    "mlp",
    "patch_grid",
    "split",
]
