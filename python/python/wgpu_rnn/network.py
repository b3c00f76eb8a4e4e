"""Networks around recurrent layers, trained on the device: embeddings, heads, losses per step and per sequence, optimisers."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import _core
from ._arrays import Array, array_of, mismatch
from .errors import MismatchError, OrderError
from .files import _number
from .layers import wish_of

__all__ = ["History", "Network", "Value"]

Batch = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a network: ``[T, B, width]``, or ``[B, width]`` of a value per sequence."""

    name: str
    width: int
    at: int
    """Which operation has made it."""
    wish: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    """Of a stack of layers, what it is."""


@dataclass(slots=True)
class History:
    """What :meth:`Network.fit` has seen, an entry per epoch."""

    loss: list[float] = field(default_factory=list)
    """The mean over the batches, each before its update."""
    validation: list[float] = field(default_factory=list)
    """The mean over the batches of the validation, where there is one."""
    stopped: bool = False
    """Whether ``patience`` or a callback has ended it."""


class Network:
    """Operations over values, built one by one, then trained (:meth:`fit`) and run (:meth:`predict`).

    >>> import numpy as np
    >>> net = Network(seed=1)
    >>> ids = net.input("ids", 1)
    >>> y = net.lstm("lstm", net.embedding("embed", ids, 10, 8), 16, bidirectional=True)
    >>> logits = net.linear("head", net.last_of("last", y), 2)
    >>> net.output("logits", logits)
    >>> net.loss(logits, net.sequence_input("label", 1), "cross_entropy")
    >>> batch = {"ids": np.array([[1, 2], [3, 4], [5, 0]]), "label": np.array([0, 1]), "lengths": [3, 2]}
    >>> history = net.fit([batch], epochs=30, lr=0.05, progress=False)
    >>> history.loss[-1] < 0.1 * history.loss[0]
    True
    >>> net.predict({"ids": batch["ids"]}, lengths=[3, 2])["logits"].argmax(axis=1)
    array([0, 1])

    ``device``: as a layer's. ``seed``: of the first parameters and of dropout's masks; drawn without it. Names are those of parameters:
    a ``linear`` called ``head`` has ``head.weight`` and ``head.bias``, an ``lstm`` called ``lstm`` has ``lstm.weight_ih_l0``: PyTorch's.

    Every operation raises :class:`~wgpu_rnn.errors.MismatchError` for a name that is taken, or values that do not fit;
    :class:`~wgpu_rnn.errors.OrderError` after the first :meth:`fit`, :meth:`predict` or look at a parameter, which finish the network.
    """

    def __init__(self, device: str = "auto", *, seed: int | None = None) -> None:
        self._device = device
        self._seed = secrets.randbits(63) if seed is None else int(seed)
        self._builder = _core.NetworkBuilder()
        # What was called, so that a network without losses can be built beside this one, to run: method, name, values, further arguments.
        self._calls: list[tuple[str, str, tuple[int, ...], tuple[Any, ...]]] = []
        self._made: list[Any] = []
        self._widths: dict[str, tuple[int, bool]] = {}
        self._network: _core.Network | None = None
        self._params: Array | None = None
        self._predictor: _core.Predictor | None = None

    # Operations

    def _add(self, method: str, name: str, values: tuple[Value, ...], more: tuple[Any, ...], wish: dict[str, Any] | None = None) -> Value:
        made = getattr(self._builder, method)(name, *(self._made[value.at] for value in values), *more)
        self._calls.append((method, name, tuple(value.at for value in values), more))
        self._made.append(made)
        return Value(name, made[2] if made else 0, len(self._made) - 1, wish)

    def input(self, name: str, width: int) -> Value:
        """A value per step, ``[T, B, width]``; token ids are one of width 1, and may be given as ``[T, B]``."""
        value = self._add("input", name, (), (width,))
        self._widths[name] = (width, True)
        return value

    def sequence_input(self, name: str, width: int) -> Value:
        """A value per sequence, ``[B, width]``; of width 1 it may be given as ``[B]``."""
        value = self._add("sequence_input", name, (), (width,))
        self._widths[name] = (width, False)
        return value

    def embedding(self, name: str, ids: Value, vocabulary: int, width: int) -> Value:
        """Rows of a table ``[vocabulary, width]`` by ids of an input of width 1."""
        return self._add("embedding", name, (ids,), (vocabulary, width))

    def linear(self, name: str, x: Value, size: int, bias: bool = True) -> Value:
        """``x @ weight.T + bias``, ``size`` columns."""
        return self._add("linear", name, (x,), (size, bias))

    def _layers(self, cell: str, name: str, x: Value, hidden_size: int, options: dict[str, Any]) -> Value:
        wish = wish_of(cell, x.width, hidden_size, **options)
        return self._add("layers", name, (x,), (wish,), wish)

    def lstm(self, name: str, x: Value, hidden_size: int, num_layers: int = 1, **options: Any) -> Value:
        """A stack of LSTM layers, with the options of :class:`wgpu_rnn.LSTM`; its y."""
        options = {"num_layers": num_layers} | options
        cell = "lstm-peephole" if options.pop("peepholes", False) else "lstm-layer-norm" if options.pop("layer_norm", False) else "lstm"
        return self._layers(cell, name, x, hidden_size, options)

    def gru(self, name: str, x: Value, hidden_size: int, num_layers: int = 1, **options: Any) -> Value:
        """A stack of GRU layers, with the options of :class:`wgpu_rnn.GRU`; its y."""
        options = {"num_layers": num_layers} | options
        cell = "gru-reset-before" if options.pop("reset_before", False) else "gru-layer-norm" if options.pop("layer_norm", False) else "gru"
        return self._layers(cell, name, x, hidden_size, options)

    def rnn(self, name: str, x: Value, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", **options: Any) -> Value:
        """A stack of vanilla layers, with the options of :class:`wgpu_rnn.RNN`; its y."""
        return self._layers(f"rnn-{nonlinearity}", name, x, hidden_size, {"num_layers": num_layers} | options)

    def last_of(self, name: str, y: Value) -> Value:
        """Where a stack has ended, per sequence: the last step of its y, and of a reverse direction the first. ``[B, D*H]``"""
        if y.wish is None:
            raise mismatch(f"last_of {name}", "the y of lstm, gru or rnn", f"the value {y.name}")
        return self._add("last_of", name, (y,), (y.wish,))

    def pool(self, name: str, x: Value, kind: str) -> Value:
        """A row per sequence: the ``"last"`` or ``"first"`` of its steps, their ``"mean"``, or per column the largest (``"max"``)."""
        return self._add("pool", name, (x,), (kind,))

    def norm(self, name: str, x: Value) -> Value:
        """A layer norm over the columns, with ``weight`` and ``bias`` (``torch.nn.LayerNorm``)."""
        return self._add("norm", name, (x,), ())

    def map(self, name: str, x: Value, function: str) -> Value:
        """``"relu"``, ``"tanh"``, ``"sigmoid"``, ``"silu"`` or ``"softplus"`` of every number."""
        return self._add("map", name, (x,), (function,))

    def concat(self, name: str, *parts: Value) -> Value:
        """Values side by side."""
        made = self._builder.concat(name, [self._made[part.at] for part in parts])
        self._calls.append(("concat", name, tuple(part.at for part in parts), ()))
        self._made.append(made)
        return Value(name, made[2], len(self._made) - 1)

    def loss(self, x: Value, targets: Value, kind: str, weights: Value | None = None) -> None:
        """How far a value is from its targets, an input: ``"cross_entropy"`` of logits and classes (width 1), or ``"mean_squared"``. A
        mean over all steps that there are (or all sequences), each with its weight where ``weights``, an input of width 1, is given.
        Several losses add up."""
        values = (x, targets) if weights is None else (x, targets, weights)
        name = f"loss of {x.name} and {targets.name}"
        made = [self._made[value.at] for value in values]
        self._builder.loss(name, made[0], made[1], made[2] if weights is not None else None, kind)
        self._calls.append(("loss", name, tuple(value.at for value in values), (kind,)))
        self._made.append(None)

    def output(self, name: str, x: Value) -> None:
        """Names a value that :meth:`predict` gives."""
        self._builder.output(name, self._made[x.at])
        self._calls.append(("output", name, (x.at,), ()))
        self._made.append(None)

    # Parameters

    def _finished(self) -> _core.Network:
        if self._network is None:
            self._network = self._builder.finish()
        return self._network

    def _values(self) -> Array:
        if self._params is None:
            self._params = self._finished().random(self._seed)
        return self._params

    def _set(self, params: Array) -> None:
        self._params, self._predictor = params, None

    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter by its name."""
        params, at, found = self._values(), 0, {}
        for name, shape in self._finished().parameters():
            size = int(np.prod(shape))
            found[name] = params[at : at + size].reshape(shape).copy()
            at += size
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes every parameter by its name: NumPy arrays, or tensors in the CPU's memory.

        Raises :class:`~wgpu_rnn.errors.MismatchError` for one that is missing, unknown or of another shape; nothing has changed then.
        """
        wanted = dict(self._finished().parameters())
        if set(wanted) != set(state_dict):
            missing, left = sorted(set(wanted) - set(state_dict)), sorted(set(state_dict) - set(wanted))
            raise MismatchError(f"state_dict: expected {', '.join(wanted)}, got none of {missing} and beside them {left}")
        values = []
        for name, shape in wanted.items():
            value = array_of(name, state_dict[name])
            if list(value.shape) != shape or value.dtype.kind != "f":
                raise mismatch(name, f"floating-point values {shape}", f"{value.dtype} {list(value.shape)}")
            values.append(np.ascontiguousarray(value, np.float32).ravel())
        self._set(np.concatenate(values))

    # Runs

    def _array(self, name: str, value: Any) -> Array:
        width, steps = self._widths[name]
        array = _number(name, array_of(name, value))
        if width == 1 and array.ndim == (2 if steps else 1):
            array = array[..., None]
        expected = f"[{'T, B' if steps else 'B'}, {width}]"
        if array.ndim != (3 if steps else 2) or array.shape[-1] != width:
            raise mismatch(name, expected, str(list(array.shape)))
        return array

    def _batch(self, batch: Batch, names: Sequence[str]) -> tuple[dict[str, Array], list[int], tuple[int, int]]:
        """Arrays, lengths, and T and B."""
        missing = [name for name in names if name not in batch]
        unknown = [name for name in batch if name not in names and name != "lengths"]
        if missing or unknown:
            raise mismatch("batch", ", ".join([*names, "lengths"]), ", ".join(batch))
        arrays = {name: self._array(name, batch[name]) for name in names}
        shapes = [array.shape[:2] if self._widths[name][1] else (None, array.shape[0]) for name, array in arrays.items()]
        times, sizes = {time for time, _ in shapes if time is not None}, {size for _, size in shapes}
        if len(times) > 1 or len(sizes) != 1:
            raise mismatch("batch", "one T and one B", ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items()))
        time, size = int(max(times, default=1)), int(sizes.pop())
        lengths = batch.get("lengths")
        lengths = [time] * size if lengths is None else [int(length) for length in np.asarray(lengths).tolist()]
        return arrays, lengths, (time, size)

    def fit(
        self,
        batches: Iterable[Batch],
        *,
        optimiser: str = "adam",
        lr: float | Callable[[int], float] = 1e-3,
        epochs: int = 1,
        momentum: float = 0.0,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
        memory: str = "save",
        validation: Iterable[Batch] | None = None,
        patience: int | None = None,
        callbacks: Sequence[Callable[[int, History], bool | None]] = (),
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: bool = True,
    ) -> History:
        """Trains on the device: forward, backward and update run there, and per step one number comes back, the loss.

        ``batches``: dictionaries with every input by its name, targets included, and ``"lengths"`` (all T without them), gone through in
        their order in every epoch; T and B may differ. ``optimiser``: ``"sgd"`` with ``momentum``, ``"adam"``, or ``"adamw"`` with
        ``weight_decay``. ``lr``: a number, or a function of the number of the step, from 0. ``clip_norm``: of the gradient of all
        parameters together. ``memory``: as a layer's. ``validation``: batches whose loss is computed after every epoch, in evaluation.
        ``patience``: ends after so many epochs in which the loss (the validation's, where there is one) was not the lowest, and goes
        back to the parameters of the lowest. ``callbacks``: called with the number of the epoch and the history; one that returns true
        ends it. ``checkpoint``: a ``.npz`` file that is written after every epoch; ``resume`` goes on from it, with its parameters and
        epochs. The optimiser's moments are not kept: they start anew. ``progress``: a line per epoch on stderr.

        Raises :class:`~wgpu_rnn.errors.OrderError` for a network without a loss, and :class:`~wgpu_rnn.errors.MismatchError` for batches
        that do not fit.
        """
        if not any(method == "loss" for method, *_ in self._calls):
            raise OrderError("fit: expected a network with a loss, got none")
        names = list(self._widths)
        train = [self._batch(batch, names) for batch in batches]
        held = None if validation is None else [self._batch(batch, names) for batch in validation]
        if not train or held is not None and not held:
            raise mismatch("batches", "at least one", "none")
        shapes = [shape for _, _, shape in [*train, *(held or [])]]
        # One session for all of them: what is missing of a batch is sequences of no steps.
        bound = (max(time for time, _ in shapes), max(size for _, size in shapes))
        filled = [self._filled(*batch, bound) for batch in train]
        held_filled = None if held is None else [self._filled(*batch, bound) for batch in held]
        history, first = History(), 0
        if resume:
            history, first = self._resumed(checkpoint)
        numbers = {"sgd": momentum, "adamw": weight_decay}
        trainer = _core.Trainer(
            self._finished(),
            self._device,
            bound,
            (optimiser, numbers.get(optimiser, 0.0)),
            clip_norm,
            memory,
            self._values(),
            self._seed & (2**64 - 1),
        )
        best, since, kept = np.inf, 0, None
        for epoch in range(first, epochs):
            losses = []
            for n, (inputs, lengths) in enumerate(filled):
                rate = lr(epoch * len(filled) + n) if callable(lr) else lr
                trainer.step(inputs, lengths, float(rate))
                losses.append(trainer.loss())
            history.loss.append(float(np.mean(losses)))
            if held_filled is not None:
                history.validation.append(float(np.mean([trainer.evaluate(inputs, lengths) for inputs, lengths in held_filled])))
            self._set(trainer.params())
            if checkpoint is not None:
                self._keep(checkpoint, epoch + 1, history)
            watched = (history.validation or history.loss)[-1]
            if progress:
                held_text = f", validation {history.validation[-1]:.6g}" if history.validation else ""
                print(f"epoch {epoch + 1}/{epochs}: loss {history.loss[-1]:.6g}{held_text}", file=sys.stderr)
            if watched < best:
                best, since, kept = watched, 0, self._values().copy()
            else:
                since += 1
            asked = [callback(epoch, history) for callback in callbacks]
            if any(asked) or patience is not None and since >= patience:
                history.stopped = True
                break
        if patience is not None and kept is not None:
            self._set(kept)
        return history

    def _filled(
        self, arrays: dict[str, Array], lengths: list[int], shape: tuple[int, int], bound: tuple[int, int]
    ) -> tuple[dict[str, Array], list[int]]:
        """A batch as large as the session."""
        if len(lengths) != shape[1] or any(not 0 <= length <= shape[0] for length in lengths):
            raise mismatch("lengths", f"{shape[1]} numbers in 0..={shape[0]}", str(lengths))
        if shape == bound:
            return arrays, lengths
        all_of = {}
        for name, array in arrays.items():
            outer = bound if self._widths[name][1] else bound[1:]
            all_of[name] = np.zeros((*outer, array.shape[-1]), np.float32)
            all_of[name][tuple(slice(0, size) for size in array.shape)] = array
        return all_of, lengths + [0] * (bound[1] - shape[1])

    def _keep(self, path: str | os.PathLike[str], epoch: int, history: History) -> None:
        """Writes a checkpoint beside the place, then puts it there: there is always a whole one."""
        values: dict[str, Any] = {f"parameter {name}": value for name, value in self.state_dict().items()}
        values |= {"epoch": np.int64(epoch), "loss": np.array(history.loss), "validation": np.array(history.validation)}
        part = f"{os.fspath(path)}.part"
        with open(part, "wb") as file:
            np.savez(file, **values)
        os.replace(part, path)

    def _resumed(self, path: str | os.PathLike[str] | None) -> tuple[History, int]:
        if path is None:
            raise mismatch("resume", "a checkpoint", "none")
        with np.load(path, allow_pickle=False) as file:
            self.load_state_dict({name.removeprefix("parameter "): file[name] for name in file.files if name.startswith("parameter ")})
            return History(file["loss"].tolist(), file["validation"].tolist()), int(file["epoch"])

    def evaluate(self, batches: Iterable[Batch]) -> float:
        """The mean loss of batches, in evaluation."""
        names = list(self._widths)
        losses = []
        for batch in batches:
            arrays, lengths, shape = self._batch(batch, names)
            trainer = _core.Trainer(self._finished(), self._device, shape, ("sgd", 0.0), None, "save", self._values(), 0)
            losses.append(trainer.evaluate(*self._filled(arrays, lengths, shape, shape)))
        return float(np.mean(losses))

    def predict(self, inputs: Batch, lengths: Any = None) -> dict[str, Array]:
        """Runs it in evaluation: every output by its name, of every input that outputs need (no targets). T and B may be others at every
        call.

        Raises :class:`~wgpu_rnn.errors.MismatchError` for inputs that are missing, unknown or of other shapes.
        """
        if self._predictor is None:
            self._predictor = self._serving()
        arrays = {}
        for name, value in inputs.items():
            if name not in self._widths:
                raise mismatch("inputs", ", ".join(self._widths), name)
            arrays[name] = self._array(name, value)
        return self._predictor.run(arrays, lengths)

    def _serving(self) -> _core.Predictor:
        """The network without losses, and without inputs that only they read."""
        self._finished()
        needed = set()
        for at in reversed(range(len(self._calls))):
            method, _, values, _ = self._calls[at]
            if method != "loss" and (method == "output" or at in needed):
                needed |= {at, *values}
        builder, made = _core.NetworkBuilder(), dict[int, Any]()
        for at, (method, name, values, more) in enumerate(self._calls):
            if at not in needed:
                continue
            of = [made[value] for value in values]
            made[at] = builder.concat(name, of) if method == "concat" else getattr(builder, method)(name, *of, *more)
        network = builder.finish()
        # By name: what only losses need is not there.
        state = self.state_dict()
        params = np.concatenate([state[name].ravel() for name, _ in network.parameters()])
        return _core.Predictor(network, self._device, params)

    # Copies

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name not in ("_builder", "_made", "_network", "_predictor")}
        return state | {"_params": None if self._network is None else self._values()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._builder, self._made, self._network, self._predictor = _core.NetworkBuilder(), [], None, None
        for method, name, values, more in self._calls:
            of = [self._made[value] for value in values]
            if method == "concat":
                self._made.append(self._builder.concat(name, of))
            elif method == "loss":
                self._builder.loss(name, of[0], of[1], of[2] if len(of) > 2 else None, *more)
                self._made.append(None)
            else:
                self._made.append(getattr(self._builder, method)(name, *of, *more))
        if self._params is not None:
            self._finished()
