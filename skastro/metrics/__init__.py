"""Metrics of redshifts, votes, posteriors and retrieval, tables of them, and scorers by name."""

from skastro.metrics.morphology import morphology_scores, morphology_table
from skastro.metrics.photoz import crps, delta_z, photoz_bias, photoz_outliers, photoz_table, pit, sigma_mad
from skastro.metrics.posterior import sbc_ranks, tarp
from skastro.metrics.retrieval import retrieval_ranks, retrieval_score, retrieval_table
from skastro.metrics.scorers import get_scorer, get_scorer_names, make_vote_scorer
from skastro.metrics.votes import (
    dirichlet_nll,
    interval_coverage,
    per_question,
    read_votes,
    vote_coverage,
    vote_fraction_rmse,
    vote_scores,
    vote_table,
)

__all__ = [
    "crps",
    "delta_z",
    "dirichlet_nll",
    "get_scorer",
    "get_scorer_names",
    "interval_coverage",
    "make_vote_scorer",
    "morphology_scores",
    "morphology_table",
    "per_question",
    "photoz_bias",
    "photoz_outliers",
    "photoz_table",
    "pit",
    "read_votes",
    "retrieval_ranks",
    "retrieval_score",
    "retrieval_table",
    "sbc_ranks",
    "sigma_mad",
    "tarp",
    "vote_coverage",
    "vote_fraction_rmse",
    "vote_scores",
    "vote_table",
]
