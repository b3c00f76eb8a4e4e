"""scikit-learn's own checks of estimators, and sequences of several lengths."""

import doctest

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

import wgpu_rnn.sklearn
from wgpu_rnn import errors
from wgpu_rnn.sklearn import SequenceClassifier, SequenceRegressor


@pytest.mark.parametrize("estimator", [SequenceClassifier(device="cpu"), SequenceRegressor(device="cpu")], ids=lambda e: type(e).__name__)
def test_scikit_learns_checks(estimator, capsys):
    found = check_estimator(estimator, on_fail=None, on_skip=None)
    with capsys.disabled():
        counts = {status: sum(one["status"] == status for one in found) for status in ("passed", "skipped", "xfail", "failed")}
        print(f"\nsklearn.utils.estimator_checks.check_estimator, {type(estimator).__name__}: {counts}")
        for one in found:
            if one["status"] not in ("passed", "xfail"):
                print(f"  {one['status']} {one['check_name']}: {str(one['exception']).splitlines()[0][:160]}")
    assert counts["failed"] == 0


def data(rng, count=80):
    X = [rng.standard_normal((int(rng.integers(2, 9)), 3)) + 1 for _ in range(count)]
    return X, np.array([x[:, 1].sum() for x in X])


@pytest.mark.parametrize("pooling", ["end", "last", "mean", "max"])
def test_sequences_of_several_lengths(pooling):
    X, sums = data(np.random.default_rng(1))
    y = np.array(["low", "middle", "high"])[np.digitize(sums, [3, 6])]
    found = SequenceClassifier("lstm", bidirectional=True, pooling=pooling, epochs=60, device="cpu", random_state=1).fit(X, y)
    assert found.score(X, y) > (0.9 if pooling in ("end", "mean") else 0.7)
    p = found.predict_proba(X[:5])
    assert p.shape == (5, 3) and np.allclose(p.sum(axis=1), 1) and list(found.classes_) == ["high", "low", "middle"]
    # A sequence's result does not depend on those beside it.
    np.testing.assert_allclose(found.predict_proba(X[2:3]), p[2:3], rtol=1e-5)
    again = clone(found).fit(X, y)
    assert np.array_equal(again.predict_proba(X), found.predict_proba(X))


def test_numbers_of_sequences_and_several_of_them():
    X, sums = data(np.random.default_rng(2))
    assert SequenceRegressor(epochs=60, device="cpu", random_state=1).fit(X, sums).score(X, sums) > 0.9
    both = np.stack([sums, -sums], axis=1)
    found = SequenceRegressor(epochs=60, device="cpu", random_state=1).fit(X, both)
    assert found.predict(X).shape == (80, 2) and found.score(X, both) > 0.9


def test_what_does_not_fit_is_said():
    X, sums = data(np.random.default_rng(3), 6)
    for bad in ([np.zeros((3, 2)), np.zeros((3, 1))], [np.zeros((0, 2))], [np.full((3, 2), np.nan)]):
        with pytest.raises(errors.MismatchError, match="X"):
            SequenceRegressor(device="cpu").fit(bad, sums[: len(bad)])
    with pytest.raises(errors.MismatchError, match="y"):
        SequenceRegressor(device="cpu").fit(X, sums[:3])
    for options, words in [({"pooling": "median"}, "pooling"), ({"cell": "mamba"}, "cell"), ({"hidden_size": 0}, "hidden_size")]:
        with pytest.raises(errors.MismatchError, match=words):
            SequenceRegressor(device="cpu", **options).fit(X, sums)
    found = SequenceRegressor(epochs=1, device="cpu").fit(X, sums)
    with pytest.raises(errors.MismatchError, match="features"):
        found.predict([np.zeros((3, 2))])


def test_a_search_over_parameters():
    X = np.random.default_rng(4).standard_normal((30, 5, 2))
    y = X[:, :, 0].mean(axis=1) > 0
    search = GridSearchCV(SequenceClassifier(epochs=3, device="cpu", random_state=1), {"hidden_size": [4, 8]}, cv=2).fit(X, y)
    assert search.best_params_["hidden_size"] in (4, 8)


def test_examples():
    assert doctest.testmod(wgpu_rnn.sklearn).failed == 0
