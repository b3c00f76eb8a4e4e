//! What goes into a plan's slots, and comes out of them.

use super::{Executor, at};
use crate::error::{Error, Result};
use crate::exec::gpu::device::Gpu;
use crate::exec::gpu::read::Mapping;
use crate::model::activation_format::{from_halves, to_halves};
use crate::plan::{Plan, Slot, SlotId};
use std::ops::Range;
use std::sync::Arc;

impl Executor {
    pub(crate) fn write(&self, slot: SlotId, bytes: &[u8]) -> Result<()> {
        self.shared.gpu.submit("writing a buffer", || self.shared.gpu.queue.write_buffer(&self.slots[slot], 0, bytes))
    }

    /// Writes all values of a slot, in its own element type.
    pub(crate) fn write_values(&self, plan: &Plan, slot: SlotId, values: &[f32]) -> Result<()> {
        match plan.slots[slot].is_half() {
            true => self.write(slot, bytemuck::cast_slice(&to_halves(values))),
            false => self.write(slot, bytemuck::cast_slice(values)),
        }
    }

    /// Writes the last words of a slot of u32.
    pub(crate) fn write_last(&self, plan: &Plan, slot: SlotId, words: &[u32]) -> Result<()> {
        let at = plan.slots[slot].bytes() - size_of_val(words) as u64;
        let gpu = &self.shared.gpu;
        gpu.submit("writing a buffer", || gpu.queue.write_buffer(&self.slots[slot], at, bytemuck::cast_slice(words)))
    }

    /// Copies slots to their readback buffers.
    pub(super) fn copy_out(&self, encoder: &mut wgpu::CommandEncoder, plan: &Plan, read: &[SlotId]) {
        for (id, buffer) in self.readback.iter().filter(|(id, _)| read.contains(id)) {
            let bytes = plan.slots[*id].bytes().next_multiple_of(4);
            encoder.copy_buffer_to_buffer(&self.slots[*id], 0, buffer, 0, bytes);
        }
    }

    /// The values of an output slot, copied to its readback buffer by the last [`Self::run`].
    pub(crate) async fn read(&self, plan: &Plan, slots: &[SlotId]) -> Result<Vec<Vec<f32>>> {
        let gpu = &self.shared.gpu;
        let buffer = |s: &SlotId| self.readback.iter().find(|(id, _)| id == s);
        let buffers: Vec<(&Slot, &wgpu::Buffer, usize)> = slots
            .iter()
            .filter_map(buffer)
            .map(|(id, buffer)| (&plan.slots[*id], buffer, plan.slots[*id].len()))
            .collect();
        let mapping = gpu.submit("reading back", || map(gpu, &buffers))?;
        values(gpu, "reading back", mapping, &buffers).await
    }

    /// Copies outputs to their readback buffers, for [`Self::read`].
    pub(crate) fn fetch(&self, plan: &Plan, slots: &[SlotId]) -> Result<()> {
        let gpu = &self.shared.gpu;
        gpu.submit("reading back", || {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            self.copy_out(&mut encoder, plan, slots);
            gpu.queue.submit([encoder.finish()]);
        })
    }

    /// The values of parts of an output slot of f32, one after the other in its readback buffer.
    pub(crate) async fn fetch_parts(&self, plan: &Plan, slot: SlotId, parts: &[Range<usize>]) -> Result<Vec<f32>> {
        let gpu = &self.shared.gpu;
        let Some((_, buffer)) = self.readback.iter().find(|(id, _)| *id == slot) else { return Ok(Vec::new()) };
        let count = parts.iter().map(Range::len).sum();
        let read = [(&plan.slots[slot], buffer, count)];
        let mapping = gpu.submit("reading back", || {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut to = 0;
            for part in parts {
                encoder.copy_buffer_to_buffer(&self.slots[slot], at(part.start), buffer, to, at(part.len()));
                to += at(part.len());
            }
            gpu.queue.submit([encoder.finish()]);
            map(gpu, &read)
        })?;
        Ok(values(gpu, "reading back", mapping, &read).await?.remove(0))
    }

    /// Writes parts of a slot of f32 from values that lie one after the other.
    pub(crate) fn write_parts(&self, slot: SlotId, parts: &[Range<usize>], mut values: &[f32]) -> Result<()> {
        let gpu = &self.shared.gpu;
        gpu.submit("writing a buffer", || {
            for part in parts {
                let (now, later) = values.split_at(part.len());
                gpu.queue.write_buffer(&self.slots[slot], at(part.start), bytemuck::cast_slice(now));
                values = later;
            }
        })
    }

    /// Zeroes parts of a slot of f32.
    pub(crate) fn clear_parts(&self, slot: SlotId, parts: &[Range<usize>]) -> Result<()> {
        let gpu = &self.shared.gpu;
        gpu.submit("clearing states", || {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for part in parts {
                encoder.clear_buffer(&self.slots[slot], at(part.start), Some(at(part.len())));
            }
            gpu.queue.submit([encoder.finish()]);
        })
    }

    /// Copies slots of another session on the same device onto this one's.
    pub(crate) fn copy_from(&self, plan: &Plan, other: &Self, pairs: &[(SlotId, SlotId)]) -> Result<()> {
        let gpu = &self.shared.gpu;
        if !Arc::ptr_eq(gpu, &other.shared.gpu) {
            return Err(Error::mismatch("device of the other session", "the same device", "another one"));
        }
        gpu.submit("copying between sessions", || {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for &(from, to) in pairs {
                let bytes = plan.slots[to].bytes();
                encoder.copy_buffer_to_buffer(&other.slots[from], 0, &self.slots[to], 0, bytes);
            }
            gpu.queue.submit([encoder.finish()]);
        })
    }

    /// Copies a slot onto another (the carried state).
    pub(crate) fn copy(&self, plan: &Plan, pairs: &[(SlotId, SlotId)]) -> Result<()> {
        let gpu = &self.shared.gpu;
        gpu.submit("carrying the state", || {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for &(from, to) in pairs {
                encoder.copy_buffer_to_buffer(&self.slots[from], 0, &self.slots[to], 0, plan.slots[from].bytes());
            }
            gpu.queue.submit([encoder.finish()]);
        })
    }

    /// Zeroes slots.
    pub(crate) fn clear(&self, slots: &[SlotId]) -> Result<()> {
        let gpu = &self.shared.gpu;
        gpu.submit("clearing", || {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            slots.iter().for_each(|&id| encoder.clear_buffer(&self.slots[id], 0, None));
            gpu.queue.submit([encoder.finish()]);
        })
    }

    /// Fills a slot with one value.
    pub(crate) fn fill(&self, plan: &Plan, slot: SlotId, value: f32) -> Result<()> {
        self.write_values(plan, slot, &vec![value; plan.slots[slot].len()])
    }

    /// The values of any slot through a buffer made for it: for traces, and for parameters.
    pub(crate) async fn download(&self, plan: &Plan, slot: SlotId) -> Result<Vec<f32>> {
        let gpu = &self.shared.gpu;
        let (what, slot_of) = ("reading a slot", &plan.slots[slot]);
        let (buffer, mapping) = gpu.scoped(what, || {
            let size = slot_of.bytes().next_multiple_of(4);
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let label = Some("download");
            let buffer =
                gpu.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false });
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(&self.slots[slot], 0, &buffer, 0, size);
            gpu.queue.submit([encoder.finish()]);
            let mapping = map(gpu, &[(slot_of, &buffer, slot_of.len())]);
            (buffer, mapping)
        })?;
        Ok(values(gpu, what, mapping, &[(slot_of, &buffer, slot_of.len())]).await?.remove(0))
    }
}

/// Bytes of so many values, in whole words.
fn bytes_of(slot: &Slot, count: usize) -> u64 {
    ((count * slot.element) as u64).next_multiple_of(4)
}

/// Asks for so many values of slots, from buffers with their bytes.
fn map<'a>(gpu: &'a Gpu, buffers: &[(&Slot, &wgpu::Buffer, usize)]) -> Mapping<'a> {
    Mapping::new(gpu, buffers.iter().map(|(slot, buffer, count)| (*buffer, bytes_of(slot, *count))))
}

/// They, once their buffers are mapped.
async fn values(
    gpu: &Gpu,
    what: &str,
    mut mapping: Mapping<'_>,
    buffers: &[(&Slot, &wgpu::Buffer, usize)],
) -> Result<Vec<Vec<f32>>> {
    mapping.answered().await?;
    let copy = |(n, (slot, _, count)): (usize, &(&Slot, &wgpu::Buffer, usize)), mapping: &Mapping<'_>| {
        let view = mapping.view(n, bytes_of(slot, *count))?;
        let mut values = if slot.is_half() { from_halves(&view) } else { bytemuck::pod_collect_to_vec(&view) };
        // An odd count of f16 is filled up to a whole word.
        values.truncate(*count);
        Ok(values)
    };
    gpu.heard(what, || {
        let values = buffers.iter().enumerate().map(|part| copy(part, &mapping)).collect();
        drop(mapping);
        values
    })?
}
