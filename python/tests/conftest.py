"""Where the recorded cases are, and how they are read: safetensors, in NumPy alone."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
TYPES = {"F64": np.float64, "F32": np.float32, "I64": np.int64}


def safetensors(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The metadata and the tensors of a file."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    values = data[8 + size :]
    tensors = {}
    for name, of in header.items():
        start, end = of["data_offsets"]
        tensors[name] = np.frombuffer(values[start:end], TYPES[of["dtype"]]).reshape(of["shape"])
    return metadata, tensors


@dataclass
class Golden:
    """A run of PyTorch in float64 (tests/data/make_torch_golden.py)."""

    name: str
    config: dict
    tensors: dict[str, np.ndarray]

    def get(self, name: str, dtype: type) -> np.ndarray | None:
        value = self.tensors.get(name)
        return None if value is None else value.astype(dtype)


def goldens() -> list[Golden]:
    found = []
    for path in sorted((DATA / "torch_golden").glob("*.safetensors")):
        metadata, tensors = safetensors(path)
        config = json.loads(metadata["config"])
        if config["kind"] in ("LSTM", "GRU", "RNN"):
            found.append(Golden(path.stem, config, tensors))
    return found


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
