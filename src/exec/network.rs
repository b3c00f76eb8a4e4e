//! A network's plan bound to a device: one executor's face for the CPU's and the GPU's.

use super::device::{Device, Kind, Threads};
use super::states::Streams;
use super::{Common, Element, cpu, gpu, widen};
use crate::error::Result;
use crate::num::random::Masks;
use crate::plan::Half;
use crate::plan::network::{NetworkPlan, SlotId, Times};
use std::ops::Range;
use std::sync::PoisonError;

/// See the module.
pub(crate) struct Executor<T: Element> {
    plan: NetworkPlan,
    on: On<T>,
    /// The parameters on a GPU that no update changes there: stacks have them packed alone. Shared with siblings.
    given: Common<Vec<T>>,
}

enum On<T: Element> {
    Cpu(Threads, Box<cpu::network::Executor<T>>),
    Gpu(Box<gpu::network::Executor>),
}

impl<T: Element> Executor<T> {
    /// `params`: all parameters, one after the other.
    pub(crate) fn new(device: &Device, plan: &NetworkPlan, params: &[T]) -> Result<Self> {
        let on = match &device.0 {
            Kind::Cpu(threads) => {
                threads.check()?;
                On::Cpu(threads.clone(), Box::new(threads.here(|| T::bind_network(plan, device, params))?))
            }
            Kind::Gpu(gpu) => {
                let executor = gpu::network::Executor::new(gpu, plan, device, bytemuck::cast_slice(params))?;
                On::Gpu(Box::new(executor))
            }
        };
        let executor = Self { plan: plan.clone(), on, given: Common::new(Vec::new()) };
        executor.remember(params);
        Ok(executor)
    }

    /// Another plan of the network over the same parameters.
    pub(crate) fn sibling(&self, device: &Device, plan: &NetworkPlan) -> Result<Self> {
        let on = match &self.on {
            On::Cpu(threads, e) => {
                On::Cpu(threads.clone(), Box::new(threads.here(|| T::sibling_of_network(e, plan, device))?))
            }
            On::Gpu(e) => On::Gpu(Box::new(e.sibling(plan)?)),
        };
        Ok(Self { plan: plan.clone(), on, given: self.given.sibling() })
    }

    /// Other parameters.
    pub(crate) fn set_params(&mut self, params: &[T]) -> Result<()> {
        self.remember(params);
        match &mut self.on {
            On::Cpu(threads, e) => threads.here(|| T::set_params(e, &self.plan, params)),
            On::Gpu(e) => e.set_params(&self.plan, bytemuck::cast_slice(params)),
        }
    }

    fn remember(&self, params: &[T]) {
        if let (On::Gpu(_), None) = (&self.on, self.plan.options.optimiser) {
            self.given.put(params.to_vec());
        }
    }

    /// What only a GPU's has.
    pub(crate) fn on_gpu<R>(&self, with: impl FnOnce(&gpu::network::Executor, &NetworkPlan) -> Result<R>) -> Result<R> {
        match &self.on {
            On::Gpu(e) => with(e, &self.plan),
            On::Cpu(..) => unreachable!("a GPU device has a GPU executor"),
        }
    }

    /// Lengths and resets of the runs to come.
    pub(crate) fn write_times(&mut self, times: &Times) -> Result<()> {
        match &mut self.on {
            On::Cpu(..) => Ok(()),
            On::Gpu(e) => e.write_times(times),
        }
    }

    /// Sets the masks of the runs to come, of every stack of layers.
    pub(crate) fn set_masks(&mut self, masks: &[Masks]) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => e.set_masks(&self.plan, masks),
            On::Gpu(e) => e.set_masks(masks),
        }
    }

    /// Runs the operations, or the way back through them. On a GPU it returns once the work is submitted.
    pub(crate) fn run(&mut self, times: &Times, half: Half) -> Result<()> {
        let Self { plan, on, .. } = self;
        match on {
            On::Cpu(threads, e) => threads.run(|| T::run_network(e, plan, times, (half, None))),
            On::Gpu(e) => {
                let turn = e.turn();
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                e.run(plan, half)
            }
        }
    }

    /// Runs the way there between the slots of `streams`, on a GPU in the same submits.
    pub(crate) fn run_streams(&mut self, times: &Times, streams: &mut Streams<'_, T>) -> Result<()> {
        let Self { plan, on, .. } = self;
        match on {
            On::Cpu(threads, e) => {
                streams.load(e.slots_mut());
                threads.run(|| T::run_network(e, plan, times, (Half::Forward, None)))?;
                streams.store(|slot| e.slot(slot));
                Ok(())
            }
            On::Gpu(e) => {
                let moved = streams.bound(plan.shape.batch, |pieces| e.targets(pieces))?;
                let turn = e.turn();
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                e.run_streams(plan, moved)
            }
        }
    }

    /// What encodes such runs on a GPU, for who puts several in one submit.
    pub(crate) fn stream_encoder<'e>(&'e self, streams: &'e mut Streams<'_, T>) -> Result<gpu::StreamEncoder<'e>> {
        let On::Gpu(e) = &self.on else { unreachable!("the CPU executor goes run by run") };
        let moved = streams.bound(self.plan.shape.batch, |pieces| e.targets(pieces))?;
        Ok(gpu::StreamEncoder::of_network(e, &self.plan, moved))
    }

    /// A slot on the CPU executor; `None` on a GPU.
    pub(crate) fn cpu_slot(&self, slot: SlotId) -> Option<&[T]> {
        match &self.on {
            On::Cpu(_, e) => Some(e.slot(slot)),
            On::Gpu(_) => None,
        }
    }

    /// Runs one operation, or the way back through it, and waits for it. Operations must be run in the order of the plan.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn run_operation(&mut self, times: &Times, half: Half, node: usize) -> Result<()> {
        let Self { plan, on, .. } = self;
        match on {
            On::Cpu(threads, e) => threads.run(|| T::run_network(e, plan, times, (half, Some(node)))),
            On::Gpu(e) => {
                let turn = e.turn();
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                e.run_operation(plan, half, node)
            }
        }
    }

    /// One update of all parameters; `hyper`: what the optimiser reads.
    pub(crate) fn update(&mut self, hyper: &[T]) -> Result<()> {
        let Self { plan, on, .. } = self;
        match on {
            On::Cpu(threads, e) => threads.run(|| T::update_network(e, plan, hyper)),
            On::Gpu(e) => e.update(bytemuck::cast_slice(hyper)),
        }
    }

    /// The norm of all gradients at the last update, where they are clipped.
    pub(crate) async fn gradient_norm(&self) -> Result<T> {
        match &self.on {
            On::Cpu(_, e) => Ok(e.gradient_norm()),
            On::Gpu(e) => Ok(T::from_f64(f64::from(e.gradient_norm().await?))),
        }
    }

    /// Zeros in the gradients of all parameters.
    pub(crate) fn clear_param_gradients(&mut self) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => e.clear_param_gradients(),
            On::Gpu(e) => e.clear_param_gradients(),
        }
    }

    /// All parameters as they are now, one after the other.
    pub(crate) async fn params(&self) -> Result<Vec<T>> {
        match &self.on {
            On::Cpu(_, e) => Ok(e.params().to_vec()),
            On::Gpu(e) if e.is_updated() => Ok(widen(e.params(&self.plan).await?)),
            On::Gpu(_) => Ok(self.given.get().to_vec()),
        }
    }

    /// Writes a slot.
    pub(crate) fn write(&mut self, slot: SlotId, values: &[T]) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                e.slot_mut(slot).copy_from_slice(values);
                Ok(())
            }
            On::Gpu(e) => e.write_slot(slot, bytemuck::cast_slice(values)),
        }
    }

    /// Writes what `fill` makes of the slot: of what is there on the CPU, of zeros on a GPU.
    pub(crate) fn write_with(&mut self, slot: SlotId, fill: impl FnOnce(&mut [T])) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                fill(e.slot_mut(slot));
                Ok(())
            }
            On::Gpu(e) => {
                let mut values = vec![T::default(); self.plan.slots[slot].len];
                fill(&mut values);
                e.write_slot(slot, bytemuck::cast_slice(&values))
            }
        }
    }

    /// Writes pieces of slots, from values that lie one after the other.
    pub(crate) fn write_pieces(&mut self, pieces: &[(SlotId, Range<usize>)], mut values: &[T]) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                for (slot, piece) in pieces {
                    let (now, later) = values.split_at(piece.len());
                    e.slot_mut(*slot)[piece.clone()].copy_from_slice(now);
                    values = later;
                }
                Ok(())
            }
            On::Gpu(e) => e.write_pieces(pieces, bytemuck::cast_slice(values)),
        }
    }

    /// Pieces of slots, one after the other: nothing else leaves the device. All together are no more than all states.
    pub(crate) async fn read_pieces(&self, pieces: &[(SlotId, Range<usize>)]) -> Result<Vec<T>> {
        match &self.on {
            On::Cpu(_, e) => {
                Ok(pieces.iter().flat_map(|(slot, piece)| &e.slot(*slot)[piece.clone()]).copied().collect())
            }
            On::Gpu(e) => Ok(widen(e.read_pieces(pieces).await?)),
        }
    }

    /// Slots, and behind them, if asked for, the gradients of all parameters: all at once.
    pub(crate) async fn read(&self, slots: &[SlotId], params: bool) -> Result<Vec<Vec<T>>> {
        match &self.on {
            On::Cpu(_, e) => {
                let params = params.then(|| e.param_gradients().to_vec());
                Ok(slots.iter().map(|&slot| e.slot(slot).to_vec()).chain(params).collect())
            }
            On::Gpu(e) => Ok(e.read_slots(&self.plan, slots, params).await?.into_iter().map(widen).collect()),
        }
    }

    /// The values of any slot.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) async fn download(&self, slot: SlotId) -> Result<Vec<T>> {
        match &self.on {
            On::Cpu(_, e) => Ok(e.slot(slot).to_vec()),
            On::Gpu(e) => Ok(widen(e.download(&self.plan, slot).await?)),
        }
    }

    /// The states after the last steps become those before the first.
    pub(crate) fn carry(&mut self) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                e.carry(&self.plan);
                Ok(())
            }
            On::Gpu(e) => e.carry(&self.plan),
        }
    }

    /// Zeros in the gradients of all values, and of the states after the last steps, without a byte from the host.
    pub(crate) fn clear_gradients(&mut self) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                e.clear_gradients(&self.plan);
                Ok(())
            }
            On::Gpu(e) => e.clear_gradients(),
        }
    }

    /// Fills all working memory with NaN.
    pub(crate) fn poison(&mut self) -> Result<()> {
        match &mut self.on {
            On::Cpu(_, e) => {
                (0..self.plan.slots.len()).for_each(|slot| e.slot_mut(slot).fill(T::from_f64(f64::NAN)));
                e.poison_layers()
            }
            On::Gpu(e) => e.fill(f32::NAN),
        }
    }

    /// Whether what lies between the slots of a GPU is as [`Executor::poison`] left it; waits for it.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn guards_hold(&self) -> Result<bool> {
        match &self.on {
            On::Cpu(..) => Ok(true),
            On::Gpu(e) => e.guards_hold(),
        }
    }

    /// Bytes that the host has written to a GPU for the network's own operations, and submits of theirs, in all.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        match &self.on {
            On::Cpu(..) => (0, 0),
            On::Gpu(e) => (e.bytes_written, e.submits),
        }
    }
}
