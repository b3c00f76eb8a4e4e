"""`wgpu_rnn.torch.convert` on a whole model, against torch on the CPU: embedding, 2-layer bidirectional LSTM of 128, linear; B = 16, ragged T up to
100. `python python/benches/convert.py [ROUNDS]` where torch is installed.

Both models run in turn, so that what else the machine does meets both; the figure is the ratio of the medians.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time

import torch
from call_overhead import cpu
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import wgpu_rnn.torch


class Tagger(torch.nn.Module):
    """Labels every token of a sentence."""

    def __init__(self, words: int = 1000, width: int = 128, labels: int = 20) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(words, width)
        self.lstm = torch.nn.LSTM(width, 128, 2, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(256, labels)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=ids.shape[1])
        return self.head(y)


def main(rounds: int = 30) -> None:
    torch.manual_seed(1)
    theirs = Tagger()
    ours = wgpu_rnn.torch.convert(copy.deepcopy(theirs), "cpu")
    models = {"torch": theirs, "wgpu_rnn": ours}
    optimisers = {name: torch.optim.Adam(model.parameters()) for name, model in models.items()}
    lengths = torch.randint(10, 101, (8, 16))
    batches = [(torch.randint(1000, (16, int(of.max()))), of) for of in lengths]

    def train(name: str, ids: torch.Tensor, of: torch.Tensor) -> None:
        optimisers[name].zero_grad()
        logits = models[name](ids, of)
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten() % 20).backward()
        optimisers[name].step()

    @torch.inference_mode()
    def infer(name: str, ids: torch.Tensor, of: torch.Tensor) -> None:
        models[name](ids, of)

    print(f"{cpu()}; torch {torch.__version__} on {torch.get_num_threads()} threads; {ours.lstm._wgpu_core(torch.float32).device()}")
    for what, run in (("training step", train), ("inference", infer)):
        for model in models.values():
            model.train(what == "training step")
        times: dict[str, list[float]] = {name: [] for name in models}
        for n in range(rounds + 3):
            for name in models:
                start = time.perf_counter()
                run(name, *batches[n % len(batches)])
                if n >= 3:
                    times[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(of) * 1e3 for name, of in times.items()}
        print(f"{what:14} torch {medians['torch']:7.2f} ms, wgpu_rnn {medians['wgpu_rnn']:7.2f} ms: ratio {medians['wgpu_rnn'] / medians['torch']:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
