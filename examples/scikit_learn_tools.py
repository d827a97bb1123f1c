"""Cross-validation, a grid search and a pipeline around a recurrent network. Needs: pip install "lstmcore[sklearn]"."""

import numpy as np
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from lstmcore import SequenceClassifier
from lstmcore.datasets import digits_as_sequences

X, y = digits_as_sequences()  # (1797 images, 8 rows, 8 columns): the rows of an image are read one after the other
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0, stratify=y)

# An X of three dimensions passes through every tool of scikit-learn that does not look inside.
brighten = FunctionTransformer(np.sqrt)
pipeline = make_pipeline(brighten, SequenceClassifier(max_iter=10, random_state=0))
print("cross-validation:", cross_val_score(pipeline, X_train, y_train, cv=3).round(3))

search = GridSearchCV(
    pipeline, {"sequenceclassifier__hidden_size": [16, 32], "sequenceclassifier__cell": ["lstm", "elman"]}, cv=3
)
search.fit(X_train, y_train)
print("best of the grid:", search.best_params_)
print(f"test accuracy {search.score(X_test, y_test):.3f}")
