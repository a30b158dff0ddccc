"""Estimators that answer a question: votes, fine-tuned encoders, photometric redshifts, posteriors."""

from skastro.downstream.dirichlet import DirichletClassifier
from skastro.downstream.finetune import FineTuneClassifier, FineTuneRegressor
from skastro.downstream.photoz import PhotoZRegressor, RedshiftBins
from skastro.downstream.posterior import FlowPosterior

__all__ = [
    "DirichletClassifier",
    "FineTuneClassifier",
    "FineTuneRegressor",
    "FlowPosterior",
    "PhotoZRegressor",
    "RedshiftBins",
]
