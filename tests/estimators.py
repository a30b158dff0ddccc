"""What the batteries of tests run on: every registered class, and a tiny configuration of each estimator."""

import inspect
from importlib import import_module

from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skastro import (
    ActiveRanking,
    AstroCLIPEmbedder,
    BarlowTwinsEmbedder,
    BYOLEmbedder,
    DINOEmbedder,
    DirichletClassifier,
    EmbeddingMap,
    FineTuneClassifier,
    FineTuneRegressor,
    FixedImageEmbedder,
    FixedSpectrumEmbedder,
    FlowPosterior,
    HybridBYOLEmbedder,
    ImageEncoder,
    LookAlikes,
    MaskedSpectrumEmbedder,
    MoCoEmbedder,
    PhotoZRegressor,
    SimCLREmbedder,
    SpecFormer,
    SpectrumEncoder,
    VICRegEmbedder,
    VoteEmbedder,
    _registry,
)
from skastro.modalities import ImageEmbedder
from skastro.preprocessing import Deredden

REGISTERED = {
    f"{home}.{name}": getattr(import_module(home), name)
    for table in (_registry.EXPORTED, _registry.FURTHER)
    for home, names in table.items()
    for name in names.split()
}


def is_estimator(cls):
    """Tell whether scikit-learn's checks apply: it fits and answers, and needs no fitted part to be made."""
    parameters = inspect.signature(cls).parameters.values()
    needs_parts = any(parameter.default is parameter.empty for parameter in parameters)
    answers = any(hasattr(cls, method) for method in ("transform", "predict", "kneighbors", "score_samples"))
    return hasattr(cls, "fit") and answers and not needs_parts


ESTIMATORS = [cls for cls in REGISTERED.values() if is_estimator(cls)]
IMAGE_EMBEDDERS = [cls for cls in ESTIMATORS if issubclass(cls, ImageEmbedder)]

TUNED = {
    # Small features: the checks ask two sums in different order to agree to 1e-7, of images of any brightness.
    "encoder": ImageEncoder("test_resnet", pool="avg", init=None),
    "n_layers": 0,
    "augment": None,
    "normalize": None,
    "max_epochs": 1,
    "batch_size": 256,
}
# Under its name, what stands for an estimator in every battery; after a comma, more of it for scikit-learn's checks.
TINY = {
    "BYOLEmbedder": BYOLEmbedder("test_resnet", max_epochs=1, batch_size=32, hidden_dim=16, projection_dim=8),
    "DINOEmbedder": DINOEmbedder("test_resnet", max_epochs=1, batch_size=32, hidden_dim=16, prototypes=8),
    "DINOEmbedder, all parts": DINOEmbedder(
        "test_vit",
        max_epochs=1,
        batch_size=32,
        hidden_dim=16,
        prototypes=8,
        ibot_weight=1.0,
        koleo_weight=0.1,
    ),
    "MoCoEmbedder": MoCoEmbedder("test_resnet", max_epochs=1, batch_size=32, projection_dim=8),
    "SimCLREmbedder": SimCLREmbedder("test_resnet", max_epochs=1, batch_size=32, hidden_dim=16, projection_dim=8),
    "MaskedSpectrumEmbedder": MaskedSpectrumEmbedder(SpectrumEncoder(depth=1, width=8, heads=2), max_epochs=1),
    "AstroCLIPEmbedder": AstroCLIPEmbedder(
        "test_resnet", SpectrumEncoder(depth=1, width=8, heads=2), embedding_dim=64, max_epochs=1, batch_size=32
    ),
    "AstroCLIPEmbedder, tables": AstroCLIPEmbedder(StandardScaler(), StandardScaler(), embedding_dim=64, max_epochs=1),
    "DirichletClassifier": DirichletClassifier(),
    "DirichletClassifier, hidden layer": DirichletClassifier(hidden_layer_sizes=(8,)),
    "HybridBYOLEmbedder": HybridBYOLEmbedder(
        "test_resnet", max_epochs=1, batch_size=32, hidden_dim=16, projection_dim=8
    ),
    "VICRegEmbedder": VICRegEmbedder("test_resnet", max_epochs=1, batch_size=32, hidden_dim=16, projection_dim=8),
    "BarlowTwinsEmbedder": BarlowTwinsEmbedder(
        "test_resnet", max_epochs=1, batch_size=32, hidden_dim=16, projection_dim=8
    ),
    "FixedImageEmbedder": FixedImageEmbedder("test_resnet", batch_size=32),
    "FixedSpectrumEmbedder": FixedSpectrumEmbedder(SpectrumEncoder(depth=1, width=8, heads=2)),
    "FixedSpectrumEmbedder, SpecFormer": FixedSpectrumEmbedder(SpecFormer(width=8, depth=1, heads=2)),
    "FixedSpectrumEmbedder, convolutions": FixedSpectrumEmbedder("conv-attention"),
    "VoteEmbedder": VoteEmbedder("test_resnet", max_epochs=1, batch_size=32),
    "FineTuneClassifier": FineTuneClassifier(**TUNED),
    "FineTuneClassifier, votes": FineTuneClassifier(head="dirichlet", dropout=0.0, **TUNED),
    "FineTuneRegressor": FineTuneRegressor(**TUNED),
    "FineTuneRegressor, redshift bins": FineTuneRegressor(head="redshift-bins", **TUNED),
    "FlowPosterior": FlowPosterior(2, n_transforms=1, hidden_dim=8, max_epochs=1),
    "FlowPosterior, coupling": FlowPosterior(2, flow="coupling", n_transforms=1, hidden_dim=8, max_epochs=1),
    "PhotoZRegressor": PhotoZRegressor(),
    "PhotoZRegressor, recalibrated": PhotoZRegressor(cv=2),
    "PhotoZRegressor, wide bins": PhotoZRegressor(n_bins=8, low=-300.0, high=300.0),
    "PhotoZRegressor, a tree": PhotoZRegressor(DecisionTreeClassifier(random_state=0), n_bins=8),
    "Deredden": Deredden(),
    "EmbeddingMap": EmbeddingMap("pca"),
    "EmbeddingMap, UMAP": EmbeddingMap("umap"),
    "ActiveRanking": ActiveRanking(random_state=0),
    "LookAlikes": LookAlikes(),
    "LookAlikes, index": LookAlikes(metric="euclidean", backend="usearch"),
}


def tiny(cls, **params):
    """Make the tiny configuration of an estimator, with other parameters as given."""
    return clone(TINY[cls.__name__]).set_params(**params)
