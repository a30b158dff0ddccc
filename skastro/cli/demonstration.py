"""The demonstration: the main job on data that need no download."""

import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import Bunch
from threadpoolctl import threadpool_limits

__all__ = ["demo"]

# Code of the demonstration's new process: load the file, predict, save the predictions.
RELOAD = (
    "import sys, numpy, skastro; numpy.save(sys.argv[3], skastro.load(sys.argv[1]).predict(numpy.load(sys.argv[2])))"
)


def demo(out: Path, *, epochs: int = 4, galaxies: int = 1000) -> None:
    """Run the demonstration on two data sets: real galaxies without labels, simulated galaxies with labels.

    Parameters
    ----------
    out : Path
        Folder for ``look-alikes.png``, ``map.png``, the page ``map.html``, ``label-sweep.png`` and
        ``galaxies.skastro``; created if it does not exist.
    epochs : int, default=4
        Passes over each set of images.
    galaxies : int, default=1000
        Size of the simulated survey.
    """
    from skastro.training import free_threads

    out.mkdir(parents=True, exist_ok=True)
    start = perf_counter()
    with threadpool_limits(free_threads(), user_api="blas"):  # of the heads; torch counts its own
        real_galaxies(out, epochs)
        simulated_survey(out, epochs, galaxies)
    print(f"\nDone in {perf_counter() - start:.0f} s. Pictures, a map to look around in, and the model are in {out}/.")


def real_galaxies(out: Path, epochs: int) -> None:
    """Train on the deep field's cutouts, plot galaxies beside their look-alikes, and make a map to look around in.

    Parameters
    ----------
    out : Path
        Folder for the plots and the page.
    epochs : int
        Passes over the images.
    """
    from skastro import explore
    from skastro.datasets import load_hubble_deep_field
    from skastro.plotting import EmbeddingMapDisplay, LookAlikesDisplay

    field = load_hubble_deep_field()
    print(f"Real sky: {len(field.images)} objects of the Hubble deep field. Learning from them without labels ...")
    embedder = embedder_for(epochs, field).fit(field.images)
    queries = np.linspace(0, len(field.images) // 2, 6).astype(int)
    rows = embedder.transform(field.images)
    LookAlikesDisplay.from_embedding(field.images, rows, queries).figure_.savefig(out / "look-alikes.png", dpi=150)
    display = EmbeddingMapDisplay.from_embedding(rows, thumbnails=field.images)
    display.figure_.savefig(out / "map.png", dpi=150)
    explore(rows, field.images, positions=display.positions, title="Hubble deep field", path=out / "map.html")


def simulated_survey(out: Path, epochs: int, galaxies: int) -> None:
    """Pretrain on a simulated survey, compare label counts with two baselines, and save the model.

    Parameters
    ----------
    out : Path
        Folder for the plot and the model.
    epochs : int
        Passes over the images.
    galaxies : int
        Number of galaxies to simulate.
    """
    from skastro import label_sweep, save
    from skastro.datasets import make_survey
    from skastro.plotting import LabelSweepDisplay

    survey = make_survey(galaxies, bands="gri", size=48, random_state=0)
    print(f"\nSimulated sky: {len(survey.images)} galaxies in {', '.join(survey.target_names)}. Learning ...")
    embedder = embedder_for(epochs, survey).fit(survey.images)
    methods = {
        "SimCLR": probe(embedder),
        "untrained encoder": probe(embedder_for(0, survey).fit(survey.images)),
        "raw pixels": make_pipeline(FunctionTransformer(flatten), PCA(50, random_state=0), *head()),
    }
    print("\nLabel sweep, 3 folds. Pretraining saw all images and no label (transductive).")
    counts = [galaxies // parts for parts in (40, 10, 2)]
    frame = label_sweep(methods, survey.images, survey.target, label_counts=counts, cv=3, random_state=0, verbose=1)
    print(frame.pivot_table("score", "method", "n_labels", sort=False).round(3).to_string())
    print("The floor is the untrained encoder, averaged like the other.")
    LabelSweepDisplay.from_frame(frame, metric_name="accuracy").figure_.savefig(out / "label-sweep.png", dpi=150)

    known = galaxies * 4 // 5
    pipeline = probe(embedder).fit(survey.images[:known], survey.target[:known])
    save(pipeline, out / "galaxies.skastro")
    check_in_new_process(pipeline, survey.images[known:], out)


def embedder_for(epochs: int, sky: Bunch) -> Any:
    """Make the demonstration's embedder: default settings, averaged over the sky's symmetries.

    Parameters
    ----------
    epochs : int
        Passes over the images; 0 leaves the embedder untrained.
    sky : Bunch
        The data set, with the names of its bands and its pixel scale.

    Returns
    -------
    SimCLREmbedder
    """
    from skastro import SimCLREmbedder, Survey

    return SimCLREmbedder(
        survey=Survey(sky.bands, pixel_scale=sky.pixel_scale),
        average="dihedral",
        max_epochs=epochs,
        verbose=int(epochs > 0),
        random_state=0,
    )


def probe(embedder: Any) -> Pipeline:
    """Make a pipeline of a fitted, frozen embedder and a linear probe.

    Parameters
    ----------
    embedder : SimCLREmbedder
        Fitted embedder.

    Returns
    -------
    Pipeline
    """
    return make_pipeline(FrozenEstimator(embedder), *head())


def head() -> tuple[StandardScaler, LogisticRegression]:
    """Make the linear probe that all methods of the sweep use.

    Returns
    -------
    tuple of estimators
    """
    return StandardScaler(), LogisticRegression(C=0.01, max_iter=500, tol=1e-2)


def flatten(images: np.ndarray) -> np.ndarray:
    """Turn images into rows of pixels.

    Parameters
    ----------
    images : ndarray of shape (n, ...)
        Images.

    Returns
    -------
    ndarray of shape (n, n_pixels)
    """
    return images.reshape(len(images), -1)


def check_in_new_process(pipeline: Pipeline, images: np.ndarray, out: Path) -> None:
    """Load the saved model in a new process and compare its predictions with those of this process.

    Parameters
    ----------
    pipeline : Pipeline
        The saved pipeline.
    images : ndarray
        Images that the probe was not fitted on.
    out : Path
        Folder of the model.
    """
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        asked, answered = Path(folder, "images.npy"), Path(folder, "answers.npy")
        np.save(asked, images)
        subprocess.run([sys.executable, "-c", RELOAD, out / "galaxies.skastro", asked, answered], check=True)  # noqa: S603
        agreed = np.sum(np.load(answered) == pipeline.predict(images))
    print(f"\nReloaded in a new process: {agreed} of {len(images)} predictions agree.")
