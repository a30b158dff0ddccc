"""Estimators that answer a question: fine-tuned encoders, photometric redshifts, posteriors."""

from skastro.downstream.finetune import FineTuneClassifier, FineTuneRegressor
from skastro.downstream.photoz import PhotoZRegressor, RedshiftBins
from skastro.downstream.posterior import FlowPosterior

__all__ = ["FineTuneClassifier", "FineTuneRegressor", "FlowPosterior", "PhotoZRegressor", "RedshiftBins"]
