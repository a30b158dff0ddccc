"""The one table of our classes: a new estimator is one file, and one name here.

From it come the names of ``skastro`` itself, the classes that files may hold, and the members of the batteries of
tests. It imports nothing, so that ``import skastro`` loads no torch. Each entry is a module and what it defines.
"""

# Of files and of the fitted states in them and in pickles: raised when a class below moves or its state changes.
FORMAT = 4

# Where scikit-learn keeps callbacks on an estimator: nothing learned, so no file holds them.
CALLBACKS = frozenset({"_callback_fit_ctx", "_parent_callback_ctx", "_skl_callbacks", "_skl_callbacks_to_teardown"})

# Classes that `skastro` itself offers, and that files may hold.
EXPORTED = {
    "skastro.downstream.dirichlet": "DirichletClassifier",
    "skastro.downstream.finetune": "FineTuneClassifier FineTuneRegressor",
    "skastro.downstream.photoz": "PhotoZRegressor",
    "skastro.downstream.posterior": "FlowPosterior",
    "skastro.encoders.astroclip": "AstroCLIPImageEncoder",
    "skastro.encoders.images": "ImageEncoder",
    "skastro.encoders.specformer": "SpecFormer",
    "skastro.encoders.spectra": "ConvSpectrumEncoder SpectrumEncoder",
    "skastro.maps": "EmbeddingMap",
    "skastro.modalities.fixed": "FixedImageEmbedder FixedSpectrumEmbedder",
    "skastro.pretrain.barlow": "BarlowTwinsEmbedder",
    "skastro.pretrain.byol": "BYOLEmbedder",
    "skastro.pretrain.clip": "AstroCLIPEmbedder",
    "skastro.pretrain.dino": "DINOEmbedder",
    "skastro.pretrain.hybrid": "HybridBYOLEmbedder",
    "skastro.pretrain.masked": "MaskedSpectrumEmbedder",
    "skastro.pretrain.moco": "MoCoEmbedder",
    "skastro.pretrain.simclr": "SimCLREmbedder",
    "skastro.pretrain.vicreg": "VICRegEmbedder",
    "skastro.pretrain.votes": "VoteEmbedder",
    "skastro.search.active": "ActiveRanking",
    "skastro.search.look_alikes": "LookAlikes",
    "skastro.surveys": "Survey",
    "skastro.training.config": "Training",
    "skastro.votes.schema": "VoteSchema",
}

# Classes that files may hold, imported from their own modules.
FURTHER = {
    "skastro.augment.aperture": "Aperture",
    "skastro.augment.base": "Augment",
    "skastro.augment.detector": "Background BandDropout GaussianNoise HotPixels SatelliteTrail",
    "skastro.augment.distributions": "HalfNormal LogNormal Uniform",
    "skastro.augment.geometry": "Crop Dihedral Flip Rotate Shift Zoom",
    "skastro.augment.multiview": "MultiView",
    "skastro.augment.sky": "ColorJitter GaussianBlur Grayscale PSFBlur Redden",
    "skastro.augment.spectra": "ContiguousMask ContinuumTilt InverseVarianceNoise Redshift",
    "skastro.downstream.answers": "Answers",
    "skastro.downstream.heads": "DirichletHead LinearHead RedshiftHead SoftmaxHead",
    "skastro.downstream.photoz": "RedshiftBins",
    "skastro.metrics.scorers": "CRPSScorer VoteScorer",
    "skastro.preprocessing": "Deredden",
    "skastro.pretrain.pooled": "PooledEmbedder",
    "skastro.stretches": "Lupton PercentileStretch Standardize",
}

# Functions that `skastro` itself offers.
FUNCTIONS = {
    "skastro.cards": "model_card push_to_hub",
    "skastro.embedding": "embed",
    "skastro.explorer": "explore",
    "skastro.model_selection.ablation": "augmentation_ablation",
    "skastro.model_selection.sweeps": "label_sweep",
    "skastro.papers": "published",
    "skastro.persistence": "load save",
}

# Functions of arrays to a number, which files may hold: a fitted search keeps that of its scorer.
METRICS = {
    "skastro.metrics.photoz": "photoz_outliers sigma_mad",
    "skastro.metrics.scorers": "absolute_bias",
}
