"""``torch.nn.LSTM``, ``GRU`` and ``RNN`` that run and train here: :func:`convert` puts them into a model.

The modules are PyTorch's own classes with another ``forward``: parameters, names, initial values, ``state_dict``, ``repr`` and
``isinstance`` are those of ``torch.nn``. Tensors must be in the CPU's memory; they go to the module's device (``device``: ``"auto"``,
``"cpu"``, ``"gpu"``, ... as :func:`wgpu_rnn.devices` lists them) and come back within each call.

>>> import torch, wgpu_rnn.torch
>>> model = torch.nn.Sequential(torch.nn.LSTM(3, 5, bidirectional=True))
>>> wgpu_rnn.torch.convert(model)
Sequential(
  (0): LSTM(3, 5, bidirectional=True)
)
>>> model[0](torch.zeros(4, 2, 3))[0].sum().backward()

Beyond ``torch.nn``: gradients in evaluation are those of any other function, and a graph that is retained may be gone back through
again. Not there: gradients of gradients, tensors on CUDA or MPS devices, ``torch.compile`` and TorchScript of the layer itself, and
quantised or half precision parameters. What is not there raises an error; nothing falls back on torch.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from . import _core
from .errors import DTypeError, MismatchError, UnsupportedError

__all__ = ["GRU", "LSTM", "RNN", "convert", "revert"]

_DTYPES = {torch.float32: "float32", torch.float64: "float64"}
_Model = TypeVar("_Model", bound=torch.nn.Module)


class _Run(torch.autograd.Function):
    """A call of a layer: x ``[T, B, I]`` or as the module has it, h0, c0 (or ``None``), and every parameter."""

    @staticmethod
    def forward(
        ctx: Any, core: _core.Layer, lengths: list[int] | None, seed: int | None, x: Tensor, h0: Any, c0: Any, *params: Tensor
    ) -> Any:
        batch = [None if value is None else value.detach().numpy() for value in (x, h0, c0)]
        core.set_weights([param.detach().numpy() for param in params])
        (y, hn, cn), ctx.tape = core.train(*batch, lengths, None, seed)
        ctx.core, ctx.again = core, (lengths, seed)
        ctx.save_for_backward(x, h0, c0, *params)
        return tuple(torch.from_numpy(value) for value in (y, hn, cn) if value is not None)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> Any:
        # It checks that none of them was changed meanwhile.
        x, h0, c0, *params = ctx.saved_tensors
        tape, ctx.tape = ctx.tape, None
        if tape is None or not tape.is_current():
            # A graph that was retained, once more; or other parameters were here and are gone again. Its memory is free for this run.
            tape = None
            batch = [None if value is None else value.detach().numpy() for value in (x, h0, c0)]
            ctx.core.set_weights([param.detach().numpy() for param in params])
            _, tape = ctx.core.train(*batch, ctx.again[0], None, ctx.again[1])
        dx, dh0, dc0, named = tape.backward(*(None if up is None else up.detach().numpy() for up in upstream))
        gradients = [dx, dh0 if h0 is not None else None, dc0 if c0 is not None else None, *named.values()]
        wanted = ctx.needs_input_grad[3:]
        of = [torch.from_numpy(value) if wants and value is not None else None for value, wants in zip(gradients, wanted)]
        if torch.is_grad_enabled():
            # With create_graph=True: whoever goes back through these is told, and not given zeros.
            reads = [value for value in (x, h0, c0, *params, *upstream) if value is not None]
            of = [None if value is None else _Once.apply(value, *reads) for value in of]
        return (None, None, None, *of)


class _Once(torch.autograd.Function):
    """A gradient that cannot be gone back through, to whatever it was made of."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *reads: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        raise UnsupportedError("not supported: gradients of gradients through a layer of wgpu_rnn: use torch.nn's there (revert)")


class _Layer(torch.nn.RNNBase):
    """What the three modules have in common."""

    _wgpu_device = "auto"
    """Where the module runs."""

    def _wgpu_cell(self) -> str:
        raise NotImplementedError

    def _wgpu_core(self, dtype: torch.dtype, batch_first: bool = False) -> _core.Layer:
        """The layer itself, made at the first call."""
        made: dict[Any, _core.Layer] = self.__dict__.setdefault("_wgpu_made", {})
        # What may be set on a module after it was made.
        key = (dtype, self._wgpu_device, batch_first, float(self.dropout))
        if key not in made:
            wish = {
                "cell": self._wgpu_cell(),
                "input_size": self.input_size,
                "hidden_size": self.hidden_size,
                "num_layers": self.num_layers,
                "bias": "two" if self.bias else "none",
                "batch_first": batch_first,
                "direction": "bidirectional" if self.bidirectional else "forward",
                "proj_size": self.proj_size,
                # PyTorch takes 1; nothing is left then, and its gradient is 0.
                "dropout": float(self.dropout),
                "input_dropout": 0.0,
                "recurrent_dropout": 0.0,
                "zoneout": (0.0, 0.0),
                "clip": None,
                "cell_clip": None,
                "input_forget": False,
                "recurrence": "dense",
                "weight_format": "f32",
                "memory": "save",
                "resets": None,
            }
            with _MAKING:
                made.setdefault(key, _core.Layer(wish, self._wgpu_device, _DTYPES[dtype], 0))
        return made[key]

    def _wgpu_call(
        self, x: Tensor, h0: Tensor | None, c0: Tensor | None, lengths: list[int] | None, batch_first: bool
    ) -> tuple[Tensor, ...]:
        # By name: a parametrisation (weight_norm, ...) has put something else in a parameter's place.
        params = [getattr(self, name) for name in self._flat_weights_names]
        for what, value in (("input", x), ("h0", h0), ("c0", c0), *zip(self._flat_weights_names, params)):
            if value is None:
                continue
            if value.device.type != "cpu":
                raise UnsupportedError(f"not supported: {what} on {value.device}: tensors must be in the CPU's memory (.cpu())")
            if value.dtype not in _DTYPES or value.dtype != x.dtype:
                raise DTypeError(f"{what}: expected {'float32 or float64' if what == 'input' else x.dtype}, got {value.dtype}")
        core = self._wgpu_core(x.dtype, batch_first)
        drops = self.training and self.dropout > 0.0 and self.num_layers > 1
        seed = int(torch.randint(2**62, (), dtype=torch.int64)) if drops else None
        needs = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, h0, c0, *params))
        if needs or drops:
            return tuple(_Run.apply(core, lengths, seed, x, h0, c0, *params))
        core.set_weights([param.detach().numpy() for param in params])
        batch = [None if value is None else value.detach().numpy() for value in (x, h0, c0)]
        return tuple(torch.from_numpy(value) for value in core.infer(*batch, lengths, None, False) if value is not None)

    def _wgpu_forward(self, input: Tensor | PackedSequence, hx: Any) -> tuple[Any, list[Tensor]]:
        """y as the input was, and the last states."""
        pair = self.mode == "LSTM"
        if isinstance(input, PackedSequence):
            return self._wgpu_packed(input, hx)
        if input.dim() not in (2, 3):
            raise MismatchError(f"{self.mode}: expected input of 2 or 3 dimensions, got {input.dim()}")
        # With torch's words; what is left is checked where it is read.
        self.check_input(input if input.dim() == 3 else input[None], None)
        states = (None, None) if hx is None else tuple(hx) if pair else (hx, None)
        y, *last = self._wgpu_call(input, *states, None, self.batch_first)
        return y, last

    def _wgpu_packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, list[Tensor]]:
        data, batch_sizes, sorted_indices, unsorted_indices = input
        self.check_input(data, batch_sizes)
        sizes = batch_sizes.tolist()
        # Steps of every sequence, the longest first: packed data are the rows of [T, B] that there are, in their order.
        lengths = [sum(size > b for size in sizes) for b in range(sizes[0])]
        there = (torch.arange(sizes[0])[None, :] < batch_sizes[:, None]).flatten().nonzero().squeeze(1)
        x = data.new_zeros(len(sizes) * sizes[0], data.size(-1)).index_copy(0, there, data).view(len(sizes), sizes[0], -1)
        states = (None, None) if hx is None else tuple(hx) if self.mode == "LSTM" else (hx, None)
        if sorted_indices is not None:
            states = tuple(None if state is None else state.index_select(1, sorted_indices) for state in states)
        y, *last = self._wgpu_call(x, *states, lengths, batch_first=False)
        rows = y.view(len(sizes) * sizes[0], -1).index_select(0, there)
        packed = PackedSequence(rows, batch_sizes, sorted_indices, unsorted_indices)
        if unsorted_indices is not None:
            last = [state.index_select(1, unsorted_indices) for state in last]
        return packed, last

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_wgpu_made"}

    def flatten_parameters(self) -> None:
        """There is nothing to flatten."""


_MAKING = threading.Lock()


class LSTM(_Layer, torch.nn.LSTM):
    """``torch.nn.LSTM`` that runs here. ``device`` and ``dtype`` are torch's, of the parameters; ``on`` says where it runs."""

    def __init__(self, *args: Any, on: str = "auto", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wgpu_device = on

    def _wgpu_cell(self) -> str:
        return "lstm"

    def forward(self, input: Any, hx: Any = None) -> Any:  # type: ignore[override]
        y, (hn, cn) = self._wgpu_forward(input, hx)
        return y, (hn, cn)


class _OneState(_Layer):
    def forward(self, input: Any, hx: Any = None) -> Any:
        y, (hn,) = self._wgpu_forward(input, hx)
        return y, hn


class GRU(_OneState, torch.nn.GRU):
    """``torch.nn.GRU`` that runs here. ``device`` and ``dtype`` are torch's, of the parameters; ``on`` says where it runs."""

    def __init__(self, *args: Any, on: str = "auto", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wgpu_device = on

    def _wgpu_cell(self) -> str:
        return "gru"


class RNN(_OneState, torch.nn.RNN):
    """``torch.nn.RNN`` that runs here. ``device`` and ``dtype`` are torch's, of the parameters; ``on`` says where it runs."""

    def __init__(self, *args: Any, on: str = "auto", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wgpu_device = on

    def _wgpu_cell(self) -> str:
        return f"rnn-{self.nonlinearity}"


_CLASSES: dict[type[torch.nn.Module], type[_Layer]] = {torch.nn.LSTM: LSTM, torch.nn.GRU: GRU, torch.nn.RNN: RNN}


def convert(model: _Model, device: str = "auto") -> _Model:
    """Lets every ``torch.nn.LSTM``, ``GRU`` and ``RNN`` in a model run here, and returns the model (or the layer that it is). Nothing is
    copied: modules and their parameters stay the objects that they are, with what an optimiser knows of them, hooks and all.

    ``device``: where they run.

    Layers of classes that were derived from torch's are left as they are: what they changed is theirs.
    """
    for module in model.modules():
        wanted = _CLASSES.get(type(module))
        if wanted is not None:
            module.__class__ = wanted
        if isinstance(module, _Layer):
            module._wgpu_device = device
    return model


def revert(model: _Model) -> _Model:
    """Gives a model's layers back to torch: the inverse of :func:`convert`."""
    for module in model.modules():
        for theirs, ours in _CLASSES.items():
            if type(module) is ours:
                module.__dict__.pop("_wgpu_made", None)
                module.__dict__.pop("_wgpu_device", None)
                module.__class__ = theirs
    return model
