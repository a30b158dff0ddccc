"""The posterior of the guide's example for one simulated galaxy, and the coverage of all."""

import matplotlib.pyplot as plt
import numpy as np

from skastro import FlowPosterior
from skastro.metrics import tarp

rng = np.random.default_rng(0)
values = rng.normal(size=(800, 2))
features = np.hstack([values, values]) + np.sqrt(0.5) * rng.normal(size=(800, 4))
small = {"n_estimators": 2, "n_transforms": 1, "hidden_dim": 16, "max_epochs": 20, "lr": 0.02, "random_state": 0}
posterior = FlowPosterior(**small).fit(features[:500], values[:500])
draws = posterior.sample(features[500:], n_samples=400)
narrow = (draws + draws.mean(axis=1, keepdims=True)) / 2

joint, covered = plt.figure(figsize=(6.4, 3.2)).subplots(1, 2)
joint.plot(*draws[0].T, ".", color="C0", alpha=0.5, markersize=4, label="400 draws")
angle, center = np.linspace(0, 2 * np.pi, 100), 0.4 * (features[500, :2] + features[500, 2:])
for share, name in ((0.68, None), (0.95, "true posterior")):
    radius = np.sqrt(-2 * 0.2 * np.log(1 - share))
    joint.plot(center[0] + radius * np.cos(angle), center[1] + radius * np.sin(angle), color="C1", label=name)
joint.set(xlabel="First value", ylabel="Second value", xlim=(-1.5, 3.25), ylim=(-1.75, 3), aspect="equal")
covered.axline((0, 0), slope=1, color="0.4", linewidth=1)
for name, drawn, style in (("draws", draws, "C0-"), ("draws, half as wide", narrow, "C3--")):
    result = tarp(values[500:], drawn)
    covered.plot(100 * result.levels, 100 * result.coverage, style, label=name)
covered.set(xlabel="Credibility (%)", ylabel="Truths within (%)", xlim=(0, 100), ylim=(0, 100))
for ax in (joint, covered):
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, columnspacing=1)
