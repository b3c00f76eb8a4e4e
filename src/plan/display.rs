//! Plans for people.

use super::{Dispatch, Memory, Plan, Slot, Step, Strategy};
use crate::kernels::Kernel;
use crate::model::activation_format::ActivationFormat;
use crate::model::recurrence::Recurrence;
use crate::model::weights::WeightFormat;
use std::fmt;

pub(super) fn dims_text(slot: &Slot) -> String {
    let names: Vec<_> = slot.dims.iter().map(|d| d.0).collect();
    let sizes: Vec<_> = slot.dims.iter().map(|d| d.1.to_string()).collect();
    format!("[{}] = [{}]", names.join(", "), sizes.join(", "))
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Step => "step",
            Self::Sequence => "sequence",
        })
    }
}

/// As the command line takes it.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Save => f.write_str("save"),
            Self::Recompute => f.write_str("recompute"),
            Self::Checkpoint(steps) => write!(f, "checkpoint={steps}"),
            Self::Auto(bytes) => write!(f, "auto={bytes}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.config;
        writeln!(
            f,
            "{} T={} B={} I={} H={}{}{} layers={} directions={} {:?}",
            c.cell.name,
            self.shape.time,
            self.shape.batch,
            c.input_size,
            c.hidden_size,
            if c.proj_size > 0 { format!(" P={}", c.proj_size) } else { String::new() },
            if c.recurrence == Recurrence::Dense { String::new() } else { format!(" recurrence={}", c.recurrence) },
            c.num_layers,
            c.directions(),
            self.precision,
        )?;
        writeln!(f, "strategy: {} ({})", self.strategy, self.reason)?;
        if c.num_layers > 1 {
            let chunk = self.chunk.map_or("off".into(), |chunk| format!("layers {chunk} steps apart"));
            writeln!(f, "wavefront: {chunk} ({})", self.wavefront_reason)?;
        }
        writeln!(f, "block: {} steps; tile: {} sequences per invocation", self.block, self.tiles.tile)?;
        writeln!(f, "choices: {}", self.choices)?;
        writeln!(f, "dispatches: {} in {} submit(s)", self.dispatches(), self.submits.len())?;
        if let Some((kernel, time)) = self.longest_estimate().filter(|(_, time)| !time.is_zero()) {
            let budget = self.options.submit_budget;
            let beyond = if time > budget { ", which the least that a dispatch can do is beyond" } else { "" };
            writeln!(
                f,
                "longest dispatch: {}, {time:.2?} estimated of a budget of {budget:.2?}{beyond}",
                kernel.name()
            )?;
        }
        if self.train {
            let (forward, backward) = (self.forward_dispatches(), self.backward_dispatches());
            let submits = self.backward_submits.len();
            writeln!(f, "  forward: {forward}; backward: {backward} in {submits} submit(s) more")?;
            let beside = self.bytes() - self.slots[self.ids.x].bytes();
            writeln!(f, "memory: {}, segments of {} steps: {beside} B beside x", self.memory, self.segment)?;
        }
        if let Some(optimiser) = self.options.optimiser {
            let (update, submits) = (self.update_dispatches(), self.update_submits.len());
            let clip =
                self.options.clip_norm.map_or(String::new(), |norm| format!(", gradients clipped to norm {norm}"));
            writeln!(f, "  update: {update} in {submits} submit(s) more ({optimiser}{clip})")?;
        }
        writeln!(f, "work: {:.3} GFLOP in matrix products", self.flops() as f64 / 1e9)?;
        let (bytes, full) = self.weight_bytes();
        match (self.options.weights, self.weight_storage()) {
            (WeightFormat::F32, _) => {}
            (rounded, WeightFormat::F32) => {
                writeln!(
                    f,
                    "weights: rounded to {rounded}, held in {:?} (bytes are saved on GPUs only)",
                    self.precision
                )?;
            }
            (_, format) => writeln!(f, "weights: {format}, {bytes} B, {} B less than in f32 ({full} B)", full - bytes)?,
        }
        let (bytes, full) = self.activation_bytes();
        match (self.options.activations, self.activation_storage()) {
            (ActivationFormat::F32, _) => {}
            (rounded, ActivationFormat::F32) => {
                let held = self.precision;
                writeln!(f, "activations: rounded to {rounded}, held in {held:?} (bytes are saved on GPUs only)")?;
            }
            (_, format) => {
                writeln!(f, "activations: {format}, {bytes} B, {} B less than in f32 ({full} B)", full - bytes)?;
            }
        }
        writeln!(f, "slots:")?;
        for slot in &self.slots {
            writeln!(f, "  {:>12} B  {:<12} {:<8?} {}", slot.bytes(), slot.name, slot.role, dims_text(slot))?;
        }
        writeln!(f, "  {:>12} B  total", self.bytes())?;
        writeln!(f, "steps:")?;
        for step in self.steps.iter().chain(&self.backward).chain(&self.update) {
            match step {
                Step::ClearPadding(slot) => writeln!(f, "  clear {} if the batch is ragged", self.slots[*slot].name)?,
                Step::Once(d) => writeln!(f, "  {}", self.dispatch_text(d))?,
                Step::EachStep(range, body) | Step::EachStepBack(range, body) => {
                    let back = if matches!(step, Step::EachStepBack(..)) { ", last first" } else { "" };
                    writeln!(f, "  for each step of {range:?}{back}")?;
                    for d in body {
                        writeln!(f, "    {}", self.dispatch_text(d))?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Plan {
    fn dispatch_text(&self, d: &Dispatch) -> String {
        let names: Vec<_> = d.slots.iter().map(|&s| self.slots[s].name.as_str()).collect();
        let dims = &self.dims[d.dims];
        let stage = if d.kernel.is_per_stage() { format!(" stage {}", d.stage) } else { String::new() };
        let layer = match d.layer {
            _ if dims.chunk > 0 && d.kernel != Kernel::StoreState => self.wave_text(d),
            layer => layer.map_or(String::new(), |l| format!(" layer {l} steps {}..{}", dims.first, dims.end)),
        };
        format!("{}{stage}{layer} ({})", d.kernel.name(), names.join(", "))
    }
}
