"""A model that fails, or dies, where a file says so: what workers of Dask import for `test_survey`."""

import os
import signal
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator


class Unlucky(BaseEstimator):
    """Embeds, but fails or dies, as files in a folder say, at the image whose first pixel is `marked`."""

    def __init__(self, embedder, folder, marked):
        self.embedder = embedder
        self.folder = folder
        self.marked = marked

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        X = np.asarray(X)
        if np.any(np.isclose(X[:, 0, 0, 0], self.marked)):
            if Path(self.folder, "fails").exists():
                raise RuntimeError("this partition fails on purpose")
            if Path(self.folder, "dies").exists():
                Path(self.folder, "dies").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return self.embedder.transform(X)


def drive(catalog, model, out, **options):
    """Embed a catalog, as a process of its own."""
    import lsdb

    from skastro.survey import write_embeddings

    write_embeddings(lsdb.open_catalog(catalog), model, "cutout", out=out, **options)


def identities(catalog):
    """Describe a catalog, and cuts of it."""
    import lsdb

    from skastro.survey.catalogs import _identity

    sky = lsdb.open_catalog(catalog)
    cuts = (sky, sky.query("object_id >= 1040"), sky.query("object_id >= 1050"), sky.cone_search(0, 0, 3600 * 60))
    return [_identity(cut) for cut in cuts]
