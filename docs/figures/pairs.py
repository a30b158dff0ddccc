"""What neighbors tell of properties, before and after images and spectra are aligned."""

import matplotlib.pyplot as plt
import numpy as np
from measured import numbers, table

PROPERTIES = ["redshift", "log mass", "age", "metallicity", "log sSFR"]

cells = table("2026-11-21, one space for images and spectra", "redshift")
scores = {row[0]: [numbers(cell)[0] for cell in row[1:]] for row in cells}  # the first of a cell is of neighbors
ax = plt.figure(figsize=(6.4, 2.7)).subplots()
for kind, color, shift in (("image", "C0", -0.14), ("spectrum", "C1", 0.14)):
    places = np.arange(len(PROPERTIES)) + shift
    alone = next(value for name, value in scores.items() if name.startswith(f"{kind}: alone"))
    aligned = scores[f"{kind}: aligned"]
    ax.hlines(places, alone, aligned, color=color, linewidth=2)
    ax.plot(alone, places, "o", color=color, markerfacecolor="white", markersize=7, label=f"{kind}, alone")
    ax.plot(aligned, places, "o", color=color, markersize=7, label=f"{kind}, aligned")
ax.set(xlabel="R² of held-out galaxies by 64 neighbors", xlim=(0, 1), ylim=(4.5, -0.5))
ax.set_yticks(range(len(PROPERTIES)), PROPERTIES)
ax.figure.legend(loc="outside upper center", ncols=4)
