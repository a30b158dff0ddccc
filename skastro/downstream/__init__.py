"""Estimators that answer a question: votes, fine-tuned encoders, photometric redshifts, posteriors."""

from skastro.downstream.dirichlet import DirichletClassifier
from skastro.downstream.finetune import FineTuneClassifier, FineTuneRegressor
from skastro.downstream.heads import (
    ClassHead,
    DirichletHead,
    Head,
    LinearHead,
    RedshiftHead,
    SoftmaxHead,
    ValueHead,
)
from skastro.downstream.photoz import PhotoZRegressor, RedshiftBins
from skastro.downstream.posterior import FlowPosterior

__all__ = [
    "ClassHead",
    "DirichletClassifier",
    "DirichletHead",
    "FineTuneClassifier",
    "FineTuneRegressor",
    "FlowPosterior",
    "Head",
    "LinearHead",
    "PhotoZRegressor",
    "RedshiftBins",
    "RedshiftHead",
    "SoftmaxHead",
    "ValueHead",
]
