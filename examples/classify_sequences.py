"""Classify recordings of different lengths, judge the result, keep the model.

Nine speakers say /ae/; who was it? Needs: pip install "lstmcore[demo]" (for the data and the plot).
"""

from pathlib import Path
from tempfile import mkdtemp

import lstmcore
from lstmcore import SequenceClassifier
from lstmcore.datasets import load_japanese_vowels
from lstmcore.plotting import confusion_matrix_text

X_train, y_train = load_japanese_vowels("train")  # lists of arrays (steps, features), each with its own number of steps
X_test, y_test = load_japanese_vowels("test")

model = SequenceClassifier(
    hidden_size=64,
    bidirectional=True,
    pooling="mean",
    batch_size=16,
    early_stopping=True,  # a tenth of the training data decides when to stop; the best weights are restored
    max_iter=60,
    random_state=0,
    verbose=1,
)
model.fit(X_train, y_train)
print(f"test accuracy {model.score(X_test, y_test):.3f} after {model.n_iter_} epochs")
print(confusion_matrix_text(y_test, model.predict(X_test)))

folder = Path(mkdtemp())
model.plot_learning_curve().figure.savefig(folder / "learning-curve.png", dpi=150)
model.save(folder / "speakers.safetensors")

same = lstmcore.load(folder / "speakers.safetensors")  # the estimator again
assert (same.predict_proba(X_test) == model.predict_proba(X_test)).all()
network = lstmcore.load_model(folder / "speakers.safetensors")  # the network alone: needs NumPy and nothing else
print(f"the file says that the first utterance is speaker {network.predict(X_test[:1])[0]}; it was {y_test[0]}")
