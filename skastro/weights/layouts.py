"""Where published checkpoints keep their encoder, and what its tensors are called there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor

from skastro.weights.files import Weights, license_of

__all__ = ["LAYOUTS", "Layout", "find_layout"]


@dataclass(frozen=True)
class Layout:
    r"""How a project calls the tensors of its encoder, and what timm calls them.

    Parameters
    ----------
    name : str
        Name of the layout.
    mark : str
        Regular expression that finds a tensor of such a file, and of no other.
    encoder : str
        Regular expression of what stands before the encoder's tensors; it is cut off, and all else is left.
    left : str, default=r"(?!)"
        Regular expression of what is no part of the encoder although it stands there: heads, mask tokens, names that
        repeat others.
    renamed : tuple of (str, str), default=()
        Regular expressions, and what timm has in their place, in turn.
    transposed : bool, default=False
        Whether the network was trained on images with x along the rows. Its kernels are transposed, so that it reads
        images as they lie, and gives the same features.
    bands : int, default=None
        Channels of the first convolution, which `mark` then finds, where only these tell such a file from another.
    citation : str, default=""
        What to cite.
    license : str, default=""
        Of the weights, where their authors state one.

    Examples
    --------
    >>> import torch
    >>> from skastro.weights import LAYOUTS
    >>> tensors = {"encoder_momentum.layers.1.bn1.bias": torch.ones(1), "encoder.layers.1.bn1.bias": torch.zeros(1)}
    >>> LAYOUTS["rgz-byol"].select({f"state_dict/{name}": tensor for name, tensor in tensors.items()})
    {'layer1.0.bn1.bias': tensor([0.])}
    """

    name: str
    mark: str
    encoder: str
    left: str = r"(?!)"
    renamed: tuple[tuple[str, str], ...] = ()
    transposed: bool = False
    bands: int | None = None
    citation: str = ""
    license: str = ""

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Tell whether a file is laid out so.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            All tensors of the file.

        Returns
        -------
        bool
        """
        marks = [tensor for name, tensor in tensors.items() if re.match(self.mark, name)]
        return any(self.bands is None or (mark.ndim == 4 and mark.shape[1] == self.bands) for mark in marks)

    def select(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take the encoder's tensors, under the names that timm has for them.

        Parameters
        ----------
        tensors : dict of str to Tensor
            All tensors of the file.

        Returns
        -------
        dict of str to Tensor
        """
        found = {}
        for name, tensor in tensors.items():
            if (before := re.match(self.encoder, name)) and not re.match(self.left, name[before.end() :]):
                found[self.rename(name[before.end() :])] = self._turn(tensor)
        return found

    def rename(self, name: str) -> str:
        """Translate the name of a tensor.

        Parameters
        ----------
        name : str
            Name in the file, without what stands before the encoder's.

        Returns
        -------
        str
        """
        for pattern, replacement in self.renamed:
            name = re.sub(pattern, replacement, name)
        return name

    def facts(self, weights: Weights, taken: int) -> dict[str, Any]:
        """Tell what a provenance says of weights that were loaded.

        Parameters
        ----------
        weights : Weights
            What was read.
        taken : int
            Tensors that the network has taken.

        Returns
        -------
        dict
            ``source``, ``layout``, how many tensors were ``left``, and ``citation`` and ``license`` where known.
        """
        known = {"citation": self.citation, "license": self.license or license_of(weights)}
        facts = {"source": weights.name, "layout": self.name, "left": len(weights.tensors) - taken}
        return facts | {name: value for name, value in known.items() if value}

    def _turn(self, tensor: Tensor) -> Tensor:
        return tensor.mT if self.transposed and tensor.ndim == 4 else tensor


BLOCKS = tuple((rf"^layers\.{n}\.", f"layer{(n + 1) // 2}.{(n - 1) % 2}.") for n in range(1, 9))
CHUNKS = ((r"module\.", ""), (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."))
ASTROCLIP = "Parker et al. (2024), arXiv:2310.03024"
ZOOBOT = "Walmsley et al. (2023), doi:10.21105/joss.05312"

# In the order in which a file is tried.
LAYOUTS = {
    layout.name: layout
    for layout in (
        # github inigoval/byol. The momentum network and two heads stand beside the encoder, whose blocks are counted
        # through; `finetuning_layers` names the same tensors once more.
        Layout(
            "rgz-byol",
            r"state_dict/encoder\.layers\.0\.0\.",
            r"state_dict/encoder\.",
            r"finetuning_layers\.",
            ((r"^layers\.0\.0\.", "conv1."), (r"^layers\.0\.1\.", "bn1."), *BLOCKS),
            citation="Slijepcevic et al. (2023), arXiv:2305.16127",
        ),
        # github mahayat/ssl-sky-surveys: MoCo's query network, or a fine-tuned one.
        Layout(
            "hayat",
            r"(state_dict/module\.encoder_q|model_state/module)\.conv1\.",
            r"(state_dict/module\.encoder_q|model_state/module)\.",
            r"fc\.",
            transposed=True,
            bands=5,
            citation="Hayat et al. (2021), arXiv:2012.13083",
        ),
        # github georgestein/ssl-legacysurvey: MoCo's query network, or a fine-tuned one.
        Layout(
            "stein",
            r"state_dict/(encoder_q|backbone)\.conv1\.",
            r"state_dict/(encoder_q|backbone)\.",
            r"fc\.",
            transposed=True,
            citation="Stein et al. (2021), arXiv:2110.13151",
            license="MIT",
        ),
        # github PolymathicAI/AstroCLIP: the teacher of DINOv2, whose blocks come in chunks.
        Layout(
            "astrodino",
            r"teacher/backbone\.",
            r"teacher/backbone\.",
            r"mask_token$",
            CHUNKS,
            citation=ASTROCLIP,
            license="MIT",
        ),
        Layout(
            "astroclip",
            r"state_dict/image_encoder\.backbone\.",
            r"state_dict/image_encoder\.backbone\.",
            r"mask_token$",
            CHUNKS,
            citation=ASTROCLIP,
            license="MIT",
        ),
        # github mwalmsley/zoobot: Lightning's checkpoints.
        Layout("zoobot", r"state_dict/encoder\.", r"state_dict/encoder\.(_orig_mod\.)?", citation=ZOOBOT),
        Layout("timm", r"((state_dict|model|state_dict_ema|model_ema)/)?(module\.)?[^/]+$", r"(\w+/)?(module\.)?"),
        # Its encoders on the hub are laid out as timm's, so that only a name tells them.
        Layout("zoobot-encoder", r"[^/]+$", r"", citation=ZOOBOT),
    )
}


def find_layout(
    weights: Weights, name: str | None = None, layouts: Mapping[str, Layout] = MappingProxyType(LAYOUTS)
) -> Layout:
    """Find how a file is laid out.

    Parameters
    ----------
    weights : Weights
        What was read.
    name : str, default=None
        Name of the layout, if it is known.
    layouts : mapping of str to Layout, default=LAYOUTS
        Those that it may have, by name.

    Returns
    -------
    Layout

    Raises
    ------
    ValueError
        If no layout has that name, or the file is not laid out so, or as none that is known.

    Examples
    --------
    >>> import torch
    >>> from skastro.weights import Weights, find_layout
    >>> find_layout(Weights("stein.ckpt", {"state_dict/encoder_q.conv1.weight": torch.zeros(1)})).name
    'stein'
    """
    if name is not None and name not in layouts:
        raise ValueError(f"Unknown layout {name!r}; known are {', '.join(layouts)}.")
    for layout in layouts.values() if name is None else [layouts[name]]:
        if layout.fits(weights.tensors):
            return layout
    first = ", ".join(list(weights.tensors)[:3])
    kind = f"as any of {', '.join(layouts)}" if name is None else f"as {name!r}"
    raise ValueError(f"{weights.source} is not laid out {kind}; its tensors begin with {first}.")
