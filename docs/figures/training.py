"""How fast fits are beside bare loops of torch."""

import matplotlib.pyplot as plt
from measured import numbers, table

NAMES = ["BYOL, 4 passes", "BYOL, 6 passes", "", "alignment", "MoCo", "DINO"]  # the third is a former state

cells = table("2026-11-28, speed of a fit, counted", "command")
ax = plt.figure(figsize=(6.4, 2.4)).subplots()
ax.axvline(1, color="0.4", linewidth=1)
for name, (_, cell) in zip(NAMES, cells, strict=False):
    if name:
        ratio, least, most = numbers(cell)
        ax.plot([least, most], [name] * 2, color="C0", linewidth=2)
        ax.plot(ratio, name, "o", color="C0", markersize=8)
ax.set(xlabel="Images per second, over those of a bare torch loop", xlim=(0.8, 1.1), ylim=(4.6, -0.6))
