"""Writes the files of this folder: a recurrent layer of each class of MLX, Flax and equinox, saved as people save it, with an input
`case.x` [T, I] and the output `case.y` [T, H] that the class itself gives.

python generate.py    (Python 3.11; mlx 0.32.4, flax 0.12.8, equinox 0.13.8, jax, safetensors, numpy)
"""

import os

import equinox
import jax
import jax.numpy as jnp
import mlx.core as mx
import mlx.nn
import mlx.utils
import numpy as np
from flax import linen, nnx, traverse_util
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
I, H, T = 3, 4, 5
jax.config.update("jax_enable_x64", True)
random = np.random.default_rng(7)
x = random.uniform(-1, 1, (T, I)).astype(np.float32)


def values(shape):
    return random.uniform(-0.9, 0.9, shape).astype(np.float32)


def save(name, tensors, y, write=save_file):
    tensors = {key: np.ascontiguousarray(value, dtype=np.float32) for key, value in tensors.items()}
    write({**tensors, "case.x": x, "case.y": np.asarray(y, dtype=np.float32).reshape(T, H)}, os.path.join(HERE, name))


def save_npz(tensors, path):
    np.savez(path, **tensors)


def of_mlx(name, layer):
    named = mlx.utils.tree_flatten(layer.parameters())
    layer.load_weights([(key, mx.array(values(value.shape))) for key, value in named])
    y = layer(mx.array(x))
    y = y[0] if isinstance(y, tuple) else y
    save(name, {f"encoder.{key}": np.array(value) for key, value in mlx.utils.tree_flatten(layer.parameters())}, y)


def of_linen(name, cell, separator=".", write=save_file):
    layer = linen.RNN(cell)
    variables = layer.init(jax.random.key(0), x)
    variables = jax.tree.map(lambda value: values(value.shape), variables)
    y = layer.apply(variables, x)
    save(name, traverse_util.flatten_dict(variables, sep=separator), y, write)


def of_nnx(name, cell):
    layer = nnx.RNN(cell, rngs=nnx.Rngs(0))
    graph, state, rest = nnx.split(layer, nnx.Param, ...)
    state = jax.tree.map(lambda value: jnp.asarray(values(value.shape)), state)
    y = nnx.merge(graph, state, rest)(x)
    flat = traverse_util.flatten_dict(nnx.to_pure_dict(state), sep=".")
    save(name, flat, y)


def of_equinox(name, cell, states):
    arrays, static = equinox.partition(cell, equinox.is_array)
    arrays = jax.tree.map(lambda value: jnp.asarray(values(value.shape)), arrays)
    cell, state, y = equinox.combine(arrays, static), states, []
    for row in x:
        state = cell(row, state)
        y.append(state[0] if isinstance(state, tuple) else state)
    leaves = {f"model.cell.{key}": value for key, value in vars(cell).items() if equinox.is_array(value)}
    save(name, leaves, np.stack(y))


def main():
    of_mlx("mlx_lstm.safetensors", mlx.nn.LSTM(I, H))
    of_mlx("mlx_gru.safetensors", mlx.nn.GRU(I, H))
    of_mlx("mlx_rnn.safetensors", mlx.nn.RNN(I, H))
    of_linen("linen_lstm.safetensors", linen.LSTMCell(H))
    of_linen("linen_gru.npz", linen.GRUCell(H), "/", save_npz)
    of_linen("linen_simple.safetensors", linen.SimpleCell(H))
    rngs = nnx.Rngs(0)
    of_nnx("nnx_lstm.safetensors", nnx.LSTMCell(I, H, rngs=rngs))
    of_nnx("nnx_optimized_lstm.safetensors", nnx.OptimizedLSTMCell(I, H, rngs=rngs))
    of_nnx("nnx_gru.safetensors", nnx.GRUCell(I, H, rngs=rngs))
    of_nnx("nnx_simple.safetensors", nnx.SimpleCell(I, H, rngs=rngs))
    zeros = jnp.zeros(H)
    of_equinox("equinox_lstm.safetensors", equinox.nn.LSTMCell(I, H, key=jax.random.key(0)), (zeros, zeros))
    of_equinox("equinox_gru.safetensors", equinox.nn.GRUCell(I, H, key=jax.random.key(0)), zeros)


if __name__ == "__main__":
    main()
