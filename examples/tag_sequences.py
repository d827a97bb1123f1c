"""A label for every step: find entities in sentences of a small grammar, word by word.

Needs: pip install "lstmcore[sklearn]".
"""

import tempfile
from pathlib import Path

from sklearn.model_selection import GridSearchCV

from lstmcore import SequenceTagger, load
from lstmcore.datasets import make_tagged_sentences
from lstmcore.metrics import entities, entity_f1_score, entity_f1_scorer

X, y = make_tagged_sentences(2000, random_state=0)
X_train, y_train, X_test, y_test = X[:1000], y[:1000], X[1000:], y[1000:]
print(" ".join(f"{word}/{tag}" for word, tag in zip(X[0], y[0], strict=True)))

# BLSTM with softmax, and BLSTM-CRF (Huang, Xu & Yu 2015): both decide on words equally well, but a chain is right about
# whole entities more often, and with constraints it never writes an I- without its B-.
common = {"bidirectional": True, "dropout": 0.3, "max_iter": 15, "random_state": 0}
softmax = SequenceTagger(**common).fit(X_train, y_train)
chain = SequenceTagger(crf=True, constraints="bio", **common).fit(X_train, y_train)
for name, tagger in (("softmax", softmax), ("CRF", chain)):
    found = tagger.predict(X_test)
    print(f"{name}: words {tagger.score(X_test, y_test):.3f}, entities F1 {entity_f1_score(y_test, found):.3f}")
print("entities of the first sentence:", entities(chain.predict(X_test[:1])[0]))

# How sure it is of every word, given the whole sentence.
probabilities = chain.predict_proba(X_test[:1])[0]
print(f"probabilities (T, K): {probabilities.shape}, lowest of the best labels {probabilities.max(axis=1).min():.2f}")

search = GridSearchCV(
    SequenceTagger(crf=True, **{**common, "max_iter": 3}), {"hidden_size": [16, 32]}, scoring=entity_f1_scorer, cv=2
)
print("grid search:", search.fit(X_train[:300], y_train[:300]).best_params_)

# Labels as the words come: a tagger without CRF that reads in one direction only.
stream = SequenceTagger(max_iter=5, random_state=0).fit(X_train, y_train)
state = None
for word in X_test[0]:
    chances, state = stream.step(word, state)
    print(f"{word}: {stream.classes_[chances.argmax()]}", end="  ")
print()

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "tagger.safetensors"
    chain.save(path)
    assert list(load(path).predict(X_test[:1])[0]) == list(chain.predict(X_test[:1])[0])
