"""Streams: a pool gives each what its layer gives it alone; in asyncio, too."""

import asyncio

import numpy as np
import pytest

import wgpu_rnn
from wgpu_rnn import errors


@pytest.fixture
def lstm():
    return wgpu_rnn.LSTM(3, 5, 2, device="cpu", seed=1).eval()


def alone(lstm, frames):
    return lstm(frames[:, None])[0][:, 0]


def test_streams_are_what_the_layer_gives(lstm, rng):
    pool = wgpu_rnn.StreamPool(lstm, max_steps=2, history=8, every=2)
    frames = rng.standard_normal((2, 6, 3)).astype(np.float32)
    a, b = pool.open(), pool.open()
    pool.push(a, frames[0])
    pool.push(b, frames[1, 0])
    assert pool.waiting(a) == 6 and pool.due() is not None
    tick = pool.tick()
    assert (tick.streams, tick.frames, tick.left) == (2, 3, 1)
    while pool.due() is not None:
        pool.tick()
    truth = alone(lstm, frames[0])
    assert pool.unpulled(a) == 6 and np.array_equal(pool.pull(a), truth)
    assert np.array_equal(pool.pull(b), alone(lstm, frames[1])[:1])
    # Forks, steps back, saved states.
    fork = pool.fork(a)
    pool.push(fork, frames[1])
    pool.rollback(a, 3)
    assert pool.position(a) == 3
    saved = pool.save(a)
    pool.push(a, frames[0, 3:])
    while pool.due() is not None:
        pool.tick()
    assert np.array_equal(pool.pull(a), truth[3:])
    assert np.array_equal(pool.pull(fork), alone(lstm, np.concatenate([frames[0], frames[1]]))[6:])
    pool.restore(b, saved)
    pool.push(b, frames[0, 3])
    pool.tick()
    assert np.array_equal(pool.pull(b), truth[3:4])
    pool.reset(b)
    assert not any(state.any() for state in pool.state(b))
    statistics = pool.statistics()
    assert statistics["streams"] == 3 and statistics["frames"] > 12 and len(statistics["latency"]) == 3


def test_errors_of_streams(lstm):
    pool, other = wgpu_rnn.StreamPool(lstm, frames=2), wgpu_rnn.StreamPool(lstm)
    stream = pool.open()
    frame = np.zeros(3, np.float32)
    pool.push(stream, frame)
    with pytest.raises(errors.StreamFullError, match="room"):
        pool.push(stream, np.zeros((2, 3), np.float32))
    with pytest.raises(errors.MismatchError, match="frames"):
        pool.push(stream, np.zeros(4, np.float32))
    with pytest.raises(errors.DTypeError, match="frames"):
        pool.push(stream, np.zeros(3))
    with pytest.raises(errors.StreamError):
        pool.restore(stream, b"nothing")
    with pytest.raises(errors.StreamError):
        pool.rollback(stream, 5)
    with pytest.raises(errors.StreamError):
        other.push(stream, frame)
    pool.close(stream)
    for call in (lambda: pool.push(stream, frame), lambda: pool.pull(stream), lambda: pool.close(stream)):
        with pytest.raises(errors.StreamError, match="open stream"):
            call()
    with pytest.raises(errors.UnsupportedError, match="backwards|reverse|time"):
        wgpu_rnn.StreamPool(wgpu_rnn.LSTM(3, 5, bidirectional=True, device="cpu"))
    with pytest.raises(errors.UnsupportedError, match="float64"):
        wgpu_rnn.StreamPool(wgpu_rnn.LSTM(3, 5, dtype=np.float64, device="cpu"))
    with pytest.raises(errors.MismatchError, match="max_delay"):
        wgpu_rnn.StreamPool(lstm, max_delay=-1.0)


def test_streams_in_asyncio(lstm, rng):
    pool = wgpu_rnn.StreamPool(lstm, max_delay=0.002)
    frames = rng.standard_normal((20, 10, 3)).astype(np.float32)

    async def client(n):
        stream = pool.open()
        rows = []
        for frame in frames[n, :5]:
            rows.append(await pool.step(stream, frame))
        # Several at once are answered in their order.
        rows += await asyncio.gather(*(pool.step(stream, frame) for frame in frames[n, 5:]))
        pool.close(stream)
        return np.array(rows)

    async def main():
        return await asyncio.wait_for(asyncio.gather(*(client(n) for n in range(len(frames)))), 60)

    for n, rows in enumerate(asyncio.run(main())):
        assert np.array_equal(rows, alone(lstm, frames[n]))
    # They shared ticks.
    assert pool.statistics()["ticks"] < 200


def test_asyncio_is_told_of_errors(lstm):
    pool = wgpu_rnn.StreamPool(lstm)

    async def main():
        stream = pool.open()
        with pytest.raises(errors.MismatchError):
            await pool.step(stream, np.zeros(4, np.float32))
        pending = asyncio.ensure_future(pool.step(stream, np.zeros(3, np.float32)))
        await asyncio.sleep(0)
        pool.close(stream)
        with pytest.raises(asyncio.CancelledError):
            await pending
        with pytest.raises(errors.StreamError):
            await pool.step(stream, np.zeros(3, np.float32))
        again = pool.open()
        assert (await pool.step(again, np.zeros(3, np.float32))).shape == (5,)

    asyncio.run(main())
