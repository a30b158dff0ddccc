"""What workers of a survey do in a second, and what the engine costs beside a loop written by hand."""

import matplotlib.pyplot as plt
from measured import numbers, table

LARGE, SMALL = "4 partitions of 1,000 (49 MB)", "50 partitions of 80 cutouts (3.9 MB)"

cells = table("2026-11-29, surveys: what a partition costs", SMALL)
small, large = ({row[0].split(",")[0]: numbers(row[column]) for row in cells} for column in (1, 2))
speed, cost = plt.figure(figsize=(6.4, 2.2)).subplots(1, 2)
workers = ["one worker", "two workers"]
bars = speed.barh(workers, [small[who][0] for who in workers], height=0.5)
speed.bar_label(bars, fmt="%.0f", padding=3)
speed.set(xlabel="Cutouts per second", xlim=(0, 520))
for place, rounds in enumerate((small, large)):
    cost.plot(rounds["one worker beside the loop"], 3 * [place], "o", color="C0", alpha=0.6)
cost.axvline(0, color="0.6", linewidth=1)
cost.set(xlabel="Time beyond a bare loop (%)", xlim=(-20, 20), ylim=(-0.5, 1.5))
cost.set_yticks([0, 1], [name.split(" (")[0].replace(" of", "\nof") for name in (SMALL, LARGE)])
for ax in (speed, cost):
    ax.grid(visible=False, axis="y")
    ax.invert_yaxis()
