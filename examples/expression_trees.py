"""Trees: learn what expressions such as (1 xor (not (0 and 1))) are worth, and understand deeper ones than any seen.

A tree is a pair (features of each node, parent of each node). Needs: pip install "lstmcore[sklearn]".
"""

import numpy as np

from lstmcore import TreeClassifier, TreeRecurrent
from lstmcore.datasets import make_expression_trees

X, y = make_expression_trees(2000, depth=(1, 4), random_state=0)
features, parents = X[0]
print(f"the first tree has {len(parents)} nodes of {features.shape[1]} features, parents {parents.tolist()}")

model = TreeClassifier("child_sum", hidden_size=32, max_iter=30, standardize=False, random_state=0).fit(X, y)
for depth in (4, 6, 8):
    print(
        f"depth {depth}: test accuracy {model.score(*make_expression_trees(500, depth=depth, random_state=depth)):.3f}"
    )

# A label for every node: y is a list of one array a tree, None where a node has no label.
_, values = make_expression_trees(2000, depth=(1, 4), targets="nodes", random_state=0)
some = [[int(v) if k % 2 == 0 else None for k, v in enumerate(tree)] for tree in values]
of_nodes = TreeClassifier("nary", targets="nodes", hidden_size=32, max_iter=30, standardize=False, random_state=0)
of_nodes.fit(X, some)
print(f"every node, half of them labelled: test accuracy {of_nodes.score(X[:200], values[:200]):.3f}")

# The layer itself, for a training loop of one's own: all trees of a batch are one forest.
layer = TreeRecurrent("child_sum", input_size=6, hidden_size=8)
forest = np.concatenate(
    [np.where(tree[1] < 0, -1, tree[1] + start) for tree, start in zip(X[:2], (0, len(X[0][1])), strict=True)]
)
h, state, tape = layer.forward(np.concatenate([X[0][0], X[1][0]]), forest, training=True)
gradients = layer.backward(tape, dh=np.where((forest < 0)[:, None], h, 0))  # of ½ Σ h² over the roots
print("gradients:", {name: value.shape for name, value in gradients.parameters.items()})
