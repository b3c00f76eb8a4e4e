"""Recurrent layers with PyTorch's names that run and train on every GPU (Vulkan, Metal, DX12), and on the CPU.

>>> import numpy as np, wgpu_rnn
>>> lstm = wgpu_rnn.LSTM(3, 5, seed=1)
>>> y, (hn, cn) = lstm(np.zeros((4, 2, 3), np.float32))
>>> y.shape, hn.shape, cn.shape
((4, 2, 5), (1, 2, 5), (1, 2, 5))
>>> lstm.backward(dy=np.ones_like(y)).params["weight_ih_l0"].shape
(20, 3)

:mod:`wgpu_rnn.torch` has the same as modules of PyTorch.
"""

from __future__ import annotations

from importlib.metadata import version as _version

from . import errors
from ._devices import Device, devices
from .errors import Error
from .files import LayerFile, Model, inspect, load
from .layers import GRU, LSTM, RNN, Gradients, Layer
from .network import History, Network, Value
from .streams import Stream, StreamPool, Tick

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Device",
    "Error",
    "Gradients",
    "History",
    "Layer",
    "LayerFile",
    "Model",
    "Network",
    "Stream",
    "StreamPool",
    "Tick",
    "Value",
    "devices",
    "errors",
    "inspect",
    "load",
]

__version__ = _version("wgpu-rnn")
