"""An ONNX backend (``onnx.backend.base``): ONNX's own tests and tools run models here through it. It needs the package ``onnx``.

>>> import onnx, wgpu_rnn.onnx_backend as backend
>>> outputs = backend.prepare(onnx.load("model.onnx")).run([x])  # doctest: +SKIP

The device ``"CPU"`` is the CPU, ``"CUDA"`` any GPU, as ONNX has no other word for one. Values are computed in float32: inputs and
outputs of 16 bits are converted, others of 64 bits are refused unless they are whole numbers that float32 has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.backend.base import Backend as _Backend
from onnx.backend.base import BackendRep as _BackendRep

from .errors import MismatchError, UnsupportedError
from .files import Model

__all__ = ["Backend", "BackendRep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]

# Inputs of operators that are parameters here: constants of a network.
_PARAMETERS = {"RNN": (1, 2, 3), "GRU": (1, 2, 3), "LSTM": (1, 2, 3, 7), "CausalConvWithState": (1, 2), "Conv": (1, 2)}
_DEVICES = {"CPU": "cpu", "CUDA": "gpu"}


class BackendRep(_BackendRep):
    """A prepared model. Where a model takes weights as inputs, as ONNX's tests do, the first run makes them constants of the network; a
    run with other weights makes the network anew."""

    def __init__(self, model: onnx.ModelProto, device: str) -> None:
        constants = {tensor.name for tensor in model.graph.initializer}
        self._inputs = [value.name for value in model.graph.input if value.name not in constants]
        self._outputs = [(value.name, helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)) for value in model.graph.output]
        read = {node.input[n] for node in model.graph.node for n in _PARAMETERS.get(node.op_type, ()) if n < len(node.input)}
        self._weights = [name for name in self._inputs if name in read]
        self._proto, self._device = model, device
        self._values: list[np.ndarray[Any, Any]] = []
        self._model = None if self._weights else self._made([])

    def _made(self, values: list[np.ndarray[Any, Any]]) -> Model:
        model = onnx.ModelProto()
        model.CopyFrom(self._proto)
        kept = [value for value in model.graph.input if value.name not in self._weights]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in zip(self._weights, values))
        return Model("the model.onnx", self._device, data=model.SerializeToString())

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Every output in the model's order, of the inputs in theirs (or by name). Raises what :meth:`wgpu_rnn.Model.run` raises."""
        named = dict(inputs) if isinstance(inputs, dict) else dict(zip(self._inputs, inputs, strict=True))
        given = {name: np.asarray(value) for name, value in named.items()}
        values = [given.pop(name) for name in self._weights]
        same = len(values) == len(self._values) and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(values, self._values))
        if self._model is None or not same:
            self._model, self._values = self._made(values), [value.copy() for value in values]
        found = self._model.run({name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in given.items()})
        missing = [name for name, _ in self._outputs if name not in found]
        if missing:
            raise UnsupportedError(f"not supported: outputs {', '.join(missing)}: the network does not give them")
        return tuple(found[name].astype(dtype) for name, dtype in self._outputs)


class Backend(_Backend):
    """ONNX models, run by :mod:`wgpu_rnn`."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether it is ``CPU``, or ``CUDA`` and there is a real GPU."""
        from . import devices

        kind = device.split(":")[0]
        return kind == "CPU" or kind == "CUDA" and any(d.name != "cpu" and not d.software for d in devices())

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        """Reads a model. Raises :class:`wgpu_rnn.errors.Error` for what it cannot run."""
        super().prepare(model, device, **kwargs)
        kind = device.split(":")[0]
        if kind not in _DEVICES:
            raise MismatchError(f"device: expected CPU or CUDA, got {device!r}")
        return BackendRep(model, _DEVICES[kind])

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Sequence[Any], device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Runs a node alone, as a model of it. Outputs are float32 unless ``outputs_info`` says otherwise."""
        super().run_node(node, inputs, device, outputs_info, **kwargs)
        arrays = [np.asarray(value) for value in inputs]
        names = [name for name in node.input if name]
        infos = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in zip(names, arrays, strict=True)
        ]
        types = [np.dtype(np.float32)] * len(node.output) if outputs_info is None else [np.dtype(of[0]) for of in outputs_info]
        outs = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(t), None) for n, t in zip(node.output, types) if n]
        opset = helper.make_opsetid("", int(kwargs.get("opset_version", onnx.defs.onnx_opset_version())))
        model = helper.make_model(helper.make_graph([node], "node", infos, outs), opset_imports=[opset])
        return BackendRep(model, _DEVICES[device.split(":")[0]]).run(arrays)


prepare = Backend.prepare
run_node = Backend.run_node
run_model = Backend.run_model
supports_device = Backend.supports_device
is_compatible = Backend.is_compatible
