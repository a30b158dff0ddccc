"""Blocks of an encoder, for fine-tuning a part of it and caching the output of the frozen part."""

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from skastro.encoders.images import TimmEncoder

__all__ = ["Tail", "Trunk", "blocks", "split"]


def blocks(encoder: nn.Module) -> dict[str, list[str]]:
    """Group an encoder's parameters by its blocks.

    The blocks of a timm network are the stem, then each residual or transformer block; a final norm belongs to the
    block before it. The blocks of any other module are its children.

    Parameters
    ----------
    encoder : nn.Module
        A network.

    Returns
    -------
    dict of str to list of str
        Names of the parameters of each block, from the input to the head, by the name of the block's first module.

    Examples
    --------
    >>> from skastro.encoders import ImageEncoder, blocks
    >>> list(blocks(ImageEncoder("resnet18").build(bands=3, size=(64, 64))))[-2:]
    ['network.layer4.0', 'network.layer4.1']
    """
    network: Any = encoder.network if isinstance(encoder, TimmEncoder) else encoder
    prefix = "" if network is encoder else "network."
    parameters = {prefix + name: parameter for name, parameter in network.named_parameters()}
    groups = [[prefix + name for name in group] for group in _groups(network)]
    if len(groups) > 1 and all(parameters[name].ndim < 2 for name in groups[-1]):
        groups[-2:] = [groups[-2] + groups[-1]]
    return {_module_of(group, parameters): group for group in groups}


def _groups(network: Any) -> list[list[str]]:
    if hasattr(network, "group_matcher"):
        groups = group_parameters(network, network.group_matcher(coarse=False))
        return [groups[number] for number in sorted(groups)]
    children: dict[str, list[str]] = {}
    for name, _ in network.named_parameters():
        children.setdefault(name.partition(".")[0], []).append(name)
    return list(children.values())


def _module_of(group: list[str], names: Iterable[str]) -> str:
    """Return the largest module that lies wholly in a block and holds its first parameter, or else that parameter."""
    elsewhere = {path for name in set(names) - set(group) for path in _paths(name)}
    return next((path for name in group for path in _paths(name) if path not in elsewhere), group[0])


def _paths(name: str) -> list[str]:
    return list(accumulate(name.split(".")[:-1], "{}.{}".format))


class Trunk(nn.Module):
    """First part of an encoder: it returns the input of one of its blocks, and nothing after that runs.

    Parameters
    ----------
    encoder : nn.Module
        Encoder with blocks that run one after the other.
    block : str
        Name of the first block that does not run.
    """

    def __init__(self, encoder: nn.Module, block: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.block = block

    def forward(self, *view: Tensor) -> Tensor:
        """Compute the input of the block.

        Parameters
        ----------
        *view : Tensor
            Input of the encoder.

        Returns
        -------
        Tensor of shape (n, ...)
        """
        with self.encoder.get_submodule(self.block).register_forward_pre_hook(_stop):
            try:
                self.encoder(*view)
            except _Reached as reached:
                return reached.args[0]
        raise RuntimeError(f"The encoder never ran its block {self.block!r}.")


class Tail(nn.Module):
    """Last part of an encoder, from one of its blocks on: its input is that of the block instead of a view.

    Parameters
    ----------
    encoder : nn.Module
        Encoder with blocks that run one after the other.
    block : str
        Name of the first block to run.
    *blank : Tensor
        Input of the encoder for one row. The part before the block runs on it, without effect.

    Examples
    --------
    >>> import torch
    >>> from skastro.encoders import ImageEncoder, Tail, Trunk
    >>> images = torch.rand(3, 1, 32, 32)
    >>> encoder = ImageEncoder("test_resnet", pool="avgmax").build(bands=1, size=(32, 32)).eval()
    >>> trunk, tail = Trunk(encoder, "network.layer4.0"), Tail(encoder, "network.layer4.0", images[:1])
    >>> bool((tail(trunk(images)) == encoder(images)).all())
    True
    """

    def __init__(self, encoder: nn.Module, block: str, *blank: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.block = block
        for place, part in enumerate(blank):
            self.register_buffer(f"blank{place}", part, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Embed the input of the block.

        Parameters
        ----------
        features : Tensor of shape (n, ...)
            Output of the trunk.

        Returns
        -------
        Tensor of shape (n, d)
        """
        block = self.encoder.get_submodule(self.block)
        with block.register_forward_pre_hook(lambda module, inputs: (features, *inputs[1:])):
            return self.encoder(*self.buffers(recurse=False))


def split(encoder: nn.Module, block: str, *view: Tensor) -> tuple[Trunk, Tail] | None:
    """Cut an encoder in two, if its blocks run one after the other.

    Parameters
    ----------
    encoder : nn.Module
        Encoder in eval mode.
    block : str
        Name of the first block of the tail.
    *view : Tensor
        Input of the encoder for a few rows, on which both parts together must equal the whole.

    Returns
    -------
    tuple of Trunk and Tail, or None
        None if a path leads around the cut.
    """
    trunk, tail = Trunk(encoder, block), Tail(encoder, block, *(part[:1] for part in view))
    with torch.no_grad():
        try:
            whole = encoder(*view)
            same = torch.allclose(tail(trunk(*view)), whole, rtol=0, atol=1e-4 * float(whole.abs().max()))
        except (RuntimeError, AttributeError):  # shapes that do not match, or a block that is not a module
            return None
    return (trunk, tail) if same else None


class _Reached(Exception):  # noqa: N818 not an error
    """Exception that carries the input of a block out of the network."""


def _stop(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    raise _Reached(inputs[0])
