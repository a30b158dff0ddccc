"""
=====================
Does pretraining pay?
=====================

Before a network learns from your images without labels, ask what it has to beat: the same network with random weights,
its embedding averaged over flips and quarter turns, and a forest that knows each image only by its brightness in rings.
Both take no training. Here are their scores beside those of the pretrainers, nothing but defaults, against processor
time and number of labels. It is the figure of the user guide; ``benchmarks/protocol.py`` made the numbers.

.. code-block:: bash

    python plot_does_pretraining_pay.py
    python ../benchmarks/protocol.py --file my.csv      # to measure all of it again; hours
    python plot_does_pretraining_pay.py --file my.csv
"""

# sphinx_gallery_thumbnail_number = 1
import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skastro import BYOLEmbedder, SimCLREmbedder, Training
from skastro.datasets import load_hubble_deep_field
from skastro.plotting import LabelSweepDisplay

parser = argparse.ArgumentParser(description="Does pretraining pay?")
parser.add_argument("--file", type=Path, default=Path(__file__).parents[1] / "benchmarks" / "protocol.csv")
parser.add_argument("--epochs", type=int, default=6, help="of the four runs whose loss is looked at")
parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figure")
args = parser.parse_args()

# %%
# What was measured
# -----------------
#
# One row per fold: the data and the question, the method, its seed, how far it had come, and whether the embedding was
# averaged. Folds, and the labels drawn in them, are the same for all.

NAMES = {"simclr": "SimCLR", "moco": "MoCo", "byol": "BYOL", "untrained": "untrained", "rings": "rings + forest"}
FLOORS = ("untrained", "rings + forest")
COLORS = dict(zip(NAMES.values(), ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"), strict=True))
PANELS = {
    ("mirabest", "FRI/FRII"): "1,099 radio galaxies: FRI or FRII\n(accuracy)",
    ("gz1", "4 classes"): "3,274 SDSS galaxies: 4 classes\n(balanced accuracy)",
    ("gz1", "3 classes"): "3,274 SDSS galaxies: 3 classes\n(balanced accuracy)",
    ("hubble", "color"): "1,170 objects of a deep field: color\n(R²)",
    ("hubble", "radius"): "1,170 objects of a deep field: radius\n(R²)",
}
found = pd.read_csv(args.file).query("settings == '{}'")
scores = pd.concat([found[found["method"] == name] for name in NAMES]).replace({"method": NAMES})

# %%
# Against time, and against labels
# --------------------------------
#
# Each curve begins at the untrained network. Solid lines are averaged over flips and quarter turns, dashed lines are
# not: compare like with like. The lines across are the floors.


def draw_curves(ax, rows):
    """Score with all labels against processor time."""
    begin = rows[rows["method"] == "untrained"]
    for (method, view), found in rows.groupby(["method", "view"], sort=False):
        style = {"color": COLORS[method], "linestyle": "-" if view == "averaged" else "--"}
        if method in FLOORS:
            ax.axhline(found["score"].mean(), linewidth=1, **style)
        else:
            found = pd.concat([begin[begin["view"] == view], found])
            curve = found.groupby("step")[["cpu_minutes", "score"]].mean()
            ax.plot(curve["cpu_minutes"], curve["score"], marker="o", markersize=3.5, **style)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("CPU minutes")


figure, axes = plt.subplots(2, 3, figsize=(11, 6.5), layout="constrained")
*panels, last = axes.flat
for ax, ((data, task), title) in zip(panels, PANELS.items(), strict=True):
    draw_curves(ax, scores[(scores["data"] == data) & (scores["task"] == task) & scores["n_labels"].isna()])
    ax.set_title(title, fontsize="medium")
radio = scores.query("data == 'mirabest' and (view == 'averaged' or method == 'rings + forest')")
radio = (
    radio[radio["step"] == radio.groupby("method")["step"].transform("max")]
    .fillna({"n_labels": 583})
    .astype({"n_labels": int})
)
LabelSweepDisplay.from_frame(radio, ax=last, metric_name="accuracy")
last.set_title("The radio galaxies, with fewer labels\n(averaged)", fontsize="medium")
args.out.mkdir(parents=True, exist_ok=True)
figure.savefig(args.out / "does_pretraining_pay.png", dpi=110)

# %%
# What the loss does not tell
# ---------------------------
#
# Four short runs on the deep field. Without augmentation the two views are the same picture: SimCLR's loss falls as no
# other, and less was learned. BYOL in a hurry, with a large learning rate and a target that is no slower than the
# network itself, has a lower loss than BYOL at its defaults, and knows less of colors. What gives it away is the
# number of directions that the embedding still uses: it is on the way to collapse.

field = load_hubble_deep_field()
ASKED = ("radius", "ellipticity", "color")
hurry = Training(ema=0.0, ema_schedule="constant")
runs = {
    "SimCLR": SimCLREmbedder(),
    "SimCLR, no augmentation": SimCLREmbedder(augment=None),
    "BYOL": BYOLEmbedder(),
    "BYOL in a hurry": BYOLEmbedder(lr=1e-2, training=hurry),
}
probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(1, 5, 9)))
folds = KFold(5, shuffle=True, random_state=0)
lines = []
for name, embedder in runs.items():
    embedder.set_params(max_epochs=args.epochs, random_state=0).fit(field.images)
    embedding = embedder.transform(field.images)
    scores = [cross_val_score(probe, embedding, field.properties[asked], cv=folds).mean() for asked in ASKED]
    lines.append([name, embedder.history_["loss"][-1], embedder.history_["effective_rank"][-1], *scores])
table = pd.DataFrame(lines, columns=["run", "loss", "effective rank", *(f"R² of {asked}" for asked in ASKED)])
print(table.round(2).to_string(index=False))
