"""Types of supernovae from their spectra, by six ways to describe them."""

import matplotlib.pyplot as plt
from measured import rows

METHODS = {
    "untrained, mean and maximum + logistic": ("random weights, mean and maximum", "C0"),
    "masked, mean and maximum + logistic": ("masked modeling, mean and maximum", "C0"),
    "untrained + logistic": ("random weights, 32 regions", "C2"),
    "masked + logistic": ("masked modeling, 32 regions", "C2"),
    "features + logistic": ("64 bins, linear probe", "C1"),
    "features + forest": ("64 bins, forest", "C1"),
}

scores = rows("sequences.csv").query("data == 'supernovae' and task == 'six types'")
ax = plt.figure(figsize=(6.4, 2.6)).subplots()
for place, (method, (_, color)) in enumerate(METHODS.items()):
    runs = scores.loc[scores.method == method, "score"]
    ax.plot(runs, [place] * len(runs), "o", color=color, alpha=0.5, markersize=6)
    ax.plot([runs.mean()] * 2, [place - 0.3, place + 0.3], color=color, linewidth=2)
ax.axvline(1 / 6, color="0.4", linewidth=1)
ax.text(1 / 6 + 0.005, 0.1, "chance", color="0.4")
ax.set(xlabel="Balanced accuracy of six types", xlim=(0.15, 0.67), ylim=(5.6, -0.6))
ax.set_yticks(range(len(METHODS)), [name for name, _ in METHODS.values()])
