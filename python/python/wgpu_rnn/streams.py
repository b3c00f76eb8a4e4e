"""Many live streams over one layer."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from . import _core
from ._arrays import Array, array_of
from .errors import OrderError
from .layers import Layer

__all__ = ["Stream", "StreamPool", "Tick"]


@dataclass(frozen=True, slots=True)
class Stream:
    """The name of a stream of a pool, for as long as it is open."""

    pool: int
    number: int


@dataclass(frozen=True, slots=True)
class Tick:
    """What a tick did."""

    streams: int
    """Streams that had their turn; 0 where nothing waited."""
    frames: int
    """Frames that were run, of all of them."""
    steps: int
    """Steps of the longest."""
    left: int
    """Streams with frames that still wait."""
    seconds: float
    """From its begin to its results."""


class StreamPool:
    """Live streams that come and go over one layer's weights, for inference.

    :meth:`open` gives a stream its name, :meth:`push` hands it frames (a step's input each, ``[I]`` or ``[frames, I]``), :meth:`tick`
    runs what waits of all streams as one batch, and :meth:`pull` takes a stream's results, one row per frame. In asyncio, ``await
    pool.step(stream, frame)`` does all of it: frames that come within ``max_delay`` share a tick. A stream's results have the same bits
    alone or among others.

    ``max_delay``: seconds that a frame may wait for others. ``max_batch``, ``max_steps``: streams of a tick, and frames of each, at most.
    ``frames``: that a stream may have waiting or not pulled. ``history``: steps that can be taken back, of whose states every
    ``every``-th is kept. ``bytes``: of all streams together. ``keep``: ticks after which a GPU's states are kept on the host, so that a
    lost GPU loses nothing: another device of the same adapter goes on with the same bits, or with ``on_cpu`` the CPU where there is none.

    The pool has the weights that the layer has now; the layer must read time forwards and compute in float32. Several threads may use a
    pool; they take turns.

    Raises :class:`~wgpu_rnn.errors.StreamError` for a stream that is not open, :class:`~wgpu_rnn.errors.StreamFullError` where there is
    no room for a frame; nothing has changed then.
    """

    def __init__(
        self,
        layer: Layer,
        *,
        max_delay: float = 0.005,
        max_batch: int = 1024,
        max_steps: int = 16,
        frames: int = 1024,
        history: int = 0,
        every: int = 16,
        bytes: int = 1 << 30,
        keep: int | None = None,
        on_cpu: bool = False,
    ) -> None:
        self._core = _core.Pool(layer._core, max_delay, max_batch, max_steps, frames, history, every, bytes, keep, on_cpu)
        self._waiting: dict[Stream, deque[asyncio.Future[Array]]] = {}
        self._ticker: asyncio.Task[None] | None = None

    def _number(self, stream: Stream) -> int:
        # Of another pool: a number that no stream has.
        return stream.number if stream.pool == id(self) else 0

    def open(self) -> Stream:
        """Opens a stream at the state of zeros."""
        return Stream(id(self), self._core.open())

    def fork(self, stream: Stream) -> Stream:
        """Another stream that goes on from where this one is, once its frames that wait have run."""
        return Stream(id(self), self._core.fork(self._number(stream)))

    def close(self, stream: Stream) -> None:
        """Closes a stream: what waits of it is not run, and what nobody has pulled is gone."""
        self._core.close(self._number(stream))
        for future in self._waiting.pop(stream, ()):
            future.cancel()

    def push(self, stream: Stream, frames: Any) -> None:
        """Hands a stream one frame ``[I]`` or several ``[frames, I]``."""
        self._core.push(self._number(stream), frames)

    def tick(self) -> Tick:
        """Runs what waits, as one batch."""
        return Tick(*self._core.tick())

    def pull(self, stream: Stream) -> Array:
        """Takes all results that a stream has, ``[frames, D*H]`` in the order of its frames."""
        return self._core.pull(self._number(stream))

    def due(self) -> float | None:
        """Seconds until a tick is due; ``None`` where nothing waits."""
        return self._core.due()

    def rollback(self, stream: Stream, steps: int) -> None:
        """Takes back the last frames of a stream, as far as ``history`` keeps them."""
        self._core.rollback(self._number(stream), steps)

    def reset(self, stream: Stream) -> None:
        """Sets a stream to the state of zeros, after the frames that it has waiting."""
        self._core.reset(self._number(stream))

    def save(self, stream: Stream) -> bytes:
        """A stream's state, to restore it in another process over the same weights."""
        return self._core.save(self._number(stream))

    def restore(self, stream: Stream, saved: bytes) -> None:
        """Sets a stream to a state that was saved."""
        self._core.restore(self._number(stream), saved)

    def state(self, stream: Stream) -> list[Array]:
        """Where a stream is: h ``[L, H]`` and, of an LSTM, c."""
        return self._core.state(self._number(stream))

    def position(self, stream: Stream) -> int:
        """Frames that a stream has been given."""
        return self._core.position(self._number(stream))

    def waiting(self, stream: Stream) -> int:
        """Frames of a stream that wait."""
        return self._core.waiting(self._number(stream))

    def unpulled(self, stream: Stream) -> int:
        """Results of a stream that nobody has pulled."""
        return self._core.unpulled(self._number(stream))

    def statistics(self) -> dict[str, Any]:
        """Counts and times: ``batch`` (streams of a tick), ``latency`` (seconds from push to result) and ``run`` (seconds of a tick),
        each the median, the 99th percentile and the largest."""
        return self._core.statistics()

    async def step(self, stream: Stream, frame: Any) -> Array:
        """Hands a stream a frame ``[I]`` and awaits its result ``[D*H]``. Frames of one stream are answered in their order. Ticks run in
        a thread of their own, while the loop goes on. A stream that is stepped so must not be pulled by others."""
        self._core.push(self._number(stream), array_of("frame", frame)[None])
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(stream, deque()).append(future)
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.ensure_future(self._tick_while_there_is_work())
        result: Array = await future
        return result

    async def _tick_while_there_is_work(self) -> None:
        try:
            while self._waiting:
                due = self._core.due()
                if due:
                    await asyncio.sleep(due)
                if due is not None:
                    await asyncio.to_thread(self._core.tick)
                given = 0
                for stream in list(self._waiting):
                    futures = self._waiting[stream]
                    for row in self._core.pull(self._number(stream)):
                        given += 1
                        future = futures.popleft()
                        if not future.done():
                            future.set_result(row.copy())
                    if not futures:
                        del self._waiting[stream]
                if due is None and not given:
                    raise OrderError("step: expected results that nobody else pulls, got none")
        except Exception as error:
            # Whoever waits is told.
            for futures in self._waiting.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
            self._waiting.clear()
