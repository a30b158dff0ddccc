"""
=====================
Does pretraining pay?
=====================

Before a network learns from your images without labels, ask what it has to beat: the same network with random weights,
its embedding averaged over flips and quarter turns, and a forest that knows each image only by its brightness in rings.
Both take no training. Here are their scores beside those of the pretrainers against number of labels and processor
time. It is the figure of the user guide; ``benchmarks/protocol.py`` made the numbers.

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
parser.add_argument("--file", type=Path, help="what was measured; benchmarks/protocol.csv, if not given")
parser.add_argument("--epochs", type=int, default=6, help="of the four runs whose loss is looked at")
parser.add_argument("--out", type=Path, default=Path("figures"), help="folder of the figure")
args = parser.parse_args()
measured = args.file or Path(__file__).parents[1] / "benchmarks" / "protocol.csv"

# %%
# What was measured
# -----------------
#
# One row per fold: the data and the question, the method, its seed, how far it had come, and whether the embedding was
# averaged. Folds, and the labels drawn in them, are the same for all.

ALL = 1180, 2253, 729  # labels to learn from: Kaggle's five classes, Galaxy Zoo 1's four, radio galaxies
NAMES = {
    ("rings", "{}"): "rings + forest",
    ("untrained", "{}"): "untrained",
    ("simclr", "{}"): "SimCLR",
    ("vicreg", '{"max_epochs": 4, "size": 48}'): "VICReg, 4 passes",
}
OTHERS = {"byol": "BYOL", "moco": "MoCo", "vicreg": "VICReg", "barlow": "Barlow Twins"}
COLORS = dict(zip(NAMES.values(), ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True))
PANELS = {
    ("galaxies", "Kaggle, 5 classes"): "10,757 SDSS galaxies: 5 clean classes",
    ("galaxies", "GZ1, 4 classes"): "the same: 4 classes of Galaxy Zoo 1",
    ("mirabest-published", "FRI/FRII"): "104 radio galaxies of the published split: FRI or FRII",
}
found = pd.read_csv(measured)
found = found[(found["view"] == "averaged") | (found["method"] == "rings")]
at_end = found[found["step"] == found.groupby(["data", "method", "settings", "seed"])["step"].transform("max")]

# %%
# Against labels, and against time
# --------------------------------
#
# Embeddings are averaged over flips and quarter turns. Labels are drawn ten times, from galaxies that are not
# scored. The last panel has all labels, and each curve begins at the untrained network.

figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
*panels, last = axes.flat
for ax, ((data, task), title), labels in zip(panels, PANELS.items(), ALL, strict=True):
    rows = at_end[(at_end["data"] == data) & (at_end["task"] == task)].fillna({"n_labels": labels})
    pairs = zip(rows["method"], rows["settings"], strict=True)
    rows = rows.assign(method=[NAMES.get(pair) for pair in pairs]).dropna(subset="method")
    rows = pd.concat([rows[rows["method"] == name] for name in NAMES.values()]).astype({"n_labels": int})
    LabelSweepDisplay.from_frame(rows, ax=ax, metric_name="accuracy" if "radio" in title else "balanced accuracy")
    ax.set_title(title, fontsize="medium")

asked = found[(found["data"] == "galaxies") & (found["task"] == "Kaggle, 5 classes") & found["n_labels"].isna()]
begin = asked[(asked["method"] == "untrained") & (asked["settings"] == "{}")]
for name in ("rings", "untrained"):
    level = asked.loc[(asked["method"] == name) & (asked["settings"] == "{}"), "score"].mean()
    last.axhline(level, color=COLORS[NAMES[name, "{}"]], linewidth=1)
anew = asked["method"].isin(["simclr", *OTHERS]) & ~asked["settings"].str.contains("weights|256")  # as the defaults are
for (method, settings), rows in asked[anew].groupby(["method", "settings"]):
    curve = pd.concat([begin, rows]).groupby("step")[["cpu_minutes", "score"]].mean()
    color = COLORS.get(NAMES.get((method, settings)), "black")
    last.plot(curve["cpu_minutes"], curve["score"], marker="o", markersize=3.5, color=color, linewidth=1)
    if method in OTHERS:
        last.annotate(OTHERS[method], curve.iloc[-1], textcoords="offset points", xytext=(5, -3), fontsize="small")
last.spines[["top", "right"]].set_visible(False)
last.set_xlabel("CPU minutes")
last.set_title("5 clean classes, all labels, against time", fontsize="medium")
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
