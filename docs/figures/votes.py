"""What the 90 % intervals of two heads hold, for four questions."""

import matplotlib.pyplot as plt
from measured import rows

QUESTIONS = {"smooth_or_features": "smooth or featured", "edgeon": "edge-on", "spiral": "spiral", "bar": "bar"}
HEADS = {"multinomial": ("multinomial, of single votes", "C1", "s"), "dirichlet": ("Dirichlet", "C0", "o")}

held = rows("votes.csv").query("network == 'linear'").groupby(["head", "question"])["coverage_90%"].mean() * 100
ax = plt.figure(figsize=(6.4, 2.4)).subplots()
ax.axvline(90, color="0.4", linewidth=1)
ax.text(90.5, -0.35, "90 %", color="0.4", va="center")
for head, (name, color, marker) in HEADS.items():
    ax.plot(held[head][list(QUESTIONS)], list(QUESTIONS.values()), marker, color=color, markersize=8, label=name)
ax.set(xlabel="Held-out galaxies whose votes lie within the interval (%)", xlim=(48, 95), ylim=(3.5, -0.6))
ax.figure.legend(loc="outside upper center", ncols=2)
