"""Estimators that answer a question: fine-tuned encoders, photometric redshifts."""

from skastro.downstream.finetune import FineTuneClassifier, FineTuneRegressor
from skastro.downstream.photoz import PhotoZRegressor, RedshiftBins

__all__ = ["FineTuneClassifier", "FineTuneRegressor", "PhotoZRegressor", "RedshiftBins"]
