"""A GPU, software rasterisers included, gives what the CPU executor does."""

import numpy as np
import pytest

import wgpu_rnn
from wgpu_rnn import errors

GPUS = [device for device in wgpu_rnn.devices() if device.name != "cpu"]
needs_gpu = pytest.mark.skipif(not GPUS, reason="no GPU adapter (scripts/setup.sh installs a software one)")


@needs_gpu
def test_a_gpu_gives_what_the_cpu_does(rng):
    cpu = wgpu_rnn.GRU(5, 8, bidirectional=True, device="cpu", seed=1)
    gpu = wgpu_rnn.GRU(5, 8, bidirectional=True, device="gpu:0")
    assert GPUS[0].description.split(" (")[0] in gpu.device
    gpu.load_state_dict(cpu.state_dict())
    x = rng.standard_normal((6, 3, 5)).astype(np.float32)
    results = []
    for layer in (cpu, gpu):
        y, hn = layer(x, lengths=[6, 2, 4])
        g = layer.backward(y, hn)
        inference, _ = layer.eval()(x, lengths=[6, 2, 4])
        results.append([y, hn, inference, g.x, g.h0, *g.params.values()])
    for a, b in zip(*results):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


@needs_gpu
def test_a_gpu_has_no_numbers_of_64_bits():
    with pytest.raises(errors.UnsupportedError, match="64-bit"):
        wgpu_rnn.LSTM(3, 5, device="gpu", dtype=np.float64)
