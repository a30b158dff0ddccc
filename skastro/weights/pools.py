"""The two pools of AstroCLIP's checkpoint, cross-attention and what follows it, in the form of our own."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from skastro.weights.adapt import check_alike
from skastro.weights.files import Weights

__all__ = ["POOLS", "PublishedPool"]


@dataclass(frozen=True)
class PublishedPool:
    r"""Where a pool lies in the checkpoint, and how it ends.

    torch's attention has biases that ours lacks. Its query is :math:`W_q q + b_q`, which is as good as a query; and
    :math:`b_k` adds the same to the scores of all tokens, which the softmax takes off again.

    Parameters
    ----------
    prefix : str
        What stands before the names of its tensors.
    shortcut : {"norm"} or None
        As in `skastro.encoders.AttentionPool`.
    hidden : int, default=4
        Hidden width of its linear layers, in units of its features.
    """

    prefix: str
    shortcut: str | None
    hidden: int = 4

    def select(self, weights: Weights, width: int, dim: int, heads: int) -> dict[str, Tensor]:
        """Take the pool's tensors, under the names and in the form of ours.

        Parameters
        ----------
        weights : Weights
            All tensors of the file.
        width, dim, heads : int
            Features of a token and of the pool, and attention heads, which the file does not tell.

        Returns
        -------
        dict of str to Tensor
            State of an `AttentionPool` of these widths; what is folded is in double precision.

        Raises
        ------
        ValueError
            If the file has no such pool, or one of other features.
        """
        given = {
            name.removeprefix(self.prefix): tensor
            for name, tensor in weights.tensors.items()
            if name.startswith((f"{self.prefix}cross_attention.", f"{self.prefix}mlp."))
        }
        if not given:
            first = ", ".join(list(weights.tensors)[:3])
            raise ValueError(
                f"{weights.source} has no pool {self.prefix}cross_attention.*; its tensors begin with {first}."
            )
        told = given.get("cross_attention.query")
        if told is not None and told.shape[-1] != dim:
            raise ValueError(
                f"The pools of {weights.source} have {told.shape[-1]} features: give embedding_dim={told.shape[-1]}, "
                f"not {dim}."
            )
        check_alike(
            given, expected(width, dim, self.hidden * dim), weights.source, f"pool of tokens of {width} features"
        )
        return fold_biases(given, dim, heads)


def expected(width: int, dim: int, hidden: int) -> dict[str, Tensor]:
    """Make tensors of the shapes that a pool has in the file, without numbers.

    Parameters
    ----------
    width, dim, hidden : int
        Features of a token and of the pool, and hidden width of its linear layers.

    Returns
    -------
    dict of str to Tensor
        torch has one matrix for queries, keys and values where tokens are as wide as the pool, else three.
    """
    attention = "cross_attention.multihead_attn."
    projections = (
        {"in_proj_weight": (3 * dim, dim)}
        if width == dim
        else {"q_proj_weight": (dim, dim), "k_proj_weight": (dim, width), "v_proj_weight": (dim, width)}
    )
    more = {"in_proj_bias": (3 * dim,), "out_proj.weight": (dim, dim), "out_proj.bias": (dim,)}
    shapes: dict[str, tuple[int, ...]] = {
        "cross_attention.query": (1, 1, dim),
        **{attention + name: shape for name, shape in (projections | more).items()},
        "cross_attention.layernorm.weight": (dim,),
        "cross_attention.layernorm.bias": (dim,),
        "mlp.encoder.weight": (hidden, dim),
        "mlp.encoder.bias": (hidden,),
        "mlp.decoder.weight": (dim, hidden),
        "mlp.decoder.bias": (dim,),
    }
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def fold_biases(given: Mapping[str, Tensor], dim: int, heads: int) -> dict[str, Tensor]:
    """Fold the biases of queries and keys into our form; the products are in double precision.

    Parameters
    ----------
    given : mapping of str to Tensor
        All tensors of a pool, as the file has them.
    dim, heads : int
        Features of the pool, and attention heads.

    Returns
    -------
    dict of str to Tensor
    """
    attention = {
        name.removeprefix("cross_attention.multihead_attn."): tensor.double()
        for name, tensor in given.items()
        if name.startswith("cross_attention.multihead_attn.")
    }
    if "in_proj_weight" in attention:
        queries, keys, values = attention["in_proj_weight"].chunk(3)
    else:
        queries, keys, values = (attention[f"{name}_proj_weight"] for name in "qkv")
    query_bias, _, value_bias = attention["in_proj_bias"].chunk(3)
    query = queries @ given["cross_attention.query"].double().flatten() + query_bias
    width = keys.shape[1]
    return {
        "mean": torch.zeros(width),
        "std": torch.ones(width),
        "query": query.view(heads, dim // heads),
        "key.weight": keys,
        "value.weight": values,
        "value.bias": value_bias,
        "out.weight": attention["out_proj.weight"],
        "out.bias": attention["out_proj.bias"],
        "mlp.0.weight": given["cross_attention.layernorm.weight"],
        "mlp.0.bias": given["cross_attention.layernorm.bias"],
        "mlp.1.weight": given["mlp.encoder.weight"],
        "mlp.1.bias": given["mlp.encoder.bias"],
        "mlp.3.weight": given["mlp.decoder.weight"],
        "mlp.3.bias": given["mlp.decoder.bias"],
    }


# By the kind of rows that they pool.
POOLS = {
    "image": PublishedPool("state_dict/image_encoder.", None),
    "spectrum": PublishedPool("state_dict/spectrum_encoder.", "norm"),
}
