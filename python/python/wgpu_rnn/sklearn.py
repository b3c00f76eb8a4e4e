"""Estimators for scikit-learn over sequences (imported only where scikit-learn is): :class:`SequenceClassifier` and
:class:`SequenceRegressor`.

>>> import numpy as np
>>> from wgpu_rnn.sklearn import SequenceClassifier
>>> rng = np.random.default_rng(1)
>>> X = [rng.standard_normal((int(rng.integers(3, 9)), 2)) for _ in range(60)]
>>> y = ["rises" if x[:, 0].sum() > 0 else "falls" for x in X]
>>> SequenceClassifier(epochs=40, random_state=1).fit(X, y).score(X, y) > 0.9
True
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ._arrays import Array, mismatch
from .network import Network, Value

__all__ = ["SequenceClassifier", "SequenceRegressor"]

_POOLINGS = ("end", "last", "mean", "max")


class _Sequences(BaseEstimator):  # type: ignore[misc]
    """What both have in common: recurrent layers, a row per sequence of them, and a dense layer.

    X is a list of sequences ``[T, I]`` of any lengths, an array ``[n, T, I]``, or an array ``[n, T]``, sequences of one value per step.
    It is standardised, by mean and spread of every feature over all steps.
    """

    def __init__(
        self,
        cell: str = "gru",
        hidden_size: int = 32,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "end",
        dropout: float = 0.0,
        epochs: int = 30,
        batch_size: int = 32,
        lr: float = 0.01,
        optimiser: str = "adam",
        clip_norm: float | None = 1.0,
        device: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimiser = optimiser
        self.clip_norm = clip_norm
        self.device = device
        self.random_state = random_state

    def _sequences(self, X: Any, reset: bool) -> list[Array]:
        """Sequences ``[T, I]``, checked."""
        given = isinstance(X, (list, tuple)) and len(X) > 0 and all(np.ndim(x) == 2 for x in X)
        if given or isinstance(X, np.ndarray) and X.ndim == 3:
            sequences = [np.asarray(x, np.float64) for x in X]
            widths = {x.shape[1] for x in sequences}
            if len(widths) != 1 or min(x.shape[0] for x in sequences) == 0:
                raise mismatch("X", "sequences [T, I] of at least one step and of one I", f"{len(sequences)} of I in {sorted(widths)}")
            if not all(np.isfinite(x).all() for x in sequences):
                raise mismatch("X", "finite values", "NaN or infinity")
            width = widths.pop()
            if reset:
                self.n_features_in_ = width
            elif width != self.n_features_in_:
                raise mismatch("X", f"{self.n_features_in_} features per step", str(width))
        else:
            X = validate_data(self, X, reset=reset, dtype=np.float64)
            sequences = list(X[..., None])
        if reset:
            rows = np.concatenate(sequences)
            self.mean_, spread = rows.mean(axis=0), rows.std(axis=0)
            self.scale_ = np.where(spread > 0, spread, 1.0)
        return [((x - self.mean_) / self.scale_).astype(np.float32) for x in sequences]

    def _batches(self, sequences: list[Array], targets: Array | None, order: Array) -> list[dict[str, Any]]:
        made = []
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            lengths = [len(sequences[n]) for n in chosen]
            x = np.zeros((max(lengths), len(chosen), sequences[0].shape[1]), np.float32)
            for b, n in enumerate(chosen):
                x[: lengths[b], b] = sequences[n]
            made.append({"x": x, "lengths": lengths} | ({} if targets is None else {"target": targets[chosen]}))
        return made

    def _network(self, width: int, outputs: int, loss: str, seed: int) -> Network:
        if self.pooling not in _POOLINGS:
            raise mismatch("pooling", ", ".join(_POOLINGS), repr(self.pooling))
        if self.cell not in ("lstm", "gru", "rnn"):
            raise mismatch("cell", "lstm, gru or rnn", repr(self.cell))
        net = Network(self.device, seed=seed)
        y = getattr(net, self.cell)(
            "layers", net.input("x", width), self.hidden_size, self.num_layers, bidirectional=self.bidirectional, dropout=self.dropout
        )
        row: Value = net.last_of("row", y) if self.pooling == "end" else net.pool("row", y, self.pooling)
        out = net.linear("head", row, outputs)
        net.output("out", out)
        net.loss(out, net.sequence_input("target", 1 if loss == "cross_entropy" else outputs), loss)
        return net

    def _learn(self, sequences: list[Array], targets: Array, outputs: int, loss: str) -> None:
        random = check_random_state(self.random_state)
        self.network_ = self._network(sequences[0].shape[1], outputs, loss, int(random.randint(2**31 - 1)))
        # Drawn once; the batches' order is the same in every epoch.
        batches = self._batches(sequences, targets, random.permutation(len(sequences)))
        self.history_ = self.network_.fit(
            batches, optimiser=self.optimiser, lr=self.lr, epochs=self.epochs, clip_norm=self.clip_norm, progress=False
        )
        self.n_iter_ = len(self.history_.loss)

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self)
        sequences = self._sequences(X, reset=False)
        batches = self._batches(sequences, None, np.arange(len(sequences)))
        return np.concatenate([self.network_.predict({"x": batch["x"]}, batch["lengths"])["out"] for batch in batches])


class SequenceClassifier(ClassifierMixin, _Sequences):  # type: ignore[misc]
    """A class for a sequence: recurrent layers, where they ended (``pooling="end"``) or ``"last"``, ``"mean"`` or ``"max"`` over their
    steps, and a dense layer with cross entropy, trained on the device.

    X: a list of sequences ``[T, I]``, an array ``[n, T, I]``, or ``[n, T]``. ``cell``: ``"gru"``, ``"lstm"`` or ``"rnn"``. The other
    parameters are those of :class:`wgpu_rnn.GRU` and of :meth:`wgpu_rnn.Network.fit`. ``network_`` is the :class:`wgpu_rnn.Network` that
    was trained, ``history_`` what its ``fit`` gave, ``classes_`` the classes.
    """

    def fit(self, X: Any, y: Any) -> SequenceClassifier:
        """Learns the classes ``y`` of the sequences ``X``."""
        sequences = self._sequences(X, reset=True)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if len(y) != len(sequences):
            raise mismatch("y", f"{len(sequences)} classes", str(len(y)))
        self.classes_, classes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise mismatch("y", "at least 2 classes", f"{len(self.classes_)} class")
        self._learn(sequences, classes.astype(np.float32), len(self.classes_), "cross_entropy")
        return self

    def predict_proba(self, X: Any) -> Array:
        """The probability of every class, ``[n, classes]``."""
        logits = self._outputs(X).astype(np.float64)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(p / p.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> Array:
        """The likeliest class of every sequence, ``[n]``."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


class SequenceRegressor(RegressorMixin, _Sequences):  # type: ignore[misc]
    """Numbers for a sequence, as :class:`SequenceClassifier` with squared errors; the targets are standardised."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> SequenceRegressor:
        """Learns the numbers ``y`` ``[n]`` or ``[n, outputs]`` of the sequences ``X``."""
        sequences = self._sequences(X, reset=True)
        y = np.asarray(y)
        y = np.asarray(y if y.ndim == 2 else column_or_1d(y, warn=True), np.float64)
        if len(y) != len(sequences) or not np.isfinite(y).all():
            raise mismatch(
                "y",
                f"{len(sequences)} finite numbers",
                f"{len(y)}, NaN or infinity among them" if len(y) == len(sequences) else str(len(y)),
            )
        self._flat = y.ndim == 1
        y = y.reshape(len(y), -1)
        self.target_mean_, spread = y.mean(axis=0), y.std(axis=0)
        self.target_scale_ = np.where(spread > 0, spread, 1.0)
        targets = ((y - self.target_mean_) / self.target_scale_).astype(np.float32)
        self._learn(sequences, targets, y.shape[1], "mean_squared")
        return self

    def predict(self, X: Any) -> Array:
        """The numbers of every sequence, ``[n]`` or ``[n, outputs]``."""
        found = self._outputs(X) * self.target_scale_ + self.target_mean_
        return np.asarray(found[:, 0] if self._flat else found)
