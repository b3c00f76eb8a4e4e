"""Writes the .pt files of this folder: every container that torch.save has made, without torch.

torch itself is 900 MB; what it writes is a pickle (of protocol 2) and raw numbers, in an order that torch/serialization.py of torch
2.15.0 and, for the old containers, of torch 1.5.0 and 0.1.9 says. `expected.npz` has the same tensors as plain arrays.

python generate.py    (Python 3.11, numpy 2.4)
"""

import collections
import io
import os
import pickle
import struct
import sys
import tarfile
import types
import zipfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
DTYPES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
}
SIZES = {"FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8}


# What pickles name: a module `torch` with the names alone.
def fake(name, **contents):
    module = types.ModuleType(name)
    for key, value in contents.items():
        value.__module__, value.__qualname__, value.__name__ = name, key, key
        setattr(module, key, value)
    sys.modules[name] = module
    return module


def named_function():
    def function(*_):
        raise NotImplementedError

    return function


torch = fake("torch", **{name: type(name, (), {}) for name in DTYPES.values()})
torch._utils = fake("torch._utils", _rebuild_tensor_v2=named_function(), _rebuild_parameter=named_function())


class Storage:
    """Numbers in a row, as raw bytes."""

    def __init__(self, kind, data):
        self.kind, self.data = kind, data
        self.count = len(data) // SIZES[kind]


class Tensor:
    """A view of a storage."""

    def __init__(self, storage, offset, shape, stride):
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    def __reduce__(self):
        arguments = (self.storage, self.offset, self.shape, self.stride, False, collections.OrderedDict())
        return torch._utils._rebuild_tensor_v2, arguments


class Parameter:
    """torch.nn.Parameter of a tensor."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        return torch._utils._rebuild_parameter, (self.data, True, collections.OrderedDict())


def strides(shape):
    return [int(np.prod(shape[n + 1 :])) for n in range(len(shape))]


def tensor(array):
    """An array with a storage of its own."""
    return Tensor(Storage(DTYPES[array.dtype.name], array.tobytes()), 0, array.shape, strides(array.shape))


def bf16(array):
    """f32 values that bf16 holds, as such a tensor."""
    bits = (array.view(np.uint32) >> 16).astype(np.uint16)
    return Tensor(Storage("BFloat16Storage", bits.tobytes()), 0, array.shape, strides(array.shape))


class Pickler(pickle.Pickler):
    """Protocol 2; storages by persistent ids."""

    def __init__(self, out, view=()):
        super().__init__(out, protocol=2)
        self.keys, self.storages, self.view = {}, [], view

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        if id(value) not in self.keys:
            self.keys[id(value)] = str(len(self.storages))
            self.storages.append(value)
        return ("storage", getattr(torch, value.kind), self.keys[id(value)], "cpu", value.count, *self.view)


def save_zip(name, value, root="archive"):
    """torch 1.6 and later."""
    out = io.BytesIO()
    pickler = Pickler(out)
    pickler.dump(value)
    with zipfile.ZipFile(os.path.join(HERE, name), "w", zipfile.ZIP_STORED) as archive:
        def write(entry, data):
            archive.writestr(zipfile.ZipInfo(f"{root}/{entry}", (1980, 1, 1, 0, 0, 0)), data)

        write("data.pkl", out.getvalue())
        write(".format_version", b"1")
        write(".storage_alignment", b"64")
        write("byteorder", b"little")
        for key, storage in enumerate(pickler.storages):
            write(f"data/{key}", storage.data)
        write("version", b"3\n")


SYS_INFO = dict(protocol_version=1001, little_endian=True, type_sizes=dict(short=2, int=4, long=4))


def save_legacy(name, value):
    """torch 0.1.10 to 1.5: pickles one after the other, then storages."""
    out = io.BytesIO()
    pickle.dump(0x1950A86A20F9469CFC6C, out, protocol=2)
    pickle.dump(1001, out, protocol=2)
    pickle.dump(SYS_INFO, out, protocol=2)
    pickler = Pickler(out, view=(None,))
    pickler.dump(value)
    pickle.dump([str(key) for key in range(len(pickler.storages))], out, protocol=2)
    for storage in pickler.storages:
        out.write(struct.pack("<q", storage.count) + storage.data)
    with open(os.path.join(HERE, name), "wb") as file:
        file.write(out.getvalue())


def save_tar(name, value):
    """Before torch 0.1.10: a tar archive of tables; the pickle names tensors by numbers."""
    tensors, storages = [], []

    class Old(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Tensor):
                return None
            tensors.append(value)
            if value.storage not in storages:
                storages.append(value.storage)
            return str(1000 + len(tensors))

    main, tables = io.BytesIO(), {"sys_info": io.BytesIO(), "storages": io.BytesIO(), "tensors": io.BytesIO()}
    Old(main, protocol=2).dump(value)
    pickle.dump(SYS_INFO, tables["sys_info"], protocol=2)
    pickle.dump(len(storages), tables["storages"], protocol=2)
    for n, storage in enumerate(storages):
        pickle.dump((n, "cpu", getattr(torch, storage.kind)), tables["storages"], protocol=2)
        tables["storages"].write(struct.pack("<q", storage.count) + storage.data)
    pickle.dump([], tables["storages"], protocol=2)
    pickle.dump(len(tensors), tables["tensors"], protocol=2)
    for n, one in enumerate(tensors):
        pickle.dump((1001 + n, storages.index(one.storage), getattr(torch, one.storage.kind)), tables["tensors"], protocol=2)
        numbers = [*one.shape, *one.stride, one.offset]
        tables["tensors"].write(struct.pack(f"<ii{len(numbers)}q", len(one.shape), 0, *numbers))
    with tarfile.open(os.path.join(HERE, name), "w", format=tarfile.USTAR_FORMAT) as archive:
        for entry, data in [*tables.items(), ("pickle", main)]:
            info = tarfile.TarInfo(entry)
            info.size = len(data.getvalue())
            archive.addfile(info, io.BytesIO(data.getvalue()))


def gru(random, inputs, hidden, layers, suffixes=("",)):
    """The arrays of an nn.GRU."""
    arrays = {}
    for layer in range(layers):
        for suffix in suffixes:
            columns = inputs if layer == 0 else hidden * len(suffixes)
            shapes = dict(weight_ih=(3 * hidden, columns), weight_hh=(3 * hidden, hidden), bias_ih=(3 * hidden,), bias_hh=(3 * hidden,))
            for name, shape in shapes.items():
                arrays[f"{name}_l{layer}{suffix}"] = random.uniform(-0.5, 0.5, shape).astype(np.float32)
    return arrays


def flattened(arrays):
    """One storage for all, as nn.RNNBase.flatten_parameters makes it."""
    storage = Storage("FloatStorage", b"".join(array.tobytes() for array in arrays.values()))
    views, offset = {}, 0
    for name, array in arrays.items():
        views[name] = Tensor(storage, offset, array.shape, strides(array.shape))
        offset += array.size
    return views


class Module:
    """An nn.Module, by its __dict__."""

    def __init__(self, parameters, modules, buffers=()):
        self.training = False
        self._parameters = collections.OrderedDict((k, v and Parameter(v)) for k, v in parameters)
        self._buffers = collections.OrderedDict(buffers)
        self._non_persistent_buffers_set = set()
        self._backward_hooks = collections.OrderedDict()
        self._modules = collections.OrderedDict(modules)


class GRU(Module):
    pass


class Net(Module):
    pass


GRU.__module__, GRU.__qualname__ = "torch.nn.modules.rnn", "GRU"
fake("torch.nn.modules.rnn").GRU = GRU


def main():
    random = np.random.default_rng(16)
    layer = gru(random, 3, 4, 2, ("", "_reverse"))
    table = random.uniform(-1, 1, (5, 3)).astype(np.float32)
    square = random.uniform(-1, 1, (4, 6)).astype(np.float32)
    half = random.uniform(-1, 1, (2, 3)).astype(np.float16)
    brain = (random.uniform(-1, 1, 7).astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
    double = random.uniform(-1, 1, (2, 2))
    whole = np.array([3, -4, 5])
    step = np.array(26000)

    def state(rnn):
        shared = tensor(square)
        return collections.OrderedDict(
            [
                ("embed.weight", tensor(table)),
                *[(f"rnn.{name}", view) for name, view in rnn.items()],
                # A transpose, a part with an offset, one row for many: views of one storage.
                ("view.transposed", Tensor(shared.storage, 0, (6, 4), (1, 6))),
                ("view.columns", Tensor(shared.storage, 2, (4, 3), (6, 1))),
                ("view.expanded", Tensor(shared.storage, 6, (3, 6), (0, 1))),
                ("half", tensor(half)),
                ("brain", bf16(brain)),
                ("double", tensor(double)),
                ("whole", tensor(whole)),
                ("step", tensor(step)),
                ("nothing", tensor(np.zeros((0, 3), np.float32))),
            ]
        )

    nested = {"epoch": 3, "args": {"lr": 0.1, "name": "é"}, "state_dict": state(flattened(layer))}
    save_zip("zip.pt", nested)
    save_legacy("legacy.pt", nested)
    save_tar("tar.pt", state({name: tensor(array) for name, array in layer.items()}))
    rnn = GRU([(name, view) for name, view in flattened(layer).items()], [])
    rnn.hidden_size, rnn.mode = 4, "GRU"
    embed = Module([("weight", tensor(table))], [])
    save_zip("module.pt", Net([("nothing", None)], [("embed", embed), ("rnn", rnn)], [("step", tensor(step))]), root="net")

    arrays = {f"rnn.{name}": array for name, array in layer.items()}
    arrays |= {"embed.weight": table, "view.transposed": np.ascontiguousarray(square.T)}
    arrays |= {"view.columns": np.ascontiguousarray(square[:, 2:5]), "view.expanded": np.stack([square[1]] * 3)}
    arrays |= {"half": half, "brain": brain, "double": double, "whole": whole, "step": step}
    np.savez_compressed(os.path.join(HERE, "expected.npz"), **arrays, nothing=np.zeros((0, 3), np.float32))


if __name__ == "__main__":
    main()
