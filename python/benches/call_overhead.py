"""What a call takes: an LSTM of 64 units over one step of one sequence, through Python. `python python/benches/call_overhead.py`

Prints the medians of blocks of 1000 calls, and what torch takes for the same where it is installed.
"""

from __future__ import annotations

import platform
import statistics
import time

import numpy as np

import wgpu_rnn


def cpu() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def median_us(call, blocks: int = 31, calls: int = 1000) -> float:
    """The median of blocks, in microseconds a call."""
    call()
    times = []
    for _ in range(blocks):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - start) / calls * 1e6)
    return statistics.median(times)


def main() -> None:
    print(cpu())
    x = np.random.default_rng(1).standard_normal((1, 1, 64)).astype(np.float32)
    h, c = np.zeros((1, 1, 64), np.float32), np.zeros((1, 1, 64), np.float32)
    lstm = wgpu_rnn.LSTM(64, 64, device="cpu", seed=1).eval()
    print(f"wgpu_rnn  inference             {median_us(lambda: lstm(x)):6.1f} us")
    print(f"wgpu_rnn  inference from a state {median_us(lambda: lstm(x, (h, c))):5.1f} us")
    lstm.train()
    print(f"wgpu_rnn  training, forward     {median_us(lambda: lstm(x)):6.1f} us")
    try:
        import torch
    except ImportError:
        return
    module, tensor, states = torch.nn.LSTM(64, 64).eval(), torch.from_numpy(x), (torch.from_numpy(h), torch.from_numpy(c))
    with torch.inference_mode():
        print(f"torch {torch.__version__}  inference   {median_us(lambda: module(tensor), calls=200):6.1f} us")
        print(f"torch {torch.__version__}  from a state {median_us(lambda: module(tensor, states), calls=200):5.1f} us")


if __name__ == "__main__":
    main()
