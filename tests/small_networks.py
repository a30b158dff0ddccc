"""Published networks of the size that the fixtures have."""

from typing import Any

import timm
from torch import nn

from skastro.encoders import AstroCLIPImageEncoder


class SmallAstroDINO(AstroCLIPImageEncoder):
    """The image encoder of the fixture of AstroCLIP: 64 wide, two blocks, four heads."""

    def _network(self, bands: int, **kwargs: Any) -> nn.Module:
        size = {"embed_dim": 64, "depth": 2, "num_heads": 4}
        return timm.create_model(self.name, in_chans=bands, num_classes=0, **size, **kwargs)
