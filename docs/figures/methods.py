"""What pretrainers are worth on galaxies and on radio galaxies, by the time that they take."""

import matplotlib.pyplot as plt
from measured import rows

METHODS = {
    "simclr": ("SimCLR", "C0", "o"),
    "vicreg": ("VICReg", "C1", "s"),
    "byol": ("BYOL", "C2", "^"),
    "barlow": ("Barlow Twins", "C3", "D"),
    "moco": ("MoCo", "C4", "v"),
}
THEN = ['{"augment": "galaxy-2026-11-21"}', '{"augment": "galaxy-2026-11-21", "batch_size": 256}']

runs = rows("protocol.csv").query("view == 'averaged' and n_labels.isna()")
galaxies = runs.query("data == 'galaxies' and task == 'Kaggle, 5 classes' and not settings.str.contains('lite0|256')")
radio = runs.query("data == 'mirabest' and (settings in @THEN or method == 'untrained')")
axes = plt.figure(figsize=(6.4, 3)).subplots(1, 2)
for ax, part in zip(axes, (galaxies, radio), strict=True):
    means = part.groupby(["method", "settings", "step"])[["cpu_minutes", "score"]].mean()
    for method, (name, color, marker) in METHODS.items():
        label = name if ax is axes[0] else None
        ax.plot(*means.loc[method].to_numpy().T, color=color, marker=marker, markersize=7, label=label)
    for (settings, _), floor in means.loc["untrained"].iterrows():
        ax.axhline(floor["score"], color="0.5", linewidth=1, linestyle="--" if "48" in settings else "-")
    ax.set_xlabel("CPU minutes of pretraining")
axes[0].set(ylabel="Balanced accuracy, five classes", xlim=(0, 17))
axes[1].set(ylabel="Accuracy, FRI or FRII", xlim=(0, 10))
axes[0].text(16.8, 0.717, "untrained, 48 pixels", color="0.4", ha="right", va="bottom")
axes[0].text(16.8, 0.664, "untrained, 64 pixels", color="0.4", ha="right", va="bottom")
axes[1].text(9.9, 0.9058, "untrained", color="0.4", ha="right", va="top")
axes[0].figure.legend(loc="outside upper center", ncols=5)
