"""Surveys that outgrow one machine: LSDB's catalogs and Dask's arrays embedded by many processes, and searched."""

from skastro.survey.arrays import embed_array
from skastro.survey.catalogs import embed_catalog, open_survey, write_embeddings
from skastro.survey.index import EmbeddingIndex
from skastro.survey.search import search_catalog

__all__ = ["EmbeddingIndex", "embed_array", "embed_catalog", "open_survey", "search_catalog", "write_embeddings"]
