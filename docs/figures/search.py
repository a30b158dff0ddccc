"""How many objects are looked at until half of what is wanted was seen."""

import matplotlib.pyplot as plt
from measured import numbers, table

WAYS = {  # by the columns of the table
    2: ("in random order", "0.5", "o"),
    3: ("IsolationForest", "C1", "s"),
    5: ("LookAlikes.more_like", "C2", "^"),
    6: ("ActiveRanking", "C0", "D"),
}

cells = table("2026-11-28, search and find", "wanted")
ax = plt.figure(figsize=(6.4, 2.8)).subplots()
for number, (column, (name, color, marker)) in enumerate(WAYS.items()):
    shares = [100 * numbers(row[column])[0] / numbers(row[1])[0] for row in cells]
    places = [place + 0.16 * (number - 1.5) for place in range(len(cells))]
    ax.plot(shares, places, marker, color=color, markersize=6, label=name)
ax.set_yticks(range(len(cells)), [f"{row[0]} among {row[1]}".replace("high ", "high\n") for row in cells])
ax.set(xlabel="Looked at until half of them were seen (%)", xlim=(0, 90), ylim=(len(cells) - 0.5, -0.5))
ax.figure.legend(loc="outside upper center", ncols=4, columnspacing=1.2, handletextpad=0.2)
