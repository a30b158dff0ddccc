"""Where images without votes help: rings in a simulated survey, of which few galaxies or many have votes."""

import matplotlib.pyplot as plt
from measured import rows

METHODS = {
    "cosine": ("hybrid", "C0", "o"),
    "votes": ("votes alone", "C1", "s"),
    "byol": ("BYOL, without votes", "C2", "^"),
}
VOTED = (100, 300, 900)
NONE = -1  # galaxies with votes, of methods that look at none

found = rows("hybrid_rings.csv").query("data == 'simulated' and n_labels == 60")
skies = found.groupby(["method", "voted", "passes", "seed"])["roc_auc"].mean()
means, errors = (getattr(skies.groupby(["method", "voted", "passes"]), name)() for name in ("mean", "sem"))
figure = plt.figure(figsize=(7.2, 2.5))
for ax, voted in zip(figure.subplots(1, 3, sharey=True), VOTED, strict=True):
    ax.axhline(means["untrained"].iloc[0], color="0.4", linewidth=1)
    for method, (name, color, marker) in METHODS.items():
        mean, error = (of[method, NONE if method == "byol" else voted] for of in (means, errors))
        ax.errorbar(mean.index, mean, error, label=name, color=color, marker=marker, capsize=2)
    ax.set(xscale="log", xticks=[6, 20, 60], xticklabels=["6", "20", "60"], title=f"{voted} of 2,000 have votes")
    ax.minorticks_off()
figure.axes[0].set_ylabel("rings, 60 labels (ROC AUC)")
figure.axes[2].text(60, means["untrained"].iloc[0] - 0.005, "untrained", color="0.4", va="top", ha="right")
figure.axes[1].set_xlabel("passes over the galaxies with votes")
figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
