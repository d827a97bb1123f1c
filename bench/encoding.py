"""SequenceEncoder with logistic regression, beside a SequenceClassifier trained on the few labelled sequences alone.

Digits: rows of 8 × 8 images, 1200 to train on, 597 to test. Vowels: 270 utterances of nine speakers, 370 to test.
Encoders see all training sequences without labels; labels are those of so many sequences of each class, drawn five
times. Mean accuracy, and its lowest and highest.

    python bench/encoding.py        # needs scikit-learn and, for the vowels, sktime
"""

import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lstmcore import SequenceClassifier, SequenceEncoder
from lstmcore.datasets import load_japanese_vowels

DRAWS = 5
ENCODERS = {
    "random layers": {"pretraining": None, "pooling": "mean"},
    "autoencoder": {"pretraining": "autoencoder"},
    "next step": {"pretraining": "next_step", "pooling": "mean"},
}


def digits():
    data = load_digits()
    return data.images[:1200], data.target[:1200], data.images[1200:], data.target[1200:]


def vowels():
    return *load_japanese_vowels("train"), *load_japanese_vowels("test")


def accuracies(X, y, X_test, y_test, features, count):
    found = {name: [] for name in ("classifier on the few alone", *features)}
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        few = np.concatenate([rng.choice(np.flatnonzero(y == c), count, replace=False) for c in np.unique(y)])
        classifier = SequenceClassifier(bidirectional=True, pooling="mean", max_iter=60, random_state=draw)
        classifier.fit([X[n] for n in few], y[few])
        found["classifier on the few alone"].append(classifier.score(X_test, y_test))
        for name, (train, test) in features.items():
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(train[few], y[few])
            found[name].append(model.score(test, y_test))
    return found


for task in (digits, vowels):
    X, y, X_test, y_test = task()
    features = {}
    for name, settings in ENCODERS.items():
        start = time.perf_counter()
        encoder = SequenceEncoder(bidirectional=True, max_iter=40, random_state=0, **settings).fit(X)
        print(f"{task.__name__}, {name}: {time.perf_counter() - start:.1f} s, loss {encoder.loss_:.3f}", flush=True)
        features[name] = encoder.transform(X), encoder.transform(X_test)
    for count in (1, 3, 10):
        print(f"{task.__name__}, {count} of each class")
        for name, values in accuracies(X, y, X_test, y_test, features, count).items():
            print(f"  {name:28} {np.mean(values):.3f}  {min(values):.3f}  {max(values):.3f}", flush=True)
