"""Trained on expressions up to depth 4: right on deeper ones? Draws tree_depth.png, accuracy by depth of test trees.

Boolean expressions, where exchanging operands changes nothing, and +, −, * modulo 3, where it does. Child-sum and N-ary
tree-LSTM on the trees, and an LSTM on the same expressions as sequences with brackets. Mean and range of three seeds.
Takes about a quarter of an hour. Needs: pip install "lstmcore[demo]".

    python docs/figures/tree_depth.py [folder]
"""

import sys
from pathlib import Path

import numpy as np

from lstmcore import SequenceClassifier, TreeClassifier
from lstmcore.datasets import expression_tokens, make_expression_trees

TRAINED, DEPTHS, SEEDS = 4, range(1, 11), range(3)
TASKS = {
    "boolean: and, or, xor, not": {"kind": "boolean"},
    "modulo 3: +, −, *": {"kind": "modular", "modulus": 3},
}
SETTINGS = {"hidden_size": 48, "max_iter": 40, "batch_size": 64, "learning_rate": "cosine", "standardize": False}

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
results = {}
for task, language in TASKS.items():
    tests = {d: make_expression_trees(500, depth=d, random_state=1000 + d, **language) for d in DEPTHS}

    def sequences(trees, language=language):
        return [expression_tokens(tree, **language) for tree in trees]

    for seed in SEEDS:
        X, y = make_expression_trees(8000, depth=(1, TRAINED), random_state=seed, **language)
        _, of_nodes = make_expression_trees(8000, depth=(1, TRAINED), targets="nodes", random_state=seed, **language)
        models = {
            "child-sum": TreeClassifier("child_sum", random_state=seed, **SETTINGS).fit(X, y),
            "N-ary": TreeClassifier("nary", random_state=seed, **SETTINGS).fit(X, y),
            "N-ary, taught every node": TreeClassifier("nary", targets="nodes", random_state=seed, **SETTINGS).fit(
                X, of_nodes
            ),
            "LSTM on the sequence": SequenceClassifier("lstm", random_state=seed, **SETTINGS).fit(sequences(X), y),
        }
        for name, model in models.items():
            row = []
            for X_test, y_test in tests.values():
                found = model.predict(sequences(X_test) if "LSTM" in name else X_test)
                if "every node" in name:
                    found = np.array([nodes[0] for nodes in found])
                row.append(float(np.mean(found == y_test)))
            results.setdefault(task, {}).setdefault(name, []).append(row)
            print(f"{task:28} {name:26} seed {seed}", " ".join(f"{value:.3f}" for value in row), flush=True)

import matplotlib  # noqa: E402

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

figure, panels = plt.subplots(1, len(TASKS), figsize=(9.5, 4.2), sharey=True, layout="constrained")
for axes, (task, models) in zip(panels, results.items(), strict=True):
    axes.axvspan(0.5, TRAINED + 0.5, color="0.93")
    axes.text(TRAINED + 0.45, 0.015, "trained on ", ha="right", va="bottom", fontsize=8, color="0.4")
    for (name, rows), (style, marker) in zip(
        models.items(), (("-", "o"), ("-", "s"), ("--", "^"), (":", "D")), strict=True
    ):
        rows = np.array(rows)
        line = axes.plot(list(DEPTHS), rows.mean(axis=0), style, marker=marker, markersize=4, label=name)[0]
        axes.fill_between(list(DEPTHS), rows.min(axis=0), rows.max(axis=0), color=line.get_color(), alpha=0.15, lw=0)
    axes.set(xlabel="depth of the test trees", title=task, xlim=(0.5, max(DEPTHS) + 0.5), ylim=(0, 1.02))
    axes.set_xticks(list(DEPTHS))
panels[0].set_ylabel("accuracy")
panels[0].legend(frameon=False, loc="lower left", fontsize=9, bbox_to_anchor=(0, 0.05))
figure.savefig(folder / "tree_depth.png", dpi=150)
