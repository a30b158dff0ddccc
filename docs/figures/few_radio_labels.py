"""Errors on radio galaxies against the number of labels, with and without pretraining."""

import matplotlib.pyplot as plt
from measured import numbers, table

cells = table("2026-11-20, a few labels for radio galaxies", "supervised")
labels = [int(row[0]) for row in cells]
ax = plt.figure(figsize=(6.4, 2.7)).subplots()
for shift, column, name, color in (
    (0.98, 1, "from the labels alone", "C1"),
    (1.02, 2, "pretrained, then fine-tuned", "C2"),
):
    means, errors = zip(*(numbers(row[column]) for row in cells), strict=True)
    places = [shift * label for label in labels]
    ax.errorbar(places, means, errors, color=color, marker="o", label=name)
for column, color in ((4, "C1"), (5, "C2")):
    paper = [numbers(row[column])[0] for row in cells]
    ax.plot(labels, paper, color=color, linestyle=":", label="the same in the paper")
ax.set(xlabel="Labels", ylabel="Wrong among 104 sources (%)", xscale="log", ylim=(0, 21))
ax.set_xticks(labels, labels)
ax.minorticks_off()
ax.legend(ncols=2)
