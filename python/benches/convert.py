"""`wgpu_rnn.torch.convert` on a whole model, against torch on the CPU: embedding, 2-layer bidirectional LSTM of 128, linear; B = 16,
ragged T up to 100; and a step of `wgpu_rnn.Network.fit` on the same model. `python python/benches/convert.py [ROUNDS]` where torch is
installed.

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
from wgpu_rnn import _core


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


def network(theirs: Tagger) -> wgpu_rnn.Network:
    """The same model with the same parameters, which trains on the device."""
    net = wgpu_rnn.Network("cpu", seed=1)
    x = net.embedding("embed", net.input("ids", 1), *theirs.embed.weight.shape)
    logits = net.linear("head", net.lstm("lstm", x, 128, 2, bidirectional=True), 20)
    net.output("logits", logits)
    net.loss(logits, net.input("label", 1), "cross_entropy")
    net.load_state_dict(theirs.state_dict())
    return net


def main(rounds: int = 30) -> None:
    torch.manual_seed(1)
    theirs = Tagger()
    ours = wgpu_rnn.torch.convert(copy.deepcopy(theirs), "cpu")
    models = {"torch": theirs, "wgpu_rnn": ours}
    optimisers = {name: torch.optim.Adam(model.parameters()) for name, model in models.items()}
    lengths = torch.randint(10, 101, (8, 16))
    batches = [(torch.randint(1000, (16, int(of.max()))), of) for of in lengths]

    # Time-major, and all of one shape: as `fit` fills them.
    net, fits, bound = network(theirs), [], (100, 16)
    for ids, of in batches:
        arrays = {"ids": ids.T[..., None].numpy(), "label": (ids.T[..., None] % 20).numpy()}
        arrays = {key: value.astype("float32") for key, value in arrays.items()}
        fits.append(net._filled(arrays, of.tolist(), (ids.shape[1], 16), bound))
    trainer = _core.Trainer(net._finished(), "cpu", bound, ("adam", 0.0), None, "save", net._values(), 0)

    def fit(n: int) -> None:
        trainer.step(*fits[n % len(fits)], 1e-3)
        trainer.loss()

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
        runs = {name: lambda n, name=name, run=run: run(name, *batches[n % len(batches)]) for name in models}
        runs |= {"fit": fit} if what == "training step" else {}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for n in range(rounds + 3):
            for name, one in runs.items():
                start = time.perf_counter()
                one(n)
                if n >= 3:
                    times[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(of) * 1e3 for name, of in times.items()}
        for name in list(runs)[1:]:
            ratio = medians[name] / medians["torch"]
            print(f"{what:14} torch {medians['torch']:7.2f} ms, {name:8} {medians[name]:7.2f} ms: ratio {ratio:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
