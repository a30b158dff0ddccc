"""Errors of redshifts of simulated images, by what learned from 600 of them."""

import matplotlib.pyplot as plt
from measured import numbers, table

cells = table("2026-11-20, redshifts on a simulated survey", "η (> 0.05)")
errors = [numbers(row[2])[0] for row in cells]
ax = plt.figure(figsize=(6.4, 2.3)).subplots()
bars = ax.barh([row[0] for row in cells], errors, height=0.6, color=["0.6", "0.6", "C0", "C1", "C2"])
ax.bar_label(bars, fmt="%.4f", padding=3)
ax.set(xlabel="Error, σ$_{MAD}$ of Δz / (1 + z)", xlim=(0, 0.029))
ax.grid(visible=False, axis="y")
ax.invert_yaxis()
