"""Errors of redshifts of three catalogs, and what their intervals hold."""

import matplotlib.pyplot as plt
from measured import rows

CATALOGS = {"main": "SDSS main", "boss": "BOSS", "jwst": "JWST"}
METHODS = {
    "trees, median": ("extra-trees", "C1", "s"),
    "bins": ("PhotoZRegressor", "C0", "o"),
    "bins, recalibrated": ("PhotoZRegressor(cv=5)", "C3", "D"),
    "flow": ("FlowPosterior", "C2", "^"),
}

means = rows("redshifts.csv").query("part == 'held-out'").groupby(["method", "data"]).mean(numeric_only=True)
error, held = plt.figure(figsize=(6.4, 2.3)).subplots(1, 2, sharey=True)
for method, (name, color, marker) in METHODS.items():
    shown = means.loc[method].loc[list(CATALOGS)]
    style = {"color": color, "markersize": 8, "label": name}
    error.plot(shown["sigma_mad"], list(CATALOGS.values()), marker, **style)
    held.plot(shown["coverage_68%"] * 100, list(CATALOGS.values()), marker, **style)
held.axvline(68, color="0.4", linewidth=1, zorder=0)
error.set(xlabel="Error, σ$_{MAD}$ of Δz / (1 + z)", xlim=(0.011, 0.0235), xticks=(0.012, 0.016, 0.02))
error.set_ylim(2.4, -0.4)
held.set(xlabel="Truths within the 68 % interval (%)", xlim=(62, 88))
held.figure.legend(*held.get_legend_handles_labels(), loc="outside upper center", ncols=4)
