"""Networks with weights: encoders, their blocks, heads, normalisation."""

from skastro.encoders.blocks import Tail, Trunk, blocks, split
from skastro.encoders.heads import Normalizer, mlp
from skastro.encoders.images import ImageEncoder, get_encoder

__all__ = ["ImageEncoder", "Normalizer", "Tail", "Trunk", "blocks", "get_encoder", "mlp", "split"]
