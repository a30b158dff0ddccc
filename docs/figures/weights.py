"""What weights of ImageNet are worth on galaxies, by the number of labels."""

import matplotlib.pyplot as plt
from measured import rows

LINES = {
    ("simclr", "{}"): ("ResNet10-t, SimCLR on these galaxies", "C4", "v"),
    ("simclr", "weights"): ("EfficientNet-lite0, ImageNet, then SimCLR", "C0", "o"),
    ("published", "weights"): ("EfficientNet-lite0, ImageNet", "C2", "^"),
    ("rings", "{}"): ("rings + forest", "C1", "D"),
    ("untrained", "lite0"): ("EfficientNet-lite0, random weights", "0.5", "s"),
}
COUNTS = [20, 50, 100, 200, 500, 1180]

runs = rows("protocol.csv").query("data == 'galaxies' and task == 'Kaggle, 5 classes'").fillna({"n_labels": COUNTS[-1]})
ax = plt.figure(figsize=(6.4, 3.2)).subplots()
for (method, settings), (name, color, marker) in LINES.items():
    view = "plain" if method == "rings" else "averaged"
    which = (runs.method == method) & (runs.view == view) & runs.settings.str.contains(settings, regex=False)
    last = runs[which & (runs.step == runs.step[which].max())]
    ax.plot(last.groupby("n_labels")["score"].mean(), color=color, marker=marker, label=name)
ax.set(xlabel="Labels", ylabel="Balanced accuracy, five classes", xscale="log", ylim=(0.34, 0.83))
ax.set_xticks(COUNTS, [f"{count:,}" for count in COUNTS])
ax.minorticks_off()
ax.legend()
