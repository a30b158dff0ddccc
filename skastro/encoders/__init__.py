"""Networks with weights: encoders, heads, normalisation."""

from skastro.encoders.heads import Normalizer, mlp
from skastro.encoders.images import ImageEncoder, get_encoder

__all__ = ["ImageEncoder", "Normalizer", "get_encoder", "mlp"]
