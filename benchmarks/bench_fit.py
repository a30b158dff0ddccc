"""An embedder's fit against a bare torch loop of the same networks, views and precision, and against lightly.

python benchmarks/bench_fit.py [--method byol] [--images 512] [--epochs 8] [--rounds 5] [--device auto] [--lightly]

BYOL, MoCo and SimCLR train a ResNet18 on two views of 64²; DINO (with iBOT and KoLeo) a ViT-tiny of patches of 8 on two
of 64² and four of 32².
"""

import argparse
import copy
from itertools import chain, repeat

import numpy as np
import torch
from machine import ENCODER, adamw, compare, galaxies, header, rates
from sklearn.base import clone

from skastro import BYOLEmbedder, DINOEmbedder, MoCoEmbedder, SimCLREmbedder
from skastro.augment import get_recipe
from skastro.augment.views import Views
from skastro.devices import resolve_device, uses_bf16
from skastro.encoders import ImageEncoder, Normalizer
from skastro.pixels import measure_bands
from skastro.pretrain.byol import BYOL
from skastro.pretrain.dino import DINO
from skastro.pretrain.moco import MoCo
from skastro.pretrain.simclr import SimCLR

BATCH, LR, DECAY, EMA = 128, 1e-3, 1e-4, 0.99
VIT = ImageEncoder("vit_tiny_patch16_224", patch=8)
METHODS = {
    "byol": (BYOLEmbedder(ENCODER), lambda encoder, _: BYOL(encoder, 512, 1024, 256)),
    "moco": (MoCoEmbedder(ENCODER), lambda encoder, _: MoCo(encoder, 512, 128, BATCH, 0.1, symmetric=False)),
    "simclr": (SimCLREmbedder(ENCODER), lambda encoder, _: SimCLR(encoder, 512, 1024, 128, 0.1)),
    "dino": (
        DINOEmbedder(VIT, augment="galaxy-crops", ibot_weight=1.0, koleo_weight=0.1),
        lambda encoder, masks: DINO(encoder, WIDTH, 1024, 4096, "centering", (0.04, 0.07), 1.0, 0.1, masks),
    ),
}
WIDTH = 8 * 192  # of four blocks of ViT-tiny, by mean and maximum


def ours(method: str, images: np.ndarray, epochs: int, device: str, precision: str) -> None:
    embedder = clone(METHODS[method][0]).set_params(max_epochs=epochs, batch_size=BATCH, device=device, random_state=0)
    embedder.set_params(training__precision=precision, training__optimizer="adamw").fit(images)


def bare(method: str, images: np.ndarray, epochs: int, device: torch.device, bf16: bool) -> None:
    """The loop that one writes by hand when in a hurry and good at it."""
    torch.manual_seed(0)
    embedder, objective_of = METHODS[method]
    bands = measure_bands(images, "standard")
    recipe = get_recipe(embedder.augment).fit(images, noise=bands["noise"])
    generator = torch.Generator(device).manual_seed(0)
    views = Views(recipe.views(images.shape[2:]), Normalizer(bands).to(device), generator)
    encoder = embedder.encoder.build(images.shape[1], images.shape[2:])
    objective = objective_of(encoder, torch.Generator(device).manual_seed(1)).to(device).train()
    objective.to(memory_format=torch.channels_last)
    optimizer = adamw(objective, LR, DECAY)
    data = torch.from_numpy(images).to(device)
    steps = -(-len(images) // BATCH)
    batches = (rows for _ in range(epochs) for rows in torch.randperm(len(images)).tensor_split(steps))
    for step, rows in enumerate(batches):
        objective.schedule(step, steps * epochs)
        with torch.no_grad():
            drawn = views(data[rows.to(device)])
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = objective(*drawn)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.update(EMA)
        loss.item()


def lightly(images: np.ndarray, epochs: int) -> None:
    """The loop of lightly's own BYOL example: per-sample views, float32, its modules and its loss."""
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform
    from PIL import Image
    from torchvision.models import resnet18

    transform = BYOLTransform(BYOLView1Transform(input_size=64), BYOLView2Transform(input_size=64))
    pictures = [Image.fromarray(np.moveaxis(image, 0, -1)) for image in images]
    loader = torch.utils.data.DataLoader(
        Views2(pictures, transform), batch_size=BATCH, shuffle=True, drop_last=True, num_workers=0
    )
    backbone = torch.nn.Sequential(*list(resnet18().children())[:-1])
    projector, predictor = BYOLProjectionHead(512, 1024, 256), BYOLPredictionHead(256, 1024, 256)
    slow = copy.deepcopy(backbone), copy.deepcopy(projector)
    for module in slow:
        deactivate_requires_grad(module)
    parameters = [p for module in (backbone, projector, predictor) for p in module.parameters()]
    optimizer, criterion = torch.optim.AdamW(parameters, lr=LR), NegativeCosineSimilarity()
    for first, second in chain.from_iterable(repeat(loader, epochs)):
        update_momentum(backbone, slow[0], m=EMA)
        update_momentum(projector, slow[1], m=EMA)
        p0, p1 = (predictor(projector(backbone(view).flatten(1))) for view in (first, second))
        with torch.no_grad():
            z0, z1 = (slow[1](slow[0](view).flatten(1)) for view in (first, second))
        loss = 0.5 * (criterion(p0, z1) + criterion(p1, z0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Views2(torch.utils.data.Dataset):
    """Pictures through a per-sample transform."""

    def __init__(self, pictures, transform):
        self.pictures, self.transform = pictures, transform

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, row):
        return self.transform(self.pictures[row])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", choices=METHODS, default="byol")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--lightly", action="store_true")
    chosen = parser.parse_args()
    device = resolve_device(chosen.device)
    bf16 = uses_bf16(chosen.precision, device)
    header(f"fit: {chosen.method}, batch {BATCH}, {'bf16' if bf16 else 'fp32'}, {device}")
    images = galaxies(chosen.images)
    work = {
        "skastro": lambda: ours(chosen.method, images, chosen.epochs, chosen.device, chosen.precision),
        "bare loop": lambda: bare(chosen.method, images, chosen.epochs, device, bf16),
    }
    if chosen.lightly:
        work["lightly"] = lambda: lightly(images, chosen.epochs)
    measured = rates(work, len(images) * chosen.epochs, chosen.rounds)
    compare(measured, "skastro", "bare loop", 0.95)
    if chosen.lightly:
        compare(measured, "skastro", "lightly", 1.8)


if __name__ == "__main__":
    main()
