"""The blocks of an encoder: what fine-tuning unfreezes, and where a frozen part ends."""

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from skastro.encoders.images import TimmEncoder

__all__ = ["Tail", "Trunk", "blocks", "split"]


def blocks(encoder: nn.Module) -> dict[str, list[str]]:
    """Sort an encoder's parameters into its own blocks.

    A timm network knows its blocks: the stem, then each residual or transformer block; a last norm belongs to the
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
    """Find the largest module that is wholly of a block and holds its first parameters, or else name the first."""
    elsewhere = {path for name in set(names) - set(group) for path in _paths(name)}
    return next((path for name in group for path in _paths(name) if path not in elsewhere), group[0])


def _paths(name: str) -> list[str]:
    return list(accumulate(name.split(".")[:-1], "{}.{}".format))


class Trunk(nn.Module):
    """An encoder up to one of its blocks: it gives what enters the block, and nothing behind it runs.

    Parameters
    ----------
    encoder : nn.Module
        Whose blocks run one after the other.
    block : str
        Name of the first block that does not run.
    """

    def __init__(self, encoder: nn.Module, block: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.block = block

    def forward(self, *view: Tensor) -> Tensor:
        """Compute what enters the block.

        Parameters
        ----------
        *view : Tensor
            What the encoder takes.

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
    """An encoder from one of its blocks on: it takes what enters the block in the place of a view.

    Parameters
    ----------
    encoder : nn.Module
        Whose blocks run one after the other.
    block : str
        Name of the first block to run.
    *blank : Tensor
        What the encoder takes of one row; what lies before the block runs on it, without effect.

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
        """Embed from the block on.

        Parameters
        ----------
        features : Tensor of shape (n, ...)
            What the trunk gave.

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
        In eval mode.
    block : str
        Name of the first block of the tail.
    *view : Tensor
        What the encoder takes of a few rows, on which both parts together must equal the whole.

    Returns
    -------
    tuple of Trunk and Tail, or None
        None where a path leads around the cut.
    """
    trunk, tail = Trunk(encoder, block), Tail(encoder, block, *(part[:1] for part in view))
    with torch.no_grad():
        try:
            whole = encoder(*view)
            same = torch.allclose(tail(trunk(*view)), whole, rtol=0, atol=1e-4 * float(whole.abs().max()))
        except (RuntimeError, AttributeError):  # shapes that do not fit, or a block that is no module
            return None
    return (trunk, tail) if same else None


class _Reached(Exception):  # noqa: N818 not an error
    """Carries what enters a block out of the network."""


def _stop(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    raise _Reached(inputs[0])
