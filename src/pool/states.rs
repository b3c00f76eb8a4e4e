//! States of streams: forked, kept, taken back, read and set.

use super::slots::{EMPTY, Held};
use super::stream::Stream;
use super::{StreamId, StreamPool, saved};
use crate::error::{Error, Result, StreamError};
use crate::exec::Element;
use crate::tensor::{Tensor, View};
use std::sync::Arc;

/// Where a stream of a [`StreamPool`] was: [`StreamPool::snapshot`] takes it, [`StreamPool::rollback_to`] goes back there,
/// [`StreamPool::open_from`] opens a stream there. It holds a slot of the pool, which whoever runs on from it leaves as it is, for as long as it or a
/// clone of it is there.
#[derive(Clone)]
pub struct StreamSnapshot {
    pool: u32,
    root: u64,
    /// Frames before it.
    at: u64,
    held: Arc<Held>,
}

impl StreamSnapshot {
    /// Frames that the stream had been given.
    pub fn position(&self) -> u64 {
        self.at
    }
}

impl std::fmt::Debug for StreamSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamSnapshot(pool {}, after {} frame(s))", self.pool, self.at)
    }
}

impl<T: Element> StreamPool<T> {
    /// Another stream that is where this one is, with what this one can take back; from here on they go their own ways. No state is copied.
    /// What waits runs first; its results are this stream's alone.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open; [`Error::Limit`] beyond
    /// [`PoolOptions::bytes`](crate::PoolOptions::bytes); as [`StreamPool::tick`].
    #[cfg(not(target_family = "wasm"))]
    pub fn fork(&mut self, id: StreamId) -> Result<StreamId> {
        self.moving.clone().block(self.fork_async(id))
    }

    /// [`StreamPool::fork`] for those who may not wait.
    ///
    /// # Errors
    /// As [`StreamPool::fork`].
    pub async fn fork_async(&mut self, id: StreamId) -> Result<StreamId> {
        let index = self.settle(id).await?;
        let s = &self.streams[index];
        let widths = (self.engine.columns.input(), self.engine.columns.output());
        let (first, ran, pushed, emitted) = (s.first, s.ran, s.pushed, s.pushed);
        let (frames, history) = (s.frames.clone(), s.history.clone());
        let fork = Stream { frames, first, ran, pushed, emitted, history, ..Stream::new(widths, s.root, s.slot) };
        self.admit(fork)
    }

    /// Keeps where a stream is. No state is copied, and the stream goes on. What waits runs first.
    ///
    /// # Errors
    /// As [`StreamPool::fork`].
    #[cfg(not(target_family = "wasm"))]
    pub fn snapshot(&mut self, id: StreamId) -> Result<StreamSnapshot> {
        self.moving.clone().block(self.snapshot_async(id))
    }

    /// [`StreamPool::snapshot`] for those who may not wait.
    ///
    /// # Errors
    /// As [`StreamPool::fork`].
    pub async fn snapshot_async(&mut self, id: StreamId) -> Result<StreamSnapshot> {
        let index = self.settle(id).await?;
        self.slots.settle();
        self.check_bytes("a snapshot", self.bytes + self.slots.bytes_with(1))?;
        self.slots.reserve(1);
        let s = &self.streams[index];
        let held = Arc::new(self.slots.hold(s.slot));
        Ok(StreamSnapshot { pool: self.number, root: s.root, at: s.ran, held })
    }

    /// A stream goes back (or forth) to where it, or what it was forked from, was. What waits runs first; results of frames behind the
    /// snapshot that nobody has pulled are gone, unless they are older than the last call that put the stream somewhere (this one,
    /// [`StreamPool::set_state`], [`StreamPool::restore`], [`StreamPool::reset`]). Its history begins anew there.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open; [`StreamError::Snapshot`] for a snapshot of another; as
    /// [`StreamPool::tick`].
    #[cfg(not(target_family = "wasm"))]
    pub fn rollback_to(&mut self, id: StreamId, snapshot: &StreamSnapshot) -> Result<()> {
        self.moving.clone().block(self.rollback_to_async(id, snapshot))
    }

    /// [`StreamPool::rollback_to`] for those who may not wait.
    ///
    /// # Errors
    /// As [`StreamPool::rollback_to`].
    pub async fn rollback_to_async(&mut self, id: StreamId, snapshot: &StreamSnapshot) -> Result<()> {
        let index = self.index(id)?;
        if snapshot.pool != self.number || snapshot.root != self.streams[index].root {
            return Err(Error::Stream(StreamError::Snapshot { id: id.to_string() }));
        }
        self.settle(id).await?;
        self.drop_results(index, snapshot.at);
        self.move_to(index, snapshot.held.slot, snapshot.at);
        Ok(())
    }

    /// A new stream where another was: as if it were a fork of that one, taken then.
    ///
    /// # Errors
    /// [`StreamError::Snapshot`] for a snapshot of another pool; as [`StreamPool::open`].
    pub fn open_from(&mut self, snapshot: &StreamSnapshot) -> Result<StreamId> {
        if snapshot.pool != self.number {
            return Err(Error::Stream(StreamError::Snapshot { id: "new".into() }));
        }
        let widths = (self.engine.columns.input(), self.engine.columns.output());
        let StreamSnapshot { root, at, ref held, .. } = *snapshot;
        self.admit(Stream { first: at, ran: at, pushed: at, emitted: at, ..Stream::new(widths, root, held.slot) })
    }

    /// Begins a stream anew, at the empty state and without history. What waits runs first, so that its results are given.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open; as [`StreamPool::tick`].
    #[cfg(not(target_family = "wasm"))]
    pub fn reset(&mut self, id: StreamId) -> Result<()> {
        self.moving.clone().block(self.reset_async(id))
    }

    /// [`StreamPool::reset`] for those who may not wait.
    ///
    /// # Errors
    /// As [`StreamPool::reset`].
    pub async fn reset_async(&mut self, id: StreamId) -> Result<()> {
        let index = self.settle(id).await?;
        self.move_to(index, EMPTY, 0);
        Ok(())
    }

    /// Where a stream is: the states of the model, of this stream alone. Of a stack h `[L, P or H]` and, for cells with a cell state, c
    /// `[L, S·H]`; of a network one `[size]` per operation over time, as [`NetworkOutput::states`](crate::network::NetworkOutput::states) has
    /// them. What waits runs first.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open; as [`StreamPool::tick`].
    #[cfg(not(target_family = "wasm"))]
    pub fn state(&mut self, id: StreamId) -> Result<Vec<Tensor<T>>> {
        self.moving.clone().block(self.state_async(id))
    }

    /// [`StreamPool::state`] for those who may not wait.
    ///
    /// # Errors
    /// As [`StreamPool::state`].
    pub async fn state_async(&mut self, id: StreamId) -> Result<Vec<Tensor<T>>> {
        let values = self.values(id).await?.1;
        let mut rest = &values[..];
        let part = |(_, shape): &(String, Vec<usize>)| {
            let (own, others) = rest.split_at(shape.iter().product());
            rest = others;
            Tensor { data: own.to_vec(), shape: shape.clone() }
        };
        Ok(self.engine.columns.states.iter().map(part).collect())
    }

    /// A stream's position and the values of its state.
    async fn values(&mut self, id: StreamId) -> Result<(u64, Vec<T>)> {
        let index = self.settle(id).await?;
        let (at, slot) = (self.streams[index].ran, self.streams[index].slot);
        let mut read = self.slots.states.read(slot).await;
        if read.as_ref().is_err_and(|error| self.can_recover(error)) {
            self.recover().await?;
            read = self.slots.states.read(slot).await;
        }
        Ok((at, read?))
    }

    /// Puts a stream where it has never been: the states of [`StreamPool::state`], in their order. What waits runs first; the stream's history
    /// begins anew.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open; [`Error::Mismatch`] for another number of states or wrong shapes; as
    /// [`StreamPool::tick`].
    #[cfg(not(target_family = "wasm"))]
    pub fn set_state(&mut self, id: StreamId, states: &[View<'_, T>]) -> Result<()> {
        self.moving.clone().block(self.set_state_async(id, states))
    }

    /// [`StreamPool::set_state`] for those who may not wait.
    ///
    /// # Errors
    /// As [`StreamPool::set_state`].
    pub async fn set_state_async(&mut self, id: StreamId, states: &[View<'_, T>]) -> Result<()> {
        self.index(id)?;
        let expected = &self.engine.columns.states;
        if states.len() != expected.len() {
            return Err(Error::mismatch("states of a stream", expected.len(), states.len()));
        }
        for ((name, shape), view) in expected.iter().zip(states) {
            let names: &[&str] = if shape.len() == 1 { &["size"] } else { &["L", "size"] };
            view.check(&format!("state {name}"), names, shape)?;
        }
        let values: Vec<T> = states.iter().flat_map(|view| view.data).copied().collect();
        let index = self.settle(id).await?;
        let at = self.streams[index].ran;
        self.set(index, at, &values).await
    }

    /// A stream's state as bytes, for [`StreamPool::restore`] of a pool over the same model, in this process or another, on this device or
    /// another: see `docs/formats.md` for what they are. What waits runs first. Results that nobody has pulled and the stream's history are no
    /// part of it.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open; as [`StreamPool::tick`].
    #[cfg(not(target_family = "wasm"))]
    pub fn save(&mut self, id: StreamId) -> Result<Vec<u8>> {
        self.moving.clone().block(self.save_async(id))
    }

    /// [`StreamPool::save`] for those who may not wait.
    ///
    /// # Errors
    /// As [`StreamPool::save`].
    pub async fn save_async(&mut self, id: StreamId) -> Result<Vec<u8>> {
        let (at, values) = self.values(id).await?;
        Ok(saved::write(self.engine.fingerprint, at, &values))
    }

    /// Puts a stream where another was saved. What waits runs first; the stream's history begins anew.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] for a stream that is not open; [`StreamError::Model`] for a state of another model, and
    /// [`StreamError::Saved`] for bytes that are none or damaged; as [`StreamPool::tick`].
    #[cfg(not(target_family = "wasm"))]
    pub fn restore(&mut self, id: StreamId, bytes: &[u8]) -> Result<()> {
        self.moving.clone().block(self.restore_async(id, bytes))
    }

    /// [`StreamPool::restore`] for those who may not wait.
    ///
    /// # Errors
    /// As [`StreamPool::restore`].
    pub async fn restore_async(&mut self, id: StreamId, bytes: &[u8]) -> Result<()> {
        self.index(id)?;
        let (at, values) = saved::read::<T>(bytes, self.engine.fingerprint, self.slots.states.size())?;
        let index = self.settle(id).await?;
        self.set(index, at, &values).await
    }

    /// Writes a stream's state, in a slot of its own.
    async fn set(&mut self, index: usize, at: u64, values: &[T]) -> Result<()> {
        let slot = match self.slots.take() {
            Err(error) if self.can_recover(&error) => {
                self.recover().await?;
                self.slots.take()?
            }
            slot => slot?,
        };
        let mut wrote = self.slots.states.write(slot, values);
        if wrote.as_ref().is_err_and(|error| self.can_recover(error)) {
            wrote = match self.recover().await {
                Ok(_) => self.slots.states.write(slot, values),
                Err(error) => Err(error),
            };
        }
        if let Err(error) = wrote {
            self.slots.leave(slot);
            return Err(error);
        }
        self.keeper.iter_mut().for_each(|keeper| keeper.wrote(slot, values));
        self.move_to(index, slot, at);
        // It was held from here until now.
        self.slots.leave(slot);
        Ok(())
    }

    /// A stream without frames that wait is now there, and its history begins.
    fn move_to(&mut self, index: usize, slot: u32, at: u64) {
        self.slots.share(slot);
        let s = &mut self.streams[index];
        self.slots.leave(s.slot);
        let gone = (s.ran - s.first) as usize;
        s.frames.pop(gone);
        (s.slot, s.first, s.ran, s.pushed, s.emitted) = (slot, at, at, at, at);
        s.settled = s.results.len();
        self.forget_history(index);
    }
}
