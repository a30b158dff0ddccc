"""
=======================================
What an augmentation does, and is worth
=======================================

A network that compares views of an image learns what the views share. So the recipe that makes them says what does not
matter: orientation, position, noise, seeing, dust. Here we look at what each step does to real galaxies and radio
sources, put physics into a recipe for images in flux, and ask which steps of a recipe are worth their place.

.. code-block:: bash

    python plot_augmentations.py
    python plot_augmentations.py --repeats 3 --epochs 10
"""

# sphinx_gallery_thumbnail_path = 'figures/augmentations.png'
import argparse
import os
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skastro import SimCLREmbedder, augmentation_ablation
from skastro.augment import HotPixels, LogNormal, Redden, SatelliteTrail, get_recipe
from skastro.datasets import load_galaxy_zoo1, load_mirabest, make_survey
from skastro.plotting import AblationDisplay, AugmentationDisplay

parser = argparse.ArgumentParser(description="What an augmentation does, and is worth.")
parser.add_argument("--epochs", type=int, default=2, help="of each pretraining of the ablation")
parser.add_argument("--repeats", type=int, default=1, help="of the ablation, with other seeds")
parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figures")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)

data = Path(os.environ.get("SKASTRO_DATA") or Path(__file__).parents[2] / "shared" / "data")
if not (data / "mirabest.npz").exists():
    sys.exit(f"This example needs mirabest.npz and gz1_sdss.npz, and {data} has none: set SKASTRO_DATA to the folder.")

# %%
# Steps on real galaxies
# ----------------------
#
# The default recipe, step by step, on four galaxies of the Sloan survey. A step keeps its probability: the blur of this
# recipe comes to every second image, and three in ten lose their colors.

zoo = load_galaxy_zoo1(data)
chosen = [np.flatnonzero(zoo.target == kind)[7] for kind in range(4)]
display = AugmentationDisplay.from_recipe(zoo.images[chosen], "galaxy", random_state=0)
display.figure_.savefig(args.out / "augmentations_galaxies.png", dpi=150)

# %%
# Physics
# -------
#
# Dust, seeing and noise act on flux, before any stretch, in each band by its own amount: extinction coefficients,
# wavelengths and pixel scale come from the survey. *Simulated* galaxies in ugriz, for these have fluxes. The dust is
# drawn as it is spread over the Legacy Surveys; two artifacts are added to the recipe of Hayat et al. (2021).

sky = make_survey(60, size=96, random_state=0)
recipe = get_recipe("sdss-all").set_params(
    extinction=Redden(ebv=LogNormal(shape=0.673, loc=0.001, scale=0.033, high=1.0)), shift__pixels=4
)
recipe.steps += [("trail", SatelliteTrail(p=1.0)), ("hot", HotPixels(p=1.0))]
brightest = np.argsort(sky.images.sum(axis=(1, 2, 3)))[-4:]
display = AugmentationDisplay.from_recipe(sky.images[brightest], recipe, survey="sdss", size=64, bands=(3, 2, 1))
display.figure_.savefig(args.out / "augmentations_physics.png", dpi=150)

# %%
# Which step is worth its place
# -----------------------------
#
# Table 10 of Slijepcevic et al. (2023) in the small: leave each step of their recipe out, keep each alone, or have
# none. Every setting is a pretraining of its own and a linear probe, on the same split of MiraBest and with the same
# seeds, so that differences can be taken in pairs. A few epochs show how it is done; they do not settle the question.

sources = load_mirabest(data, subset="confident")
pipeline = Pipeline(
    [
        ("emb", SimCLREmbedder(augment="radio", survey="first", size=70, max_epochs=args.epochs)),
        ("scale", StandardScaler()),
        ("clf", LogisticRegression(C=0.01, max_iter=500)),
    ]
)
table = augmentation_ablation(
    pipeline,
    sources.images,
    sources.target,
    cv=StratifiedShuffleSplit(1, test_size=0.3, random_state=0),
    n_repeats=args.repeats,
    random_state=0,
    verbose=1,
)
display = AblationDisplay.from_frame(table, metric_name="accuracy", error=True)
display.figure_.savefig(args.out / "augmentations_ablation.png", dpi=150)
print(display.table_.round(2).to_string(index=False))
