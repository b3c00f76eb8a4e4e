"""`wgpu_rnn.torch` against torch itself: random configurations, packed and unbatched, in both precisions; what a program does with
modules."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import wgpu_rnn
import wgpu_rnn.torch

KINDS = {"LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU, "RNN": torch.nn.RNN}


@st.composite
def cases(draw):
    kind = draw(st.sampled_from(sorted(KINDS)))
    hidden = draw(st.integers(1, 40))
    options = {
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
        "dtype": draw(st.sampled_from([torch.float64, torch.float32])),
    }
    if kind == "RNN":
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    if kind == "LSTM" and hidden > 1 and draw(st.booleans()):
        options["proj_size"] = draw(st.integers(1, hidden - 1))
    how = draw(st.sampled_from(["batch", "packed", "packed sorted", "unbatched"]))
    shape = (draw(st.integers(1, 20)), draw(st.integers(1, 6)), draw(st.integers(1, 20)))
    lengths = draw(st.lists(st.integers(1, shape[0]), min_size=shape[1], max_size=shape[1]))
    return kind, hidden, options, how, shape, lengths, draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 2**31))


def states(module, shape, dtype):
    stacked = module.num_layers * (2 if module.bidirectional else 1)
    h = torch.randn(stacked, *shape, module.proj_size or module.hidden_size, dtype=dtype, requires_grad=True)
    if not isinstance(module, torch.nn.LSTM):
        return h
    return h, torch.randn(stacked, *shape, module.hidden_size, dtype=dtype, requires_grad=True)


def flat(value):
    """All tensors of a result."""
    if isinstance(value, PackedSequence):
        return [value.data]
    return [value] if isinstance(value, torch.Tensor) else [t for part in value for t in flat(part)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cases())
def test_random_configurations(case):
    kind, hidden, options, how, (time, batch, width), lengths, training, has_state, seed = case
    torch.manual_seed(seed)
    theirs = KINDS[kind](width, hidden, **options)
    ours = wgpu_rnn.torch.convert(copy.deepcopy(theirs), "cpu")
    assert type(ours) is not type(theirs) and isinstance(ours, type(theirs))
    theirs.train(training), ours.train(training)
    dtype = options["dtype"]
    outer = (time,) if how == "unbatched" else (batch, time) if options["batch_first"] else (time, batch)
    x = torch.randn(*outer, width, dtype=dtype, requires_grad=True)
    hx = states(theirs, () if how == "unbatched" else (batch,), dtype) if has_state else None
    leaves = [x, *([] if hx is None else flat(hx))]
    results = []
    for module in (theirs, ours):
        given = x
        if how.startswith("packed"):
            of = sorted(lengths, reverse=True) if how == "packed sorted" else lengths
            given = pack_padded_sequence(x, torch.tensor(of), options["batch_first"], enforce_sorted=how == "packed sorted")
        out = module(given, hx)
        torch.manual_seed(seed + 1)
        # Not randn_like: its values follow the strides, which are others.
        loss = sum((torch.randn(t.shape, dtype=dtype) * t).sum() for t in flat(out))
        results.append((flat(out), torch.autograd.grad(loss, [*leaves, *module.parameters()], allow_unused=True)))
        if how.startswith("packed"):
            assert isinstance(out[0], PackedSequence)
    (values, gradients), (own_values, own_gradients) = results
    bound = {torch.float64: 1e-10, torch.float32: 2e-5}[dtype]
    for truth, own in zip([*values, *gradients], [*own_values, *own_gradients]):
        assert own.shape == truth.shape and own.dtype == truth.dtype
        torch.testing.assert_close(own, truth, rtol=0, atol=bound * max(1.0, truth.abs().max().item()) * (time * batch) ** 0.5)


class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(20, 8)
        self.lstm = torch.nn.LSTM(8, 12, 2, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(24, 3)

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=ids.shape[1])
        return self.head(y)


def batch():
    return torch.randint(20, (5, 9)), torch.tensor([3, 9, 1, 7, 9])


def test_a_converted_model_learns_as_torchs_does():
    torch.manual_seed(1)
    theirs = Tagger()
    ours = copy.deepcopy(theirs)
    optimisers = [torch.optim.Adam(model.parameters(), 0.01) for model in (theirs, ours)]
    before = list(ours.parameters())
    # After the optimiser was made: it goes on with the same parameters.
    assert wgpu_rnn.torch.convert(ours, "cpu") is ours
    assert all(a is b for a, b in zip(before, ours.parameters()))
    ids, lengths = batch()
    targets = torch.randint(3, ids.shape)
    losses = []
    for _ in range(60):
        for model, optimiser in zip((theirs, ours), optimisers):
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(ids, lengths).flatten(0, 1), targets.flatten())
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    np.testing.assert_allclose(losses[1::2], losses[::2], rtol=1e-3)


def test_states_saved_are_torchs():
    ours = wgpu_rnn.torch.convert(Tagger(), "cpu")
    ids, lengths = batch()
    truth = ours(ids, lengths)
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    theirs = Tagger()
    theirs.load_state_dict(torch.load(file))
    torch.testing.assert_close(theirs(ids, lengths), truth)
    for other in (pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)):
        torch.testing.assert_close(other(ids, lengths), truth, rtol=0, atol=0)
    reverted = wgpu_rnn.torch.revert(ours)
    assert type(reverted.lstm) is torch.nn.LSTM
    torch.testing.assert_close(reverted(ids, lengths), truth)


def test_layers_of_derived_classes_stay():
    class Own(torch.nn.LSTM):
        pass

    own = Own(2, 3)
    assert type(wgpu_rnn.torch.convert(own)) is Own


def test_gradients_in_evaluation_and_of_a_retained_graph():
    lstm = wgpu_rnn.torch.LSTM(3, 4, on="cpu").eval()
    x = torch.randn(5, 2, 3, requires_grad=True)
    y, _ = lstm(x)
    (first,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    (second,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_several_calls_before_one_backward():
    torch.manual_seed(2)
    theirs = torch.nn.GRU(3, 4, dtype=torch.float64)
    ours = wgpu_rnn.torch.convert(copy.deepcopy(theirs), "cpu")
    inputs = [torch.randn(time, 2, 3, dtype=torch.float64) for time in (5, 3, 5)]
    for module in (theirs, ours):
        h = None
        for x in inputs:
            y, h = module(x, h)
        (y.sum() + h.square().sum()).backward()
    for a, b in zip(theirs.parameters(), ours.parameters()):
        torch.testing.assert_close(b.grad, a.grad)


def test_parameters_changed_under_a_graph_are_torchs_error():
    lstm = wgpu_rnn.torch.LSTM(3, 4, on="cpu")
    y, _ = lstm(torch.randn(5, 2, 3))
    with torch.no_grad():
        lstm.weight_hh_l0.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_parameters_changed_behind_torchs_back_are_seen():
    theirs = torch.nn.LSTM(3, 4)
    ours = wgpu_rnn.torch.convert(copy.deepcopy(theirs), "cpu").eval()
    x = torch.randn(5, 2, 3)
    ours(x)
    for module in (theirs, ours):
        module.weight_hh_l0.data.zero_()
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])


def test_weight_norm_and_functional_call():
    torch.manual_seed(3)
    theirs = torch.nn.LSTM(3, 4, dtype=torch.float64)
    ours = wgpu_rnn.torch.convert(copy.deepcopy(theirs), "cpu")
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    results = []
    for module in (theirs, ours):
        torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
        y, _ = module(x)
        y.square().sum().backward()
        results.append([y, *(p.grad for p in module.parameters())])
    for a, b in zip(*results):
        torch.testing.assert_close(b, a)
    plain = wgpu_rnn.torch.LSTM(3, 4, dtype=torch.float64, on="cpu")
    halved = {name: value / 2 for name, value in plain.named_parameters()}
    reference = torch.nn.LSTM(3, 4, dtype=torch.float64)
    reference.load_state_dict(halved)
    torch.testing.assert_close(torch.func.functional_call(plain, halved, x)[0], reference(x)[0])


def test_dropout_follows_torchs_seed_and_its_backward_the_same_masks():
    lstm = wgpu_rnn.torch.LSTM(8, 16, 2, dropout=0.5, dtype=torch.float64, on="cpu")
    x = torch.randn(6, 3, 8, dtype=torch.float64, requires_grad=True)

    def seeded(x):
        torch.manual_seed(5)
        return lstm(x)[0]

    assert torch.equal(seeded(x), seeded(x))
    assert not torch.equal(seeded(x), lstm(x)[0])
    assert torch.autograd.gradcheck(seeded, x)
    lstm.eval()
    assert torch.equal(lstm(x)[0], lstm(x)[0])


def test_what_is_not_there_is_said():
    lstm = wgpu_rnn.torch.LSTM(3, 4, on="cpu")
    with pytest.raises(wgpu_rnn.errors.UnsupportedError, match="meta"):
        lstm(torch.randn(5, 2, 3, device="meta"))
    with pytest.raises(ValueError, match="does not match weight dtype"):
        lstm(torch.randn(5, 2, 3, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="h0"):
        lstm(torch.randn(5, 2, 3), (torch.randn(1, 3, 4), torch.randn(1, 3, 4)))
    x = torch.randn(5, 2, 3, requires_grad=True)
    (g,) = torch.autograd.grad(lstm(x)[0].sum(), x, create_graph=True)
    # A penalty on a gradient must not be left out silently.
    with pytest.raises(wgpu_rnn.errors.UnsupportedError, match="gradients of gradients"):
        (g.square().sum() + lstm(x)[0].sum()).backward()
    (g,) = torch.autograd.grad(lstm(x)[0].sum(), x, create_graph=True)
    with pytest.raises(wgpu_rnn.errors.UnsupportedError, match="gradients of gradients"):
        torch.autograd.grad(g.square().sum(), list(lstm.parameters()))


def test_tensors_go_into_numpys_layers():
    theirs = torch.nn.LSTM(3, 4, 2, bidirectional=True)
    ours = wgpu_rnn.LSTM(3, 4, 2, bidirectional=True, device="cpu")
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(5, 2, 3, requires_grad=True)
    y, (hn, cn) = ours(x)
    truth, (h, c) = theirs(x)
    for own, of in ((y, truth), (hn, h), (cn, c)):
        # And out again, in the same memory.
        torch.testing.assert_close(torch.from_dlpack(own), of.detach())
    theirs.load_state_dict({name: torch.from_dlpack(value) for name, value in ours.state_dict().items()})


def test_every_shape_is_trained_and_memory_is_bounded():
    lstm = wgpu_rnn.torch.LSTM(3, 4, on="cpu")
    for time in range(1, 120):
        y, _ = lstm(torch.randn(time, 1 + time % 5, 3))
        y.sum().backward()
    (core,) = lstm._wgpu_made.values()
    assert core.sessions()[0] <= 16
