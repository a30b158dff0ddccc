"""Self-supervised learning for astronomical data as ordinary scikit-learn estimators."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Each name is imported when first used, so that `import skastro` loads no torch.
HOMES = {
    "AstroCLIPEmbedder": "skastro.pretrain",
    "BYOLEmbedder": "skastro.pretrain",
    "DirichletClassifier": "skastro.downstream",
    "DINOEmbedder": "skastro.pretrain",
    "FineTuneClassifier": "skastro.downstream",
    "FineTuneRegressor": "skastro.downstream",
    "FlowPosterior": "skastro.downstream",
    "HybridBYOLEmbedder": "skastro.pretrain",
    "ImageEncoder": "skastro.encoders",
    "MaskedSpectrumEmbedder": "skastro.pretrain",
    "MoCoEmbedder": "skastro.pretrain",
    "PhotoZRegressor": "skastro.downstream",
    "SimCLREmbedder": "skastro.pretrain",
    "SpectrumEncoder": "skastro.encoders",
    "Survey": "skastro.surveys",
    "Training": "skastro.training",
    "VoteEmbedder": "skastro.pretrain",
    "VoteSchema": "skastro.votes",
    "augmentation_ablation": "skastro.model_selection",
    "label_sweep": "skastro.model_selection",
    "load": "skastro.persistence",
    "published": "skastro.papers",
    "save": "skastro.persistence",
}

__all__ = [
    "AstroCLIPEmbedder",
    "BYOLEmbedder",
    "DINOEmbedder",
    "DirichletClassifier",
    "FineTuneClassifier",
    "FineTuneRegressor",
    "FlowPosterior",
    "HybridBYOLEmbedder",
    "ImageEncoder",
    "MaskedSpectrumEmbedder",
    "MoCoEmbedder",
    "PhotoZRegressor",
    "SimCLREmbedder",
    "SpectrumEncoder",
    "Survey",
    "Training",
    "VoteEmbedder",
    "VoteSchema",
    "augmentation_ablation",
    "label_sweep",
    "load",
    "published",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'skastro' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *HOMES])
