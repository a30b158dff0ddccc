"""Errors on radio galaxies: of probes, and of networks that learned from the labels."""

import matplotlib.pyplot as plt
from measured import rows

METHODS = {
    "untrained": ("random weights, linear probe", "0.5"),
    "probe": ("SimCLR, linear probe", "C0"),
    "supervised": ("random weights, trained", "C1"),
    "fine-tuned": ("SimCLR, fine-tuned", "C2"),
    "supervised-70": ("trained, 70 pixels", "C1"),
    "fine-tuned-70": ("fine-tuned, 70 pixels", "C2"),
}

answers = rows("radio_finetune.csv")
wrong = (answers["plain"] > 0.5) != (answers["is_frii"] == 1)
errors = 100 * wrong.groupby([answers["method"], answers["seed"]]).mean()
ax = plt.figure(figsize=(6.4, 3.2)).subplots()
for place, (method, (_, color)) in enumerate(METHODS.items()):
    runs = errors[method].sort_values()
    ax.plot([runs.mean()] * 2, [place - 0.35, place + 0.35], color=color, linewidth=2)
    twins = runs.groupby(runs).cumcount()  # the same error again is drawn below
    ax.plot(runs, place - 0.2 + 0.2 * twins, "o", color=color, markersize=6)
ax.set(xlabel="Wrong among 104 test sources (%)", xlim=(0, 21), ylim=(len(METHODS) - 0.4, -0.6), xticks=range(0, 21, 5))
ax.set_yticks(range(len(METHODS)), [name for name, _ in METHODS.values()])
