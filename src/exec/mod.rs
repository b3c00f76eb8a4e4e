//! Executors: a plan's slots in the memory of a device, and its dispatches run there. On the CPU every kernel has a twin (`cpu`), on a
//! GPU a pipeline ([`gpu`]). Both walk the same steps over the same slots, so everything above asks one `Executor`.

mod common;
pub(crate) mod cpu;
mod device;
mod element;
pub mod gpu;
pub(crate) mod network;
pub(crate) mod stack;
mod startup;
pub(crate) mod states;

pub(crate) use common::Common;
pub use device::Device;
pub(crate) use device::{Kind, Moving};
pub use element::Element;
pub(crate) use stack::{Port, Stack};
pub use startup::Startup;

use crate::error::{Error, Result};
use crate::model::weights::Weights;
use crate::num::Clock;
use crate::num::random::Masks;
use crate::plan::schedule::Schedule;
use crate::plan::{Half, Plan, SlotId};
use device::Threads;
use states::Streams;
use std::ops::Range;
use std::time::Duration;

/// A plan bound to a device.
pub(crate) struct Executor<T: Element> {
    plan: Plan,
    on: On<T>,
    /// What making the CPU executor took.
    bound_in: Duration,
}

enum On<T: Element> {
    Cpu(Threads, Box<cpu::Executor<T>>),
    Gpu(Box<gpu::Executor>),
}

/// Sees a dispatch after it ran, its step if it runs once per step, and the values of a slot it wrote.
#[cfg(not(target_family = "wasm"))]
pub(crate) type Watch<'a, T> = dyn FnMut(&crate::plan::Dispatch, Option<usize>, SlotId, Vec<T>) + 'a;

impl<T: Element> Executor<T> {
    /// Makes a plan's buffers, packs and uploads the weights, compiles the kernels.
    pub(crate) fn new(device: &Device, plan: &Plan, weights: &Weights<T>) -> Result<Self> {
        let start = Clock::start();
        let on = match &device.0 {
            Kind::Cpu(threads) => {
                threads.check()?;
                On::Cpu(threads.clone(), Box::new(threads.here(|| cpu::Executor::new(plan, weights))))
            }
            Kind::Gpu(gpu) => On::Gpu(Box::new(gpu::Executor::new(gpu, plan, &weights.flat(&plan.config))?)),
        };
        Ok(Self { plan: plan.clone(), on, bound_in: start.elapsed() })
    }

    /// The same weights and pipelines for another plan.
    pub(crate) fn sibling(&self, plan: &Plan) -> Result<Self> {
        let start = Clock::start();
        let on = match &self.on {
            On::Cpu(threads, e) => On::Cpu(threads.clone(), Box::new(e.sibling(plan))),
            On::Gpu(e) => On::Gpu(Box::new(e.sibling(plan)?)),
        };
        Ok(Self { plan: plan.clone(), on, bound_in: start.elapsed() })
    }

    /// See [`cpu::Executor::hold_weights`]; a GPU's runs are in the order of their submits.
    pub(crate) fn hold_weights(&mut self, held: bool) {
        if let On::Cpu(_, e) = &mut self.on {
            e.hold_weights(held);
        }
    }

    /// What it runs.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Other parameters in place of those it was made with, for siblings too.
    pub(crate) fn set_weights(&mut self, weights: &Weights<T>) -> Result<()> {
        let Self { plan, on, .. } = self;
        match on {
            On::Cpu(threads, e) => {
                threads.here(|| e.set_weights(plan, weights));
                Ok(())
            }
            On::Gpu(e) => e.set_weights(plan, &weights.flat(&plan.config)),
        }
    }

    /// Runs a pass; `read`: outputs that [`Executor::read`] will be asked for. On a GPU it returns once the work is submitted.
    pub(crate) fn run(&mut self, schedule: &Schedule, half: Half, read: &[SlotId]) -> Result<()> {
        let Self { plan, on, .. } = self;
        match on {
            On::Cpu(threads, e) => {
                threads.run(|| match half {
                    Half::Update => e.update(plan),
                    _ => e.run(plan, schedule, plan.half(half).0, &mut |_, _, _| {}),
                });
                Ok(())
            }
            On::Gpu(e) => e.run(plan, schedule, half, read),
        }
    }

    /// Runs one entry of a pass and waits for it.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn run_entry(&mut self, schedule: &Schedule, half: Half, n: usize) -> Result<()> {
        let Self { plan, on, .. } = self;
        match on {
            On::Cpu(threads, e) => {
                threads.run(|| e.run(plan, schedule, &plan.half(half).0[n..=n], &mut |_, _, _| {}));
                Ok(())
            }
            On::Gpu(e) => e.run_entry(plan, schedule, half, n),
        }
    }

    /// Runs a pass dispatch by dispatch, and waits for each.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn trace(&mut self, schedule: &Schedule, half: Half, watch: &mut Watch<'_, T>) -> Result<()> {
        let Self { plan, on, .. } = self;
        match on {
            On::Cpu(threads, e) => {
                let mut watch = |d: &crate::plan::Dispatch, step, slots: &[crate::num::Aligned<T>]| {
                    gpu::written(d, step).into_iter().for_each(|slot| watch(d, step, slot, slots[slot].to_vec()));
                };
                threads.here(|| e.run(plan, schedule, plan.half(half).0, &mut watch));
                Ok(())
            }
            On::Gpu(e) => {
                e.trace(plan, schedule, half, &mut |d, step, slot, values| watch(d, step, slot, widen(values)))
            }
        }
    }

    /// Runs the way there between the slots of `streams`, on a GPU in the same submits; `read` as in [`Executor::run`].
    pub(crate) fn run_streams(
        &mut self,
        schedule: &Schedule,
        streams: &mut Streams<'_, T>,
        read: &[SlotId],
    ) -> Result<()> {
        let Self { plan, on, .. } = self;
        match on {
            On::Cpu(threads, e) => {
                let mut ported = streams.ported();
                let steps = plan.half(Half::Forward).0;
                threads.run(|| T::run(e, plan, schedule, steps, (&mut |_, _, _| {}, Some(&mut ported))));
                Ok(())
            }
            On::Gpu(e) => {
                let moved = streams.bound(plan.shape.batch, |pieces| e.targets(pieces))?;
                e.run_streams(plan, schedule, moved, read)
            }
        }
    }

    /// What encodes such runs on a GPU, for who puts several in one submit.
    pub(crate) fn stream_encoder<'e>(
        &'e self,
        schedule: &'e Schedule,
        streams: &'e mut Streams<'_, T>,
    ) -> Result<gpu::StreamEncoder<'e>> {
        let On::Gpu(e) = &self.on else { unreachable!("the CPU executor goes run by run") };
        let moved = streams.bound(self.plan.shape.batch, |pieces| e.targets(pieces))?;
        Ok(gpu::StreamEncoder::of_stack(e, &self.plan, schedule, moved))
    }

    /// The values of outputs that the last run was to read.
    pub(crate) async fn read(&self, slots: &[SlotId]) -> Result<Vec<Vec<T>>> {
        match &self.on {
            On::Cpu(_, e) => Ok(slots.iter().map(|&id| e.slot(id).to_vec()).collect()),
            On::Gpu(e) => Ok(e.read(&self.plan, slots).await?.into_iter().map(widen).collect()),
        }
    }

    /// The values of outputs that it was not.
    pub(crate) async fn fetch(&self, slots: &[SlotId]) -> Result<Vec<Vec<T>>> {
        if let On::Gpu(e) = &self.on {
            e.fetch(&self.plan, slots)?;
        }
        self.read(slots).await
    }

    /// The values of any slot.
    pub(crate) async fn download(&self, slot: SlotId) -> Result<Vec<T>> {
        match &self.on {
            On::Cpu(_, e) => Ok(e.slot(slot).to_vec()),
            On::Gpu(e) => Ok(widen(e.download(&self.plan, slot).await?)),
        }
    }

    /// Writes a slot.
    pub(crate) fn write(&mut self, slot: SlotId, data: &[T]) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                e.slot_mut(slot).copy_from_slice(data);
                Ok(())
            }
            On::Gpu(e) => e.write(slot, bytemuck::cast_slice(data)),
        }
    }

    /// Writes a slot of values that are rounded where activations are ([`crate::Options::activations`]).
    pub(crate) fn write_rounded(&mut self, slot: SlotId, data: &[T]) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                e.slot_mut(slot).copy_from_slice(data);
                self.plan.options.activations.round(e.slot_mut(slot));
                Ok(())
            }
            On::Gpu(e) => e.write_values(&self.plan, slot, bytemuck::cast_slice(data)),
        }
    }

    /// Writes what `fill` makes of a slot of values that are rounded where activations are: of what is there on the CPU, of zeros on a
    /// GPU.
    pub(crate) fn write_with(&mut self, slot: SlotId, fill: impl FnOnce(&mut [T])) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                fill(e.slot_mut(slot));
                self.plan.options.activations.round(e.slot_mut(slot));
                Ok(())
            }
            On::Gpu(e) => {
                let mut values = vec![T::default(); self.plan.slots[slot].len()];
                fill(&mut values);
                e.write_values(&self.plan, slot, bytemuck::cast_slice(&values))
            }
        }
    }

    /// The same of a slot of token ids.
    pub(crate) fn write_indices_with(&mut self, slot: SlotId, fill: impl FnOnce(&mut [u32])) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                fill(e.indices_mut(slot));
                Ok(())
            }
            On::Gpu(e) => {
                let mut values = vec![0; self.plan.slots[slot].len()];
                fill(&mut values);
                e.write(slot, bytemuck::cast_slice(&values))
            }
        }
    }

    /// Writes a slot of token ids, classes or an index table.
    pub(crate) fn write_indices(&mut self, slot: SlotId, values: &[u32]) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                e.indices_mut(slot).copy_from_slice(values);
                Ok(())
            }
            On::Gpu(e) => e.write(slot, bytemuck::cast_slice(values)),
        }
    }

    /// Fills a slot with one value.
    pub(crate) fn fill(&mut self, slot: SlotId, value: f32) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                e.slot_mut(slot).fill(T::from_f64(f64::from(value)));
                Ok(())
            }
            On::Gpu(e) => e.fill(&self.plan, slot, value),
        }
    }

    /// Zeros in slots, without a byte from the host.
    pub(crate) fn clear(&mut self, slots: &[SlotId]) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                slots.iter().for_each(|&slot| e.slot_mut(slot).fill(T::default()));
                Ok(())
            }
            On::Gpu(e) => e.clear(slots),
        }
    }

    /// Values of an output slot, those of `parts` one after the other: nothing else leaves the device.
    pub(crate) async fn fetch_parts(&self, slot: SlotId, parts: &[Range<usize>]) -> Result<Vec<T>> {
        match &self.on {
            On::Cpu(_, e) => Ok(parts.iter().flat_map(|part| &e.slot(slot)[part.clone()]).copied().collect()),
            On::Gpu(e) => Ok(widen(e.fetch_parts(&self.plan, slot, parts).await?)),
        }
    }

    /// Writes parts of a slot, from values that lie one after the other.
    pub(crate) fn write_parts(&mut self, slot: SlotId, parts: &[Range<usize>], data: &[T]) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                let mut data = data;
                for part in parts {
                    let (now, later) = data.split_at(part.len());
                    e.slot_mut(slot)[part.clone()].copy_from_slice(now);
                    data = later;
                }
                Ok(())
            }
            On::Gpu(e) => e.write_parts(slot, parts, bytemuck::cast_slice(data)),
        }
    }

    /// Zeros in parts of a slot.
    pub(crate) fn clear_parts(&mut self, slot: SlotId, parts: &[Range<usize>]) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                parts.iter().for_each(|part| e.slot_mut(slot)[part.clone()].fill(T::default()));
                Ok(())
            }
            On::Gpu(e) => e.clear_parts(slot, parts),
        }
    }

    /// Copies slots onto others, each pair (from, to): the carried state.
    pub(crate) fn copy(&mut self, pairs: &[(SlotId, SlotId)]) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                for &(from, to) in pairs {
                    let values = std::mem::take(e.slot_memory(from));
                    e.slot_mut(to).copy_from_slice(&values);
                    *e.slot_memory(from) = values;
                }
                Ok(())
            }
            On::Gpu(e) => e.copy(&self.plan, pairs),
        }
    }

    /// Copies slots of another executor on the same device onto this one's.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for another device.
    pub(crate) fn copy_from(&mut self, other: &Self, pairs: &[(SlotId, SlotId)]) -> Result<()> {
        let kind = |on: &On<T>| if matches!(on, On::Cpu(..)) { "CPU" } else { "GPU" };
        match (&mut self.on, &other.on) {
            (On::Cpu(_, to), On::Cpu(_, from)) => {
                pairs.iter().for_each(|&(a, b)| to.slot_mut(b).copy_from_slice(from.slot(a)));
                Ok(())
            }
            (On::Gpu(to), On::Gpu(from)) => to.copy_from(&self.plan, from, pairs),
            (to, from) => Err(Error::mismatch("device of the other session", kind(to), kind(from))),
        }
    }

    /// Uploads the lengths and episodes of the runs to come.
    pub(crate) fn write_schedule(&self, schedule: &Schedule) -> Result<()> {
        match &self.on {
            On::Cpu(..) => Ok(()),
            On::Gpu(e) => e.write(self.plan.ids.schedule, bytemuck::cast_slice(schedule.table())),
        }
    }

    /// Sets the masks of the runs to come.
    pub(crate) fn set_masks(&mut self, masks: Masks) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                e.set_masks(masks);
                Ok(())
            }
            On::Gpu(e) => e.write_last(&self.plan, self.plan.ids.schedule, &masks.run_words()),
        }
    }

    /// What making it took.
    pub(crate) fn startup(&self) -> Startup {
        match &self.on {
            On::Cpu(..) => Startup { buffers: self.bound_in, ..Startup::default() },
            On::Gpu(e) => e.startup(),
        }
    }

    /// Pipelines and bind groups made so far.
    pub(crate) fn created(&self) -> usize {
        match &self.on {
            On::Cpu(..) => 0,
            On::Gpu(e) => e.created(),
        }
    }

    /// That of a GPU, for what only GPUs have.
    pub(crate) fn gpu(&self) -> Option<&gpu::Executor> {
        match &self.on {
            On::Cpu(..) => None,
            On::Gpu(e) => Some(e),
        }
    }

    /// A slot on the CPU executor.
    pub(crate) fn cpu_slot(&self, slot: SlotId) -> &[T] {
        match &self.on {
            On::Cpu(_, e) => e.slot(slot),
            On::Gpu(_) => &[],
        }
    }
}

/// As the host has them; a GPU has f32 alone.
pub(crate) fn widen<T: Element>(values: Vec<f32>) -> Vec<T> {
    values.into_iter().map(|v| T::from_f64(f64::from(v))).collect()
}
