"""Recurrent layers with PyTorch's names and meaning, over NumPy arrays."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _core
from ._arrays import Array, array_of, mismatch
from .errors import MismatchError, UnsupportedError

__all__ = ["GRU", "LSTM", "RNN", "Gradients", "Layer"]


@dataclass(slots=True)
class Gradients:
    """What :meth:`Layer.backward` gives; every array has the shape of what it is the gradient of."""

    x: Array
    """Of the input; exactly 0 past a sequence's end."""
    h0: Array
    """Of h0, whether one was given or not."""
    c0: Array | None
    """Of c0; ``None`` for layers without a cell state."""
    params: dict[str, Array]
    """Of every parameter, by PyTorch's names."""


class Layer:
    """What :class:`LSTM`, :class:`GRU` and :class:`RNN` have in common. Make one of those.

    Sizes: T steps, B sequences, I ``input_size``, H ``hidden_size``, P ``proj_size`` (H where it is 0), L ``num_layers``, D 1, or 2 for
    ``bidirectional``.
    """

    training: bool
    """Whether calls are training's: with dropout and zoneout. :meth:`train` and :meth:`eval` set it; it is true at first."""

    def __init__(self, cell: str, input_size: int, hidden_size: int, *, device: str, dtype: Any, seed: int | None, **wish: Any) -> None:
        wish = wish_of(cell, input_size, hidden_size, **wish)
        seed = secrets.randbits(63) if seed is None else seed
        self._made: dict[str, Any] = {"wish": wish, "device": device, "dtype": np.dtype(dtype).name}
        self._core = _core.Layer(**self._made, seed=seed)
        self._tape: _core.Tape | None = None
        self._seed = seed
        self._runs = 0
        self.training = True

    # What it is

    @property
    def input_size(self) -> int:
        """I: features of the input."""
        return int(self._made["wish"]["input_size"])

    @property
    def hidden_size(self) -> int:
        """H: hidden units."""
        return int(self._made["wish"]["hidden_size"])

    @property
    def num_layers(self) -> int:
        """L: stacked layers."""
        return int(self._made["wish"]["num_layers"])

    @property
    def proj_size(self) -> int:
        """P: width of h after a projection; 0 for none."""
        return int(self._made["wish"]["proj_size"])

    @property
    def batch_first(self) -> bool:
        """Whether input and output are ``[B, T, ...]``. States are ``[L*D, B, ...]`` either way, as in PyTorch."""
        return bool(self._made["wish"]["batch_first"])

    @property
    def bidirectional(self) -> bool:
        """Whether D is 2."""
        return bool(self._made["wish"]["direction"] == "bidirectional")

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        dtype: np.dtype[Any] = np.dtype(self._made["dtype"])
        return dtype

    @property
    def device(self) -> str:
        """Where it runs, in words."""
        return self._core.device()

    def __repr__(self) -> str:
        wish = self._made["wish"]
        more = {name: wish[name] for name in _DEFAULTS if wish[name] != _DEFAULTS[name]}
        more |= {"bidirectional": True} if self.bidirectional else {}
        return f"{type(self).__name__}({self.input_size}, {self.hidden_size}" + "".join(f", {n}={v!r}" for n, v in more.items()) + ")"

    # Modes

    def train(self, mode: bool = True) -> Layer:
        """Sets training (or, with ``False``, evaluation), and returns the layer."""
        self.training = bool(mode)
        return self

    def eval(self) -> Layer:
        """Sets evaluation: nothing is dropped. Gradients are there all the same (:meth:`backward`)."""
        return self.train(False)

    def set_seed(self, seed: int) -> None:
        """Sets the seed of dropout's and zoneout's masks: the same seed and inputs give the same masks, call for call."""
        self._seed, self._runs = int(seed), 0

    # Parameters

    def state_dict(self, prefix: str = "") -> dict[str, Array]:
        """A copy of every parameter by PyTorch's names (``weight_ih_l0``, ...), each behind ``prefix``."""
        return {prefix + name: value for name, value in self._core.weights().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], prefix: str = "", strict: bool = True) -> None:
        """Takes parameters by PyTorch's names behind ``prefix``: NumPy arrays, or tensors of torch and others in the CPU's memory.
        Values of another floating-point type are rounded to the layer's, as PyTorch does.

        ``strict``: names that start with the prefix and are none of the layer's are refused.

        Raises :class:`~wgpu_rnn.errors.MismatchError` for a parameter that is missing or of another shape; nothing has changed then.
        """
        wanted = self._core.parameters()
        names = [prefix + name for name, _ in wanted]
        missing = [name for name in names if name not in state_dict]
        left = [name for name in state_dict if name.startswith(prefix) and name not in names] if strict else []
        if missing or left:
            parts = [f"no {', '.join(missing)}"] if missing else []
            parts += [f"{', '.join(left)} beside them (strict=False leaves them out)"] if left else []
            error = MismatchError(f"state_dict: expected {', '.join(names)}, got {'; '.join(parts)}")
            error.what = "state_dict"
            raise error
        values = []
        for name, (_, shape) in zip(names, wanted):
            value = array_of(name, state_dict[name])
            if value.dtype.kind != "f":
                raise mismatch(name, "floating-point values", str(value.dtype))
            if list(value.shape) != shape:
                error = MismatchError(f"{name}: expected {shape}, got {list(value.shape)}")
                error.what, error.expected, error.got = name, str(shape), str(list(value.shape))
                raise error
            values.append(np.ascontiguousarray(value, dtype=self.dtype))
        self._core.set_weights(values)

    # Calls

    def _call(self, input: Any, h0: Any, c0: Any, lengths: Any, resets: Any) -> tuple[Array, Array, Array | None]:
        if not self.training:
            self._tape = None
            return self._core.infer(input, h0, c0, lengths, resets, True)
        self._runs += 1
        # Another run has other masks, whichever session it gets.
        seed = (self._seed * 0x9E3779B97F4A7C15 + self._runs) & (2**64 - 1)
        # Its memory is free for this call: only the last call can be gone back through.
        self._tape = None
        out, self._tape = self._core.train(input, h0, c0, lengths, resets, seed)
        return out

    def _backward(self, dy: Any, dhn: Any, dcn: Any) -> Gradients:
        # Taken at once: of two threads one goes back.
        tape, self._tape = self._tape, None
        tape = self._core.again() if tape is None else tape
        return Gradients(*tape.backward(dy, dhn, dcn))

    # Copies

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in ("_core", "_tape")}
        return state | {"weights": self._core.weights()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        weights = state.pop("weights")
        self.__dict__.update(state)
        self._core = _core.Layer(**self._made, seed=0)
        self._tape = None
        self._core.set_weights(list(weights.values()))


_DEFAULTS: dict[str, Any] = {
    "num_layers": 1,
    "bias": "two",
    "batch_first": False,
    "dropout": 0.0,
    "proj_size": 0,
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


def wish_of(
    cell: str, input_size: int, hidden_size: int, *, bidirectional: bool = False, reverse: bool = False, **options: Any
) -> dict[str, Any]:
    """What the extension module reads a stack from: every option, by the names of the layers' constructors."""
    wish = _DEFAULTS | options
    unknown = sorted(set(wish) - set(_DEFAULTS))
    if unknown:
        raise TypeError(f"unexpected keyword argument {', '.join(map(repr, unknown))}")
    if bidirectional and reverse:
        raise UnsupportedError("not supported: reverse with bidirectional: both directions are read already")
    if isinstance(wish["bias"], bool):
        wish["bias"] = "two" if wish["bias"] else "none"
    if not isinstance(wish["zoneout"], tuple):
        has_cell = cell.startswith("lstm")
        wish["zoneout"] = (float(wish["zoneout"]), float(wish["zoneout"]) if has_cell else 0.0)
    direction = "bidirectional" if bidirectional else "reverse" if reverse else "forward"
    return wish | {"cell": cell, "input_size": input_size, "hidden_size": hidden_size, "direction": direction}


_OPTIONS = """
    Options that PyTorch has, with its names, defaults and meaning: ``num_layers``, ``bias`` (also ``"one"``: of the input alone, or
    ``"recurrent"``), ``batch_first``, ``dropout`` (between layers, in training), ``bidirectional``{proj}{nonlinearity}, ``dtype`` (float32;
    float64 on the CPU).

    ``device``: ``"auto"`` (a real GPU if there is one, else the CPU), ``"cpu"``, ``"cpu:THREADS"``, ``"gpu"`` or ``"gpu:N"`` as
    :func:`wgpu_rnn.devices` lists them.

    Options that PyTorch does not have:

    - {cells}
    - ``zoneout``: probability that a unit of h{zone} keeps its value of the step before.
    - ``input_dropout``, ``recurrent_dropout``: of the features of every layer's input, and of h in the recurrent product, one draw per
      sequence for all its steps.
    - ``clip``: clamps the argument of every activation to plus or minus this.{lstm}
    - ``recurrence``: ``"dense"``, ``"heads:N"`` (R is block-diagonal) or ``"diagonal"`` (IndRNN).
    - ``weight_format``: how matrices are stored, ``"f32"``, ``"f16"``, ``"bf16"`` or ``"int8"`` (inference alone).
    - ``memory``: what training keeps: ``"save"``, ``"recompute"``, ``"checkpoint=STEPS"`` or ``"auto=BYTES"``.
    - ``resets``: ``"zero"`` or ``"initial"``: what the state is set to where a call's ``resets`` flags are true.
    - ``reverse``: reads time backwards only.
    - ``seed``: of the first parameters and of the masks; drawn without it.

    Raises :class:`wgpu_rnn.errors.MismatchError` for sizes and values that do not fit, :class:`~wgpu_rnn.errors.UnsupportedError` for
    combinations that there are not, :class:`~wgpu_rnn.errors.NoAdapterError` for a GPU that is not there.

    A layer may be called from several threads; they take turns. :meth:`backward` goes back through the last call, whichever thread's.
"""

_CALL = """Runs a batch and returns ``{returns}``.

        ``input``: ``[T, B, I]``, ``[B, T, I]`` with ``batch_first``, or ``[T, I]``: one sequence, and results without the dimension B.
        ``hx``: {states} without it zeros. ``lengths``: each sequence's own length, B whole numbers in 0..T in any order; all T without
        them. What is past an end is not read, the output is 0 there, and {last} at that end. ``resets``: booleans ``[T, B]`` (as the
        input lies): where a new episode begins, for layers made with ``resets``.

        The output is ``[T, B, D*{width}]`` (or as ``input`` lies). Every array is NumPy's and owns its memory. T, B and lengths may be
        others at every call, and 0.

        Raises :class:`~wgpu_rnn.errors.DTypeError` for another type than the layer's, :class:`~wgpu_rnn.errors.MismatchError` for shapes
        that do not fit, :class:`~wgpu_rnn.errors.LimitError` beyond the device's memory, and what the device raises.
        """


class LSTM(Layer):
    __doc__ = "``torch.nn.LSTM`` over NumPy arrays: ``y, (hn, cn) = lstm(x, (h0, c0))``.\n" + _OPTIONS.format(
        proj=", ``proj_size``",
        nonlinearity="",
        cells="``peepholes``: gates see c (ONNX's P; parameter ``weight_unit_l*`` ``[3, H]``: i, f, o). ``layer_norm``: Haste's "
        "layer-normalised LSTM (parameter ``gain_l*``).",
        zone=" and of c (a pair: of each)",
        lstm=" ``cell_clip``: clamps c itself. ``input_forget``: f = 1 - i.",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool | str = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: str = "auto",
        dtype: Any = np.float32,
        *,
        peepholes: bool = False,
        layer_norm: bool = False,
        zoneout: float | tuple[float, float] = 0.0,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        clip: float | None = None,
        cell_clip: float | None = None,
        input_forget: bool = False,
        recurrence: str = "dense",
        weight_format: str = "f32",
        memory: str = "save",
        resets: str | None = None,
        reverse: bool = False,
        seed: int | None = None,
    ) -> None:
        if peepholes and layer_norm:
            raise UnsupportedError("not supported: peepholes with layer_norm: there is no such cell; choose one of them")
        super().__init__(
            "lstm-peephole" if peepholes else "lstm-layer-norm" if layer_norm else "lstm",
            input_size,
            hidden_size,
            device=device,
            dtype=dtype,
            seed=seed,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=proj_size,
            zoneout=zoneout,
            input_dropout=input_dropout,
            recurrent_dropout=recurrent_dropout,
            clip=clip,
            cell_clip=cell_clip,
            input_forget=input_forget,
            recurrence=recurrence,
            weight_format=weight_format,
            memory=memory,
            resets=resets,
            reverse=reverse,
        )

    def __call__(
        self,
        input: Any,
        hx: tuple[Any, Any] | Sequence[Any] | None = None,
        *,
        lengths: Any = None,
        resets: Any = None,
    ) -> tuple[Array, tuple[Array, Array]]:
        h0, c0 = (None, None) if hx is None else _pair(hx)
        y, hn, cn = self._call(input, h0, c0, lengths, resets)
        return y, (hn, cn)  # type: ignore[return-value]

    __call__.__doc__ = _CALL.format(
        returns="y, (hn, cn)",
        states="h0 ``[L*D, B, P]`` and c0 ``[L*D, B, H]``, a pair;",
        last="hn and cn are the states",
        width="P",
    )

    def backward(self, dy: Any = None, dhn: Any = None, dcn: Any = None) -> Gradients:
        """Goes back through the last call, once: from the gradients of a loss with respect to y, hn and cn, in their shapes (``None``:
        zeros), to those of everything that the call read.

        After a call in evaluation the batch, of which the layer keeps a copy, is run again first: inference pays for gradients only
        where they are asked for.

        Raises :class:`~wgpu_rnn.errors.OrderError` where there was no call since the last ``backward`` or since the parameters changed.
        """
        return self._backward(dy, dhn, dcn)


class _OneState(Layer):
    """A layer whose state is h alone."""

    def __call__(self, input: Any, hx: Any = None, *, lengths: Any = None, resets: Any = None) -> tuple[Array, Array]:
        if isinstance(hx, (tuple, list)):
            raise mismatch("hx", "h0 alone (no pair: the layer has no cell state)", type(hx).__name__)
        y, hn, _ = self._call(input, hx, None, lengths, resets)
        return y, hn

    __call__.__doc__ = _CALL.format(returns="y, hn", states="h0 ``[L*D, B, H]``;", last="hn is the state", width="H")

    def backward(self, dy: Any = None, dhn: Any = None) -> Gradients:
        return self._backward(dy, dhn, None)

    backward.__doc__ = (LSTM.backward.__doc__ or "").replace("y, hn and cn, in", "y and hn, in")


class GRU(_OneState):
    __doc__ = "``torch.nn.GRU`` over NumPy arrays: ``y, hn = gru(x, h0)``.\n" + _OPTIONS.format(
        proj="",
        nonlinearity="",
        cells="``reset_before``: the reset gate before the product (ONNX's default, Keras's ``reset_after=False``). ``layer_norm``: "
        "Haste's layer-normalised GRU (parameter ``gain_l*``).",
        zone="",
        lstm="",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool | str = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: str = "auto",
        dtype: Any = np.float32,
        *,
        reset_before: bool = False,
        layer_norm: bool = False,
        zoneout: float = 0.0,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        clip: float | None = None,
        recurrence: str = "dense",
        weight_format: str = "f32",
        memory: str = "save",
        resets: str | None = None,
        reverse: bool = False,
        seed: int | None = None,
    ) -> None:
        if reset_before and layer_norm:
            raise UnsupportedError("not supported: reset_before with layer_norm: there is no such cell; choose one of them")
        super().__init__(
            "gru-reset-before" if reset_before else "gru-layer-norm" if layer_norm else "gru",
            input_size,
            hidden_size,
            device=device,
            dtype=dtype,
            seed=seed,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=0,
            zoneout=zoneout,
            input_dropout=input_dropout,
            recurrent_dropout=recurrent_dropout,
            clip=clip,
            cell_clip=None,
            input_forget=False,
            recurrence=recurrence,
            weight_format=weight_format,
            memory=memory,
            resets=resets,
            reverse=reverse,
        )


class RNN(_OneState):
    __doc__ = "``torch.nn.RNN`` over NumPy arrays: ``y, hn = rnn(x, h0)``.\n" + _OPTIONS.format(
        proj="",
        nonlinearity=', ``nonlinearity`` (``"tanh"`` or ``"relu"``)',
        cells='``recurrence="diagonal"`` with relu is IndRNN.',
        zone="",
        lstm="",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool | str = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: str = "auto",
        dtype: Any = np.float32,
        *,
        zoneout: float = 0.0,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        clip: float | None = None,
        recurrence: str = "dense",
        weight_format: str = "f32",
        memory: str = "save",
        resets: str | None = None,
        reverse: bool = False,
        seed: int | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            error = MismatchError(f"nonlinearity: expected tanh or relu, got {nonlinearity!r}")
            error.what, error.expected, error.got = "nonlinearity", "tanh or relu", repr(nonlinearity)
            raise error
        super().__init__(
            f"rnn-{nonlinearity}",
            input_size,
            hidden_size,
            device=device,
            dtype=dtype,
            seed=seed,
            num_layers=num_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            proj_size=0,
            zoneout=zoneout,
            input_dropout=input_dropout,
            recurrent_dropout=recurrent_dropout,
            clip=clip,
            cell_clip=None,
            input_forget=False,
            recurrence=recurrence,
            weight_format=weight_format,
            memory=memory,
            resets=resets,
            reverse=reverse,
        )


def _pair(hx: Any) -> tuple[Any, Any]:
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        got = f"{len(hx)} values" if isinstance(hx, (tuple, list)) else type(hx).__name__
        raise mismatch("hx", "the pair (h0, c0)", got)
    return hx[0], hx[1]
