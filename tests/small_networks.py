"""Image encoders of the size that the fixtures of published checkpoints have."""

from typing import Any, ClassVar

import timm
from torch import nn

from skastro.encoders import AstroCLIPImageEncoder


class SmallAstroCLIP(AstroCLIPImageEncoder):
    """That of the fixture of AstroCLIP: 64 wide, two blocks, four heads. Its name is that of another small ViT."""

    size: ClassVar[dict[str, int]] = {"embed_dim": 64, "depth": 2, "num_heads": 4}

    def _network(self, bands: int, **kwargs: Any) -> nn.Module:
        return timm.create_model("vit_small_patch14_dinov2", in_chans=bands, num_classes=0, **self.size, **kwargs)


class ShallowAstroDINO(SmallAstroCLIP):
    """That of the fixture of AstroDINO: a ViT-S of four blocks."""

    size: ClassVar[dict[str, int]] = {"depth": 4}
