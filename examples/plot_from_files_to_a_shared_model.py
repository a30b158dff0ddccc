"""
===================================
From files to a model one can share
===================================

A radio astronomer's afternoon: a folder of cutouts from the archive, more sources than labels, and a colleague who
would like to use the result. We read the files, learn an embedding without labels, put a classifier with 200 labels on
top, look at what it gets wrong, and send one file that another computer can open without running any code from it.
"""

# sphinx_gallery_thumbnail_number = 2
import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from astropy.io import fits
from astropy.stats import sigma_clipped_stats
from skimage.transform import downscale_local_mean
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import skastro
from skastro import BYOLEmbedder
from skastro.datasets import load_images, load_mirabest
from skastro.persistence import describe
from skastro.plotting import LookAlikesDisplay

parser = argparse.ArgumentParser(description="From files to a model one can share.")
parser.add_argument(
    "--epochs", type=int, default=5, help="of pretraining; 100 are better, and take twenty times as long"
)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figures and the model")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)

data = Path(os.environ.get("SKASTRO_DATA") or Path(__file__).parents[2] / "shared" / "data")
if not ((data / "files").is_dir() and (data / "mirabest.npz").exists()):
    sys.exit(f"This example needs files/ and mirabest.npz, and {data} lacks them: set SKASTRO_DATA to their folder.")

# %%
# A folder of FITS files
# ----------------------
#
# Seven cutouts of the FIRST survey at 1.4 GHz, as the archive wrote them: big-endian numbers in Jy per beam, noise and
# sidelobes included. They come out as one array in the byte order of this computer, with the bands first.

folder = data / "files" / "fits_first"
cutouts = load_images(folder, size=150)
on_disk = fits.getdata(folder / cutouts.filenames[0])
print(f"in the files: {on_disk.shape} {on_disk.dtype.str}")
print(f"in memory:    {cutouts.images.shape} {cutouts.images.dtype.str}")

# %%
# None of the seven lies at the edge of the survey, where pixels are NaN. So we move one there, and see it refused: what
# takes the place of a missing pixel is a decision, and it is yours. Zero is the sky here.

with TemporaryDirectory() as edge:
    at_the_edge = on_disk.copy()
    at_the_edge[:, :90] = np.nan
    fits.writeto(Path(edge, "at_the_edge.fits"), at_the_edge)
    try:
        load_images(edge, size=150)
    except ValueError as error:
        print("refused:", error)
    mended = load_images(edge, size=150, fill=0.0)
    print(f"with fill=0.0: {(mended.images == 0).sum():,} pixels are zero, {np.isnan(mended.images).sum()} are NaN")

# %%
# A folder of pictures
# --------------------
#
# Pictures from a website are read the same way, and stay 8-bit. Sixty galaxies of the SDSS would do to begin with, in
# some minutes. Here we look at what needs no training: even a network with random weights (``max_epochs=0``), averaged
# over flips and quarter turns, tends to put red near red and blue near blue. Remember it when an embedding impresses
# you: this is what nothing learned looks like.

pictures = load_images(data / "files" / "jpeg", size=256)
print("pictures:", pictures.images.shape, pictures.images.dtype)

untrained = BYOLEmbedder(average="dihedral", max_epochs=0, random_state=args.seed)
embedding = make_pipeline(untrained, StandardScaler()).fit_transform(
    downscale_local_mean(pictures.images, (1, 1, 2, 2))
)
display = LookAlikesDisplay.from_embedding(pictures.images, embedding, queries=[1, 5, 19, 30])
display.figure_.suptitle("Nearest to the left column, for an untrained network")
display.figure_.savefig(args.out / "files_look_alikes.png", dpi=150)

# %%
# Few labels
# ----------
#
# Now the labels: MiraBest, 833 confident FRI and FRII sources of the same survey. Six of our seven files are among
# them. They are taken out before anything is learned, so that the seven stay unseen.
#
# MiraBest is not in Jy per beam: each of its cutouts was set to zero below three times its noise and scaled to 255 at
# the peak. A network takes no offence at wrong units, it is just wrong. So we do to our files what was done to
# MiraBest, and compare pixels where we have both.


def as_mirabest(images):
    """Zero below three times the noise, 255 at the peak, image by image."""
    noise = sigma_clipped_stats(images, axis=(1, 2, 3))[2].reshape(-1, 1, 1, 1)
    clipped = np.where(images < 3 * noise, 0, images)
    return np.round(255 * clipped / clipped.max(axis=(1, 2, 3), keepdims=True)).astype(np.uint8)


ours = as_mirabest(cutouts.images)
stems = [Path(name).stem for name in cutouts.filenames]
everything = load_mirabest(data, hybrids=True)
theirs = everything.images[[np.flatnonzero(np.char.startswith(everything.filename, stem))[0] for stem in stems]]
same = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(ours, theirs, strict=True)]
print(f"our clipping against MiraBest's, seven sources: correlation {min(same):.3f} to {max(same):.4f}")

# %%
# We pretend that an expert had time for 200 sources. The embedder learns from all of them without labels, for a minute
# (``survey="first"`` is kept with it: bands and pixel scale); the classifier learns from the 200.

sources = load_mirabest(data, subset="confident")
new = ~np.isin([Path(name).stem for name in sources.filename], stems)
images, classes = sources.images[new], sources.target_names[sources.target[new]]
labeled, unlabeled = train_test_split(np.arange(len(images)), train_size=200, stratify=classes, random_state=args.seed)

embedder = BYOLEmbedder(
    augment="radio",
    survey="first",
    size=70,
    average="dihedral",
    max_epochs=args.epochs,
    batch_size=64,
    lr=1e-4,
    verbose=1,
    random_state=args.seed,
).fit(images)


def probe(embedder):
    """A logistic regression on an embedding that stays as it is."""
    head = LogisticRegression(C=0.1, max_iter=500)
    return Pipeline([("emb", FrozenEstimator(embedder)), ("scale", StandardScaler()), ("clf", head)])


pipe = probe(embedder).fit(images[labeled], classes[labeled])
floor = probe(clone(embedder).set_params(max_epochs=0).fit(images)).fit(images[labeled], classes[labeled])
for name, model in {f"BYOL, {args.epochs} epochs": pipe, "untrained": floor}.items():
    accuracy = model.score(images[unlabeled], classes[unlabeled])
    print(f"{name}: accuracy {accuracy:.3f} on the other {len(unlabeled)}")

# %%
# The first number is transductive: pretraining saw all these images, though no label. And a minute is short: averaged
# over the symmetries of the sky, as both are, an untrained network is hard to beat and will often be ahead.
# ``plot_radio_galaxies.py`` takes longer and compares with more care.
#
# Mistakes
# --------
#
# Numbers hide what pictures show. Each of the 200 is predicted by a classifier that was not told its label; here are
# those that it got wrong most confidently. One or two reach beyond the 70 pixels that the network sees, so what makes
# them FRII is out of its sight. Is that the usual reason? MiraBest knows the angular sizes, and 70 pixels are 126
# arcseconds.

features = embedder.transform(images[labeled])
fr2 = cross_val_predict(pipe[1:], features, classes[labeled], cv=5, method="predict_proba")[:, 1]
chance = np.where(classes[labeled] == "FRII", fr2, 1 - fr2)  # given to the expert's class
worst = np.argsort(chance)[:12]
larger = sources.las_arcsec[new][labeled] > 126
for name, rows in {"that fit into the window": ~larger, "larger than the window": larger}.items():
    print(f"sources {name}: {(chance[rows] < 0.5).sum()} of {rows.sum()} wrong")

figure, axes = plt.subplots(2, 6, figsize=(9, 3.5), layout="constrained")
for ax, row in zip(axes.flat, worst, strict=True):
    ax.imshow(images[labeled][row, 0, 40:110, 40:110], cmap="gray")
    ax.set_title(f"{classes[labeled][row]}, given {100 * chance[row]:.0f} %", fontsize="small")
    ax.set_axis_off()
figure.suptitle("The expert's class, and the probability that the model gives it")
figure.savefig(args.out / "files_mistakes.png", dpi=150)

# %%
# The seven files
# ---------------
#
# Their names begin with the class that experts gave: 1 for FRI, 2 for FRII, 3 for a hybrid, one side of each. The model
# knows of no hybrids, and has to say something. Seven sources test nothing: this is what using the model looks like.

table = pd.DataFrame(pipe.predict_proba(ours), columns=pipe.classes_, index=cutouts.filenames).round(2)
table.insert(0, "expert", [{"1": "FRI", "2": "FRII", "3": "hybrid"}[name[0]] for name in cutouts.filenames])
print(table)

# %%
# A file to share
# ---------------
#
# The whole pipeline goes into one file of numbers and plain values. Opening it runs no code that it could bring.

file = args.out / "fr.skastro"
skastro.save(pipe, file)
print(f"{file.name}: {file.stat().st_size / 1e6:.0f} MB")

# %%
# The colleague's computer, played by a second process with another number of threads, gives the same answers.

THERE = """
import sys, numpy, skastro, torch
pipe = skastro.load(sys.argv[1])
numpy.save(sys.argv[3], pipe.predict_proba(numpy.load(sys.argv[2])))
print("there:", torch.get_num_threads(), "thread(s)")
"""
threads = 1 if torch.get_num_threads() > 1 else 2
images_sent = np.concatenate([ours, images[unlabeled][:100]])
with TemporaryDirectory() as post:
    sent, answered = Path(post, "images.npy"), Path(post, "answers.npy")
    np.save(sent, images_sent)
    print("here: ", torch.get_num_threads(), "thread(s)", flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run([sys.executable, "-c", THERE, file, sent, answered], env=environment, check=True)
    difference = np.abs(np.load(answered) - pipe.predict_proba(images_sent)).max()
print(f"largest difference of a probability, {len(images_sent)} sources: {difference:.1e}")
assert difference <= 1e-5

# %%
# And the file says what it is, before anything in it is built: survey, bands, pixel scale in arcseconds, what size the
# network sees, how many images it learned from. What it cannot say is what happened to the pixels before they reached
# the pipeline. The clipping above is a function, and functions stay at home: tell your colleague about it.

(provenance,) = describe(file)["provenance"]
print(pd.Series(provenance).drop("versions").to_string())
print(pd.Series(provenance["versions"]).to_string())
