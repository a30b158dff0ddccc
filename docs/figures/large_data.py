"""Speed of training from disk, and the memory that it takes."""

import matplotlib.pyplot as plt
from measured import table

SIZES = {"the file": 10.3, "fit": 0.568, "embed": 0.377}  # GB, told below the table

cells = table("2026-11-28, images on disk, killed fits, several processes", "source")
rate, memory = plt.figure(figsize=(6.4, 2.6)).subplots(1, 2, width_ratios=(1.3, 1))
rate.barh([row[0].replace("`", "") for row in cells], [float(row[1]) for row in cells], color=["0.6"] + 7 * ["C0"])
rate.set(xlabel="Images per second in training", xlim=(0, 105))
bars = memory.barh(list(SIZES), list(SIZES.values()), height=0.6, color=["0.6", "C0", "C0"])
memory.bar_label(bars, fmt="%.1f", padding=3)
memory.set(xlabel="GB on disk, and in memory", xlim=(0, 13.5), xticks=(0, 5, 10))
for ax in (rate, memory):
    ax.grid(visible=False, axis="y")
    ax.invert_yaxis()
