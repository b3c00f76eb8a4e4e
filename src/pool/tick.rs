//! A tick: who has its turn, one batch of them, and their results.

use super::engine::Run;
use super::kept::{LoggedRun, Recovered};
use super::stream::{Arrival, Kept};
use super::{StreamId, StreamPool, nanoseconds};
use crate::error::{Error, Result};
use crate::exec::Element;
use crate::model::stack::Shape;
use crate::num::Clock;
use std::cmp::Reverse;
use std::time::Duration;

/// What a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// Streams that had their turn; 0 where nothing waited.
    pub streams: usize,
    /// Frames that were run, of all of them.
    pub frames: usize,
    /// Steps of the longest.
    pub steps: usize,
    /// Streams with frames that still wait: beyond [`Policy::max_batch`](crate::Policy::max_batch) or
    /// [`Policy::max_steps`](crate::Policy::max_steps).
    pub left: usize,
    /// Time from its begin to its results.
    pub took: Duration,
    /// What the pool went on with, where its device was lost in or before this tick ([`PoolOptions::keep`](crate::PoolOptions::keep)).
    pub recovered: Option<Recovered>,
}

/// A stream in a batch.
pub(super) struct Entry {
    pub index: u32,
    pub generation: u32,
    pub steps: usize,
    /// Steps at the front that give no results, and those behind them that do.
    skip: usize,
    pub emit: usize,
    from: u32,
    to: u32,
}

/// A batch whose results are not there yet.
pub(super) struct Pending {
    pub session: usize,
    clock: Clock,
    /// When it began, in nanoseconds of the pool's clock.
    at: u64,
    tick: Tick,
}

/// Devices that a call takes one after the other, when each is lost.
const DEVICES: usize = 3;

/// Lists that every tick makes anew.
#[derive(Default)]
pub(super) struct Scratch {
    from: Vec<u32>,
    to: Vec<u32>,
    /// When the frames came that the batch has results of.
    came: Vec<Arrival>,
}

impl<T: Element> StreamPool<T> {
    /// Whether a tick should start now: as many streams wait as a tick takes, or a frame has waited as long as it may
    /// ([`Policy`](crate::Policy)).
    pub fn is_ready(&self) -> bool {
        self.is_ready_at(self.now())
    }

    /// The same at a time of the caller's.
    pub fn is_ready_at(&self, now: Duration) -> bool {
        self.due().is_some_and(|due| due <= now)
    }

    /// When a tick should start, by the clock that frames were pushed by: when the oldest frame that waits will have waited for
    /// [`Policy::max_delay`](crate::Policy::max_delay), or at once ([`Duration::ZERO`]) where enough streams wait. `None`: nothing waits.
    pub fn due(&self) -> Option<Duration> {
        if self.waiting == 0 {
            return None;
        }
        if self.waiting >= self.options.policy.max_batch {
            return Some(Duration::ZERO);
        }
        let mut waiting = self.queue.iter().filter_map(|&index| self.streams[index as usize].arrivals.oldest());
        // Streams join the queue when their oldest frame comes, unless a tick has left something of them.
        let oldest = match self.rests {
            0 => waiting.next(),
            _ => waiting.min(),
        };
        oldest.map(|at| Duration::from_nanos(at).saturating_add(self.options.policy.max_delay))
    }

    /// Runs what waits as one ragged batch, whether or not [`Policy`](crate::Policy) wants it yet: of the streams that wait longest for their
    /// turn [`Policy::max_batch`](crate::Policy::max_batch) at most, of each [`Policy::max_steps`](crate::Policy::max_steps) frames at most.
    /// Fewer where the batch would not fit in memory that sessions may take. [`Tick::left`] tells whether there is more.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) where not even one step of one stream fits; errors of the device. What waited still waits then,
    /// and no state has changed, unless the device is lost.
    #[cfg(not(target_family = "wasm"))]
    pub fn tick(&mut self) -> Result<Tick> {
        self.tick_at(self.now())
    }

    /// [`StreamPool::tick`] for those who may not wait. Outside of browsers somebody must [poll the device](crate::Device::poll). Where the future
    /// is dropped before it is ready, the results come with the next call that waits for any.
    ///
    /// # Errors
    /// As [`StreamPool::tick`].
    pub async fn tick_async(&mut self) -> Result<Tick> {
        self.tick_at_async(self.now()).await
    }

    /// [`StreamPool::tick`] at a time of the caller's: latencies are counted from the times of pushes to this one, and on to the end of the
    /// run.
    ///
    /// # Errors
    /// As [`StreamPool::tick`].
    #[cfg(not(target_family = "wasm"))]
    pub fn tick_at(&mut self, now: Duration) -> Result<Tick> {
        self.moving.clone().block(self.tick_at_async(now))
    }

    /// [`StreamPool::tick_at`] for those who may not wait.
    ///
    /// # Errors
    /// As [`StreamPool::tick`].
    pub async fn tick_at_async(&mut self, now: Duration) -> Result<Tick> {
        self.gave.clear();
        self.tick_on(now).await
    }

    /// A tick beside those that the call at hand has run already.
    async fn tick_on(&mut self, now: Duration) -> Result<Tick> {
        self.gather().await?;
        let mut lost = 0;
        // A batch that could not begin waits again.
        while let Err(error) = self.submit(now).await {
            self.go_on(error, &mut lost).await?;
        }
        let tick = self.gather().await?;
        while let Err(error) = self.keep().await {
            self.go_on(error, &mut lost).await?;
        }
        Ok(Tick { recovered: self.recovered.take(), ..tick })
    }

    /// [`StreamPool::collect`], on another device where this one is lost.
    async fn gather(&mut self) -> Result<Tick> {
        let mut lost = 0;
        loop {
            match self.collect().await {
                Ok(tick) => return Ok(tick),
                Err(error) => self.go_on(error, &mut lost).await?,
            }
        }
    }

    /// Goes on with another device after an error, if it was that; not for ever.
    async fn go_on(&mut self, error: Error, lost: &mut usize) -> Result<()> {
        let mut error = error;
        while self.can_recover(&error) && *lost < DEVICES {
            *lost += 1;
            match self.recover().await {
                Ok(_) => return Ok(()),
                Err(other) => error = other,
            }
        }
        Err(error)
    }

    /// The streams that the last call gave results, each with how many rows: of a tick, or of all ticks that a call ran which settles a stream
    /// ([`StreamPool::fork`], [`StreamPool::save`] and others). A stream is named once per tick.
    pub fn last(&self) -> &[(StreamId, usize)] {
        &self.gave
    }

    /// Runs all that a stream has waiting.
    pub(super) async fn settle(&mut self, id: StreamId) -> Result<usize> {
        let index = self.index(id)?;
        self.gave.clear();
        self.gather().await?;
        while self.streams[index].waiting() > 0 {
            // Its turn is now.
            if self.queue.front() != Some(&(index as u32)) {
                self.queue.retain(|&other| other as usize != index);
                self.queue.push_front(index as u32);
            }
            let now = Duration::from_nanos(self.latest);
            self.tick_on(now).await?;
        }
        Ok(index)
    }

    /// Takes those whose turn it is out of the queue.
    fn choose(&mut self) {
        let policy = self.options.policy;
        self.batch.clear();
        while self.batch.len() < policy.max_batch {
            let Some(index) = self.queue.pop_front() else { break };
            let s = &mut self.streams[index as usize];
            self.rests -= usize::from(s.is_rest);
            (s.is_queued, s.is_rest) = (false, false);
            let steps = s.waiting().min(policy.max_steps);
            if steps > 0 {
                let (generation, from) = (s.generation, s.slot);
                self.batch.push(Entry { index, generation, steps, skip: 0, emit: 0, from, to: from });
            }
        }
    }

    /// Puts them back, from number `first` on, as if they had not been chosen.
    fn put_back(&mut self, first: usize) {
        for entry in self.batch.drain(first..).rev() {
            if entry.to != entry.from {
                self.slots.leave(entry.to);
            }
            let s = &mut self.streams[entry.index as usize];
            s.is_queued = true;
            // Wherever it was: what has waited longest is looked for.
            s.is_rest = true;
            self.rests += 1;
            self.queue.push_front(entry.index);
        }
    }

    /// Runs a batch, up to where its results can be asked for.
    async fn submit(&mut self, now: Duration) -> Result<()> {
        let clock = Clock::start();
        self.latest = self.latest.max(nanoseconds(now));
        self.slots.settle();
        self.choose();
        let Some(time) = self.batch.iter().map(|entry| entry.steps).max() else { return Ok(()) };
        let wanted = Shape { time, batch: self.batch.len() };
        let (session, fit) = match self.engine.fit(wanted).await {
            Ok(fit) => fit,
            Err(error) => {
                self.put_back(0);
                return Err(error);
            }
        };
        self.put_back(fit.batch.min(self.batch.len()));
        self.batch.iter_mut().for_each(|entry| entry.steps = entry.steps.min(fit.time));
        // The longest first, as kernels want them.
        if self.batch.iter().any(|entry| entry.steps != self.batch[0].steps) {
            self.batch.sort_by_key(|entry| Reverse(entry.steps));
        }
        if let Err(error) = self.run(session) {
            self.put_back(0);
            return Err(error);
        }
        self.went(clock, session, nanoseconds(now));
        Ok(())
    }

    fn run(&mut self, session: usize) -> Result<()> {
        let Self { engine, slots, streams, batch, scratch, keeper, .. } = self;
        for entry in batch.iter_mut() {
            // Who shares a state goes on elsewhere.
            if !slots.is_own(entry.from) {
                entry.to = slots.take()?;
            }
        }
        scratch.from.clear();
        scratch.to.clear();
        scratch.from.extend(batch.iter().map(|entry| entry.from));
        scratch.to.extend(batch.iter().map(|entry| entry.to));
        let (batch, streams) = (&*batch, &*streams);
        let mut steps = batch.iter().map(|entry| entry.steps);
        let frames = |b: usize, t: usize| {
            let s = &streams[batch[b].index as usize];
            s.frames.row((s.ran - s.first) as usize + t)
        };
        engine.run(
            session,
            &mut Run {
                states: &mut slots.states,
                from: &scratch.from,
                to: &scratch.to,
                steps: &mut steps,
                frames: &frames,
            },
        )?;
        if let Some(keeper) = keeper {
            let those = batch.iter().enumerate().flat_map(|(b, entry)| (0..entry.steps).map(move |t| (b, t)));
            let all = those.flat_map(|(b, t)| frames(b, t)).copied().collect();
            let (from, to) = (scratch.from.clone(), scratch.to.clone());
            keeper.ran(LoggedRun { from, to, steps: batch.iter().map(|entry| entry.steps).collect(), frames: all });
        }
        Ok(())
    }

    /// What is true after a run: streams are where it has left them.
    fn went(&mut self, clock: Clock, session: usize, at: u64) {
        let history = self.options.history;
        let mut tick = Tick { streams: self.batch.len(), ..Tick::default() };
        self.scratch.came.clear();
        for n in 0..self.batch.len() {
            let Self { slots, streams, batch, scratch, .. } = self;
            let entry = &mut batch[n];
            let s = &mut streams[entry.index as usize];
            if entry.to != entry.from {
                slots.leave(s.slot);
                s.slot = entry.to;
            }
            entry.skip = (s.emitted.saturating_sub(s.ran) as usize).min(entry.steps);
            entry.emit = entry.steps - entry.skip;
            s.arrivals.pop(entry.steps, entry.skip, |arrival| scratch.came.push(arrival));
            s.ran += entry.steps as u64;
            s.emitted = s.emitted.max(s.ran);
            s.owed += entry.emit as u32;
            if history.steps > 0 {
                if s.history.back().is_none_or(|kept| kept.at + history.every as u64 <= s.ran) {
                    slots.share(s.slot);
                    s.history.push_back(Kept { at: s.ran, slot: s.slot });
                }
                while s.history.get(1).is_some_and(|kept| kept.at + history.steps as u64 <= s.ran) {
                    s.history.pop_front().into_iter().for_each(|kept| slots.leave(kept.slot));
                }
            }
            let first = s.history.front().map_or(s.ran, |kept| kept.at);
            s.frames.pop((first - s.first) as usize);
            s.first = first;
            tick.frames += entry.steps;
            tick.steps = tick.steps.max(entry.steps);
            let (index, waits) = (entry.index as usize, s.waiting() > 0);
            if history.steps > 0 {
                self.recount(index);
            }
            let s = &mut self.streams[index];
            if waits {
                s.is_rest = true;
                self.rests += 1;
                self.enqueue(index);
            } else {
                self.waiting -= 1;
            }
        }
        tick.left = self.waiting;
        self.pending = Some(Pending { session, clock, at, tick });
    }

    /// Waits for the results of what ran, and hands them to their streams.
    pub(super) async fn collect(&mut self) -> Result<Tick> {
        let Self { engine, streams, batch, pending, scratch, gave, counts, number, .. } = self;
        let Some(of) = pending else { return Ok(Tick::default()) };
        let given = engine.rows(of.session).await?;
        for (b, entry) in batch.iter().enumerate() {
            let s = &mut streams[entry.index as usize];
            // A stream that was closed meanwhile has no use for them.
            if !s.is_open || s.generation != entry.generation {
                continue;
            }
            for t in entry.skip..entry.skip + entry.emit {
                given.copy(given.row_of(t) + b, s.results.push());
            }
            s.owed -= entry.emit as u32;
            if entry.emit > 0 {
                let id = StreamId { pool: *number, index: entry.index, generation: entry.generation };
                gave.push((id, entry.emit));
            }
        }
        let took = of.clock.elapsed();
        let (tick, done) = (Tick { took, ..of.tick }, of.at.saturating_add(nanoseconds(took)));
        counts.ticks += 1;
        counts.batch.add(tick.streams as u64, 1);
        counts.run.add(nanoseconds(took), 1);
        for arrival in &scratch.came {
            counts.frames += arrival.frames as u64;
            counts.latency.add(done.saturating_sub(arrival.at), arrival.frames as u64);
        }
        *pending = None;
        Ok(tick)
    }
}
