"""torch's own inputs for its modules RNN, GRU and LSTM (`torch.testing._internal.common_modules`), run on `wgpu_rnn.torch` in their place.

torch's `test/test_modules.py`, which runs them, is not in the wheel; the checks here are its own, test by test, as far as they apply to
tensors in the CPU's memory. The last test prints the counts.
"""

from __future__ import annotations

import collections
import copy
import io
import itertools
import re
import warnings

import pytest
import torch
from torch.testing._internal.common_modules import ModuleErrorEnum, module_db
from torch.testing._internal.common_utils import freeze_rng_state

import wgpu_rnn.torch

OURS = {torch.nn.RNN: wgpu_rnn.torch.RNN, torch.nn.GRU: wgpu_rnn.torch.GRU, torch.nn.LSTM: wgpu_rnn.torch.LSTM}
INFOS = [info for info in module_db if info.module_cls in OURS]
COUNTS: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
DTYPES = [torch.float32, torch.float64]

everywhere = pytest.mark.parametrize(
    ("info", "dtype", "training"),
    list(itertools.product(INFOS, DTYPES, [True, False])),
    ids=lambda value: getattr(value, "name", str(value)),
)


def inputs(info, dtype, training, requires_grad=False, **more):
    torch.manual_seed(4)
    return info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=training, **more)


def made(info, one, dtype, training):
    args, kwargs = one.constructor_input.args, one.constructor_input.kwargs
    torch.manual_seed(5)
    module = OURS[info.module_cls](*args, **kwargs, on="cpu").to(dtype=dtype)
    return module.train(training)


def counted(name, run):
    """Counts an input as passed, or as failed with its reason."""
    try:
        run()
    except Exception as error:
        COUNTS[name][f"failed: {str(error).splitlines()[0][:120]}"] += 1
        raise
    COUNTS[name]["passed"] += 1


def flat(value):
    if isinstance(value, torch.nn.utils.rnn.PackedSequence):
        return [value.data]
    return [value] if isinstance(value, torch.Tensor) else [t for part in value for t in flat(part)]


@everywhere
def test_forward(info, dtype, training):
    """Against the reference function of the input, and against torch's module over the same parameters; packed sequences too."""
    for one in inputs(info, dtype, training, **({} if info.module_cls is torch.nn.LSTM else {"with_packed_sequence": True})):

        def run(one=one):
            module = made(info, one, dtype, training)
            args, kwargs = one.forward_input.args, one.forward_input.kwargs
            theirs = info.module_cls(*one.constructor_input.args, **one.constructor_input.kwargs).to(dtype=dtype).train(training)
            theirs.load_state_dict(module.state_dict())
            with freeze_rng_state():
                outputs = module(*args, **kwargs)
            for own, truth in zip(flat(outputs), flat(theirs(*args, **kwargs))):
                torch.testing.assert_close(own, truth)
            packed = isinstance(args[0], torch.nn.utils.rnn.PackedSequence)
            if one.reference_fn is not None and not packed:
                reference = one.reference_fn(module, *copy.deepcopy(args), **copy.deepcopy(kwargs))
                for own, truth in zip(flat(outputs), flat(reference)):
                    torch.testing.assert_close(own, truth)

        counted("test_forward", run)


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_factory_kwargs(info):
    for one, dtype in itertools.product(inputs(info, torch.float32, True), DTYPES):

        def run(one=one, dtype=dtype):
            module = OURS[info.module_cls](*one.constructor_input.args, **one.constructor_input.kwargs, device="cpu", dtype=dtype)
            assert all(p.dtype == dtype and p.device.type == "cpu" for p in module.parameters())

        counted("test_factory_kwargs", run)


@everywhere
def test_repr(info, dtype, training):
    for one in inputs(info, dtype, training):
        counted("test_repr", lambda one=one: (repr(made(info, one, dtype, training)), str(made(info, one, dtype, training))))


@everywhere
def test_save_load(info, dtype, training):
    """torch's `test_pickle`: the module, saved and loaded, gives the same."""
    for one in inputs(info, dtype, training):

        def run(one=one):
            module = made(info, one, dtype, training)
            args, kwargs = one.forward_input.args, one.forward_input.kwargs
            with freeze_rng_state():
                output = module(*args, **kwargs)
            file = io.BytesIO()
            torch.save(module, file)
            file.seek(0)
            copied = torch.load(file, weights_only=False)
            with freeze_rng_state():
                again = copied(*args, **kwargs)
            for a, b in zip(flat(output), flat(again)):
                assert torch.equal(a, b)

        counted("test_pickle", run)


@everywhere
def test_non_contiguous_tensors(info, dtype, training):
    def scattered(t):
        if t.numel() == 0 or t.dim() == 0:
            return t
        wide = torch.repeat_interleave(t.detach(), 2, dim=-1)[..., ::2]
        assert not wide.is_contiguous() or t.size(-1) == 1
        return wide.requires_grad_(t.requires_grad)

    def mapped(value):
        return scattered(value) if isinstance(value, torch.Tensor) else tuple(mapped(v) for v in value)

    for one in inputs(info, dtype, training, requires_grad=True):

        def run(one=one):
            module = made(info, one, dtype, training)
            args = one.forward_input.args
            truth = flat(module(*args))
            (sum(t.sum() for t in truth)).backward()
            gradients = [t.grad.clone() for t in flat(args)] + [p.grad.clone() for p in module.parameters()]
            for which in itertools.product([False, True], repeat=len(args)):
                module.zero_grad()
                given = tuple(mapped(arg) if change else arg for arg, change in zip(args, which))
                for t in flat(given):
                    t.grad = None
                outputs = flat(module(*given))
                (sum(t.sum() for t in outputs)).backward()
                for own, of in zip(outputs, truth):
                    torch.testing.assert_close(own, of)
                for own, of in zip([t.grad for t in flat(given)] + [p.grad for p in module.parameters()], gradients):
                    torch.testing.assert_close(own, of)

        counted("test_non_contiguous_tensors", run)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_grad(info, training):
    """gradcheck in float64: of the input, the states and every parameter."""
    for one in inputs(info, torch.float64, training, requires_grad=True):

        def run(one=one):
            module = made(info, one, torch.float64, training)
            leaves, params = flat(one.forward_input.args), list(module.parameters())

            def of(*given):
                x, *states = given[: len(leaves)]
                hx = tuple(states) if len(states) > 1 else (states or [None])[0]
                with freeze_rng_state():
                    return tuple(flat(module(x, hx)))

            assert torch.autograd.gradcheck(of, (*leaves, *params), check_batched_grad=False)

        counted("test_grad", run)


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
@pytest.mark.xfail(reason="gradients of gradients are not there; an error says so", strict=True)
def test_gradgrad(info):
    failed = None
    for one in inputs(info, torch.float64, True, requires_grad=True):

        def run(one=one):
            module = made(info, one, torch.float64, True)
            assert torch.autograd.gradgradcheck(lambda x: flat(module(x))[0], one.forward_input.args[:1])

        try:
            counted("test_gradgrad", run)
        except Exception as error:
            failed = error
    if failed:
        raise failed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
def test_errors(info, dtype):
    """The inputs that a module must refuse, with torch's words."""
    for wrong in info.module_error_inputs_func(info, device="cpu", dtype=dtype, requires_grad=False, training=False):

        def run(wrong=wrong):
            one = wrong.module_error_input
            args, kwargs = one.constructor_input.args, one.constructor_input.kwargs
            if wrong.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR:
                with pytest.raises(wrong.error_type, match=wrong.error_regex):
                    OURS[info.module_cls](*args, **kwargs)
            else:
                module = OURS[info.module_cls](*args, **kwargs)
                with warnings.catch_warnings(), pytest.raises(wrong.error_type, match=re.compile(wrong.error_regex, re.S)):
                    warnings.simplefilter("ignore")
                    module(*one.forward_input.args, **one.forward_input.kwargs)

        counted("test_errors", run)


def test_print_the_counts(capsys):
    with capsys.disabled():
        print(f"\ntorch {torch.__version__}, torch.testing._internal.common_modules: {', '.join(info.name for info in INFOS)}")
        for name, counts in COUNTS.items():
            failed = {reason: count for reason, count in counts.items() if reason != "passed"}
            print(f"  {name:28} {counts['passed']:4} of {counts.total():4} passed" + "".join(f"; {n} {r}" for r, n in failed.items()))
        print(f"  {'all':28} {sum(c['passed'] for c in COUNTS.values()):4} of {sum(c.total() for c in COUNTS.values()):4} passed")
