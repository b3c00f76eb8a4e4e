//! What outlives a device: states as the host has them, and what was done since, to be done again on another device.
//!
//! Whose state is in which slot is the host's to know, and stays. What a device has are the slots' values: those of [`Keeper::base`], changed by
//! the writes and runs of [`Keeper::log`] in their order. A run's bits do not depend on anything else, so that the same ones done again
//! leave the same values.

use super::engine::{Engine, Run};
use super::{StreamPool, options::Keep};
use crate::error::{Error, Result};
use crate::exec::states::States;
use crate::exec::{Device, Element};
use crate::face::{ModelOptions, RnnOptions};
use crate::model::network::Network;
use crate::model::stack::{RnnConfig, Shape};
use crate::model::weights::Weights;
use std::sync::Arc;

/// What a pool went on with after its device was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// Another device of the same adapter: the same bits.
    SameKind,
    /// The CPU executor: results within its bound, not the same bits.
    Cpu,
}

/// What a pool runs, to be bound to another device.
pub(super) enum Source<T: Element> {
    Stack(Box<(RnnConfig, Weights<T>, RnnOptions)>),
    Network(Box<(Arc<Network>, Vec<T>, ModelOptions)>),
}

/// See the module.
pub(super) struct Keeper<T: Element> {
    source: Source<T>,
    keep: Keep,
    base: Vec<T>,
    log: Vec<Logged<T>>,
    /// Ticks in it.
    ticks: usize,
}

enum Logged<T> {
    Write(u32, Vec<T>),
    Run(LoggedRun<T>),
}

/// A batch, its frames one after the other.
pub(super) struct LoggedRun<T> {
    pub from: Vec<u32>,
    pub to: Vec<u32>,
    pub steps: Vec<usize>,
    pub frames: Vec<T>,
}

impl<T: Element> Source<T> {
    pub async fn engine(&self, device: &Device) -> Result<Engine<T>> {
        match self {
            Self::Stack(of) => Engine::of_rnn(device, &of.0, &of.1, &of.2, "a StreamPool").await,
            Self::Network(of) => Engine::of_model(device, &of.0, &of.1, &of.2, "a StreamPool").await,
        }
    }
}

impl<T: Element> Keeper<T> {
    /// Of a pool that has done nothing yet: `empty` is in its first slot.
    pub fn new(source: Source<T>, keep: Keep, empty: Vec<T>) -> Self {
        Self { source, keep, base: empty, log: Vec::new(), ticks: 0 }
    }

    pub fn wrote(&mut self, slot: u32, values: &[T]) {
        self.log.push(Logged::Write(slot, values.to_vec()));
    }

    pub fn ran(&mut self, run: LoggedRun<T>) {
        self.ticks += 1;
        self.log.push(Logged::Run(run));
    }

    /// Slots that it names.
    fn slots(&self, size: usize) -> usize {
        let of_log = self.log.iter().flat_map(|logged| match logged {
            Logged::Write(slot, _) => std::slice::from_ref(slot),
            Logged::Run(run) => &run.to[..],
        });
        let of_base = self.base.len() / size.max(1);
        of_log.map(|&slot| slot as usize + 1).fold(of_base.max(1), usize::max)
    }

    /// The slots as they were on a device that is gone, on another; with the session that the last run was in.
    async fn again(&self, engine: &mut Engine<T>, states: &mut States<T>) -> Result<Option<usize>> {
        let size = states.size();
        states.resize(self.slots(size).next_multiple_of(states.step()))?;
        for (slot, values) in self.base.chunks_exact(size.max(1)).enumerate() {
            states.write(slot as u32, values)?;
        }
        let mut last = None;
        let width = engine.columns.input();
        for logged in &self.log {
            match logged {
                Logged::Write(slot, values) => states.write(*slot, values)?,
                Logged::Run(LoggedRun { from, to, steps, frames }) => {
                    let shape = Shape { time: steps.iter().copied().max().unwrap_or(1), batch: steps.len() };
                    let (session, fit) = engine.fit(shape).await?;
                    if (fit.time, fit.batch) != (shape.time, shape.batch) {
                        return Err(Error::Limit {
                            what: "a batch that is run again on another device".into(),
                            needs: shape.batch as u64,
                            limit: fit.batch as u64,
                            unit: "streams",
                            limit_name: "what fits there",
                            hint: "; a smaller Policy::max_batch or max_steps needs less".into(),
                        });
                    }
                    let first = steps.iter().scan(0, |sum, &steps| Some(std::mem::replace(sum, *sum + steps)));
                    let first: Vec<usize> = first.collect();
                    let frame = |b: usize, t: usize| &frames[(first[b] + t) * width..][..width];
                    let steps = &mut steps.iter().copied();
                    engine.run(session, &mut Run { states: &mut *states, from, to, steps, frames: &frame })?;
                    last = Some(session);
                }
            }
        }
        Ok(last)
    }
}

impl<T: Element> StreamPool<T> {
    /// Whether a pool can go on after this.
    pub(super) fn can_recover(&self, error: &Error) -> bool {
        self.keeper.is_some() && matches!(error, Error::DeviceLost { .. })
    }

    /// Goes on with another device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] where that one is lost, too; else why there is none.
    pub(super) async fn recover(&mut self) -> Result<Recovered> {
        let Some(keeper) = &self.keeper else { unreachable!("one that can recover keeps") };
        let (device, recovered) = match self.engine.device().another().await {
            Ok(device) => (device, Recovered::SameKind),
            Err(_) if keeper.keep.on_cpu => (Device::cpu(), Recovered::Cpu),
            Err(error) => return Err(error),
        };
        self.moving.to(&device);
        let mut engine = keeper.source.engine(&device).await?;
        let mut states = States::new(&device, self.slots.states.size())?;
        let last = keeper.again(&mut engine, &mut states).await?;
        self.slots.states = states;
        self.slots.refit()?;
        self.engine = engine;
        // What has not been read yet is what ran last.
        if let (Some(pending), Some(last)) = (&mut self.pending, last) {
            pending.session = last;
        }
        self.counts.recovered += 1;
        self.recovered = Some(recovered);
        Ok(recovered)
    }

    /// Keeps the states as they are now, where it is time for that.
    pub(super) async fn keep(&mut self) -> Result<()> {
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        if keeper.ticks >= keeper.keep.every && self.pending.is_none() {
            keeper.base = self.slots.states.read_all().await?;
            keeper.log.clear();
            keeper.ticks = 0;
        }
        Ok(())
    }
}
