//! The states of many streams on a device, a slot each, and what goes between them and a batch: rows copied in memory of this process, or
//! by a kernel each way in the submits of the batch itself.

use super::device::Kind;
use super::{Device, Element, gpu, widen};
use crate::error::Result;
use crate::num::Aligned;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Slots of `size` values each.
pub(crate) struct States<T: Element> {
    size: usize,
    on: On<T>,
    /// Another for every store of this process, so that nothing made for one is taken for another's.
    id: u64,
}

enum On<T> {
    Cpu(Slabs<T>),
    Gpu(gpu::States),
}

/// A piece of a state in a batch's memory: value c of sequence b is element `first` + b · `width` + c of a slot of the plan. The pieces of
/// a state follow one another in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub slot: usize,
    pub first: usize,
    pub width: usize,
}

/// Where a batch has the states of its sequences: before the first step, and after the last ones.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub before: Vec<Piece>,
    pub after: Vec<Piece>,
}

/// What goes between one batch's memory and one store.
pub(crate) struct Moves {
    pub places: Places,
    /// What a GPU binds; made for the store as it is when it is first used.
    pub on_gpu: Option<gpu::Moves>,
}

impl Moves {
    pub(crate) fn new(places: Places) -> Self {
        Self { places, on_gpu: None }
    }
}

/// The streams of a run, one per sequence of the batch from its first on: which slots their states are read from, and which they are
/// written to. No two are written to the same.
pub(crate) struct Streams<'a, T: Element> {
    pub states: &'a mut States<T>,
    pub moves: &'a mut Moves,
    pub from: &'a [u32],
    pub to: &'a [u32],
}

/// Bytes of a slab of slots, about.
const SLAB_BYTES: usize = 1 << 16;

impl<T: Element> States<T> {
    /// Without slots.
    pub(crate) fn new(device: &Device, size: usize) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let on = match &device.0 {
            Kind::Cpu(_) => On::Cpu(Slabs { slabs: Vec::new(), size, shift: slab_slots::<T>(size).ilog2() }),
            Kind::Gpu(gpu) => On::Gpu(gpu::States::new(gpu, size)?),
        };
        Ok(Self { size, on, id: NEXT.fetch_add(1, Relaxed) })
    }

    /// Slots that are made and given back at once, a power of two.
    pub(crate) fn step(&self) -> usize {
        slab_slots::<T>(self.size)
    }

    /// Values of a slot.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// As many slots, a multiple of [`States::step`]. What is in those that were there and still are, stays.
    pub(crate) fn resize(&mut self, slots: usize) -> Result<()> {
        match &mut self.on {
            On::Cpu(slabs) => {
                let values = self.size << slabs.shift;
                slabs.slabs.resize_with(slots >> slabs.shift, || vec![T::default(); values]);
                Ok(())
            }
            On::Gpu(e) => e.resize(slots),
        }
    }

    /// The values of all slots, one behind the other.
    pub(crate) async fn read_all(&self) -> Result<Vec<T>> {
        match &self.on {
            On::Cpu(slabs) => Ok(slabs.slabs.concat()),
            On::Gpu(e) => Ok(widen(e.read_all().await?)),
        }
    }

    /// Writes a slot.
    pub(crate) fn write(&mut self, slot: u32, values: &[T]) -> Result<()> {
        match &mut self.on {
            On::Cpu(slabs) => {
                slabs.slot_mut(slot).copy_from_slice(values);
                Ok(())
            }
            On::Gpu(e) => e.write(slot, bytemuck::cast_slice(values)),
        }
    }

    /// The values of a slot.
    pub(crate) async fn read(&self, slot: u32) -> Result<Vec<T>> {
        match &self.on {
            On::Cpu(slabs) => Ok(slabs.slot(slot).to_vec()),
            On::Gpu(e) => Ok(widen(e.read(slot).await?)),
        }
    }
}

/// Streams on the CPU executor: their slots, read and written by the kernels that load and store states.
pub(crate) struct Ported<'a, T> {
    pub slabs: &'a mut Slabs<T>,
    pub from: &'a [u32],
    pub to: &'a [u32],
}

impl<T: Element> Streams<'_, T> {
    /// Those on the CPU executor.
    pub(super) fn ported(&mut self) -> Ported<'_, T> {
        let On::Cpu(slabs) = &mut self.states.on else { unreachable!("the CPU executor has its states there") };
        Ported { slabs, from: self.from, to: self.to }
    }

    /// What a GPU binds for a batch of so many sequences; made where there is none for the
    /// store as it is now. `targets`: where pieces are in the batch's buffers.
    pub(super) fn bound(
        &mut self,
        batch: usize,
        targets: impl Fn(&[Piece]) -> Vec<gpu::Target>,
    ) -> Result<gpu::Moved<'_>> {
        let On::Gpu(states) = &self.states.on else { unreachable!("a GPU has its states there") };
        let Moves { places, on_gpu } = &mut *self.moves;
        let moves = match on_gpu.take().filter(|moves| moves.is_of(states, self.states.id)) {
            Some(moves) => moves,
            None => {
                let targets = [targets(&places.before), targets(&places.after)];
                gpu::Moves::new(states, self.states.id, batch, targets.each_ref().map(Vec::as_slice))?
            }
        };
        Ok(gpu::Moved { moves: on_gpu.insert(moves), from: self.from, to: self.to })
    }

    /// The states before the first step, into the slots of a plan on the CPU executor.
    pub(super) fn load(&self, slots: &mut [Aligned<T>]) {
        let On::Cpu(slabs) = &self.states.on else { return };
        for (b, &from) in self.from.iter().enumerate() {
            let mut state = slabs.slot(from);
            for piece in &self.moves.places.before {
                let (now, later) = state.split_at(piece.width);
                slots[piece.slot][piece.first + b * piece.width..][..piece.width].copy_from_slice(now);
                state = later;
            }
        }
    }

    /// Those after the last steps, out of them.
    pub(super) fn store<'s>(&mut self, slots: impl Fn(usize) -> &'s [T])
    where
        T: 's,
    {
        let Self { states, moves, to, .. } = self;
        let On::Cpu(slabs) = &mut states.on else { return };
        for (b, &to) in to.iter().enumerate() {
            let mut state = slabs.slot_mut(to);
            for piece in &moves.places.after {
                let (now, later) = state.split_at_mut(piece.width);
                now.copy_from_slice(&slots(piece.slot)[piece.first + b * piece.width..][..piece.width]);
                state = later;
            }
        }
    }
}

/// A power of two of slots that take about [`SLAB_BYTES`].
fn slab_slots<T>(size: usize) -> usize {
    let fit = SLAB_BYTES / (size.max(1) * size_of::<T>());
    1 << fit.max(1).ilog2()
}

/// Slots in memory of this process.
pub(crate) struct Slabs<T> {
    slabs: Vec<Vec<T>>,
    size: usize,
    /// Slots of a slab, as a power of two.
    shift: u32,
}

impl<T> Slabs<T> {
    fn place(&self, slot: u32) -> (usize, usize) {
        let (slot, mask) = (slot as usize, (1 << self.shift) - 1);
        (slot >> self.shift, (slot & mask) * self.size)
    }

    pub fn slot(&self, slot: u32) -> &[T] {
        let (slab, at) = self.place(slot);
        &self.slabs[slab][at..][..self.size]
    }

    pub fn slot_mut(&mut self, slot: u32) -> &mut [T] {
        let (slab, at) = self.place(slot);
        &mut self.slabs[slab][at..][..self.size]
    }
}
