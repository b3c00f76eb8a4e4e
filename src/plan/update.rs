//! Slots and steps of the update.
//!
//! ```text
//! gather_gradient   per gradient slot: dw.l0, dr.l0.0, … -> gradient, in canonical order
//! square_sum, clip  only where gradients are clipped: gradient -> norm, and what the update multiplies by
//! update_*          gradient, m, v -> parameters
//! pack              per packed weight buffer: parameters -> w.l0, r.l0, rt.l0, wt.l0, …
//! ```
//!
//! Parameters, gradient and the optimiser's memory are flat: all tensors of [`crate::weights::parameters`], one after the other.

use super::build::{Builder, ELEMENTWISE_GROUPS, once};
use super::{Caps, DeviceClass, Dispatch, Extent, Options, Role, SlotId, SlotIds, Step, UpdateIds};
use crate::error::{Error, Result};
use crate::kernels::{Flat, GradientOf, Kernel, NORM_GROUPS, Pack, Table};
use crate::model::optimiser::{Hyper, Optimiser};
use crate::model::weights::WeightFormat;

impl Options {
    /// Refuses what no plan can be made of.
    pub(super) fn validate(&self) -> Result<()> {
        if let (Some(optimiser), false) = (self.optimiser, self.train) {
            let expected = "a plan that trains (Options { train: true, .. })";
            return Err(Error::mismatch(format!("optimiser {optimiser}"), expected, "an inference plan"));
        }
        self.optimiser.map_or(Ok(()), |optimiser| optimiser.validate())?;
        if self.train && self.weights == WeightFormat::Int8 {
            return Err(Error::Unsupported {
                what: "training with int8 weights".into(),
                reason: "a gradient goes through columns, and only rows have a scale; use f16 or bf16".into(),
            });
        }
        check_clip(self.clip_norm, self.optimiser)
    }
}

/// Refuses a norm that nothing can be clipped to.
pub(super) fn check_clip(clip_norm: Option<f32>, optimiser: Option<Optimiser>) -> Result<()> {
    match clip_norm {
        Some(norm) if optimiser.is_none() => {
            Err(Error::mismatch(format!("clip_norm {norm}"), "an optimiser, whose updates it clips", "none"))
        }
        Some(norm) if !(norm.is_finite() && norm > 0.0) => {
            Err(Error::mismatch("clip_norm", "a finite number above 0", norm))
        }
        _ => Ok(()),
    }
}

impl Options {
    /// See [`super::Plan::weight_storage`].
    pub(super) fn weight_storage(&self, caps: &Caps) -> WeightFormat {
        if caps.class == DeviceClass::Cpu { WeightFormat::F32 } else { self.weights }
    }
}

impl SlotIds {
    /// Every packed weight buffer and what it holds.
    pub(crate) fn packs(&self) -> Vec<(SlotId, Pack)> {
        let mut list = Vec::new();
        let mut add = |slots: &[SlotId], pack: fn(usize) -> Pack| {
            list.extend(slots.iter().enumerate().map(|(layer, &slot)| (slot, pack(layer))));
        };
        // R of all layers may lie in one slot.
        let stacked = |slots: &[SlotId]| slots.len() > 1 && slots[0] == slots[1];
        add(&self.w, Pack::Input);
        match stacked(&self.r) {
            true => add(&self.r[..1], |_| Pack::Recurrents),
            false => add(&self.r, Pack::Recurrent),
        }
        if let Some(gradients) = &self.grad {
            match stacked(&gradients.rt) {
                true => add(&gradients.rt[..1], |_| Pack::RecurrentsTransposed),
                false => add(&gradients.rt, Pack::RecurrentTransposed),
            }
            add(&gradients.wt, Pack::InputTransposed);
        }
        list.extend(self.embedding.as_ref().map(|e| (e.table, Pack::Embedding)));
        if let Some(head) = &self.head {
            list.push((head.w, Pack::Head));
            list.extend(head.grad.as_ref().map(|g| (g.wt, Pack::HeadTransposed)));
        }
        list
    }

    /// Every slot of parameter gradients and which parameters it belongs to.
    pub(crate) fn parameter_gradients(&self) -> Vec<(SlotId, GradientOf)> {
        let mut list = Vec::new();
        let Some(ids) = &self.grad else { return list };
        for (layer, &dw) in ids.dw.iter().enumerate() {
            list.push((dw, GradientOf::Input(layer)));
            let stages = ids.dr[layer].iter().enumerate();
            list.extend(stages.filter_map(|(n, dr)| dr.map(|dr| (dr, GradientOf::Recurrent(layer, n)))));
            list.extend(ids.du[layer].map(|du| (du, GradientOf::Unit(layer))));
        }
        list.extend(self.head.iter().filter_map(|h| Some((h.grad.as_ref()?.dw, GradientOf::Head))));
        list.extend(self.embedding.iter().filter_map(|e| Some((e.grad.as_ref()?.table, GradientOf::Embedding))));
        list
    }
}

impl Builder<'_> {
    pub fn update_slots(&mut self, ids: &SlotIds, optimiser: Optimiser, clip: bool) -> Result<UpdateIds> {
        let p = Flat::new(self.config).len;
        let count = [("parameters", p)];
        let parameters = self.slot("parameters", Role::Parameters, &count);
        let gradient = self.slot("gradient", Role::Scratch, &count);
        let (m, v) = match optimiser {
            Optimiser::Sgd { momentum: 0.0 } => (None, None),
            Optimiser::Sgd { .. } => (Some(self.slot("m", Role::Parameters, &count)), None),
            Optimiser::Adam { .. } | Optimiser::AdamW { .. } => {
                let m = self.slot("m", Role::Parameters, &count);
                (Some(m), Some(self.slot("v", Role::Parameters, &count)))
            }
        };
        let hyper = self.slot("hyper", Role::Input, &[("hyper", Hyper::COUNT)]);
        let norm = clip.then(|| {
            let sums = self.slot("sums", Role::Scratch, &[("groups", NORM_GROUPS)]);
            (sums, self.slot("norm", Role::Output, &[("norm", 1)]))
        });
        let gradients = ids.parameter_gradients().into_iter().map(|(slot, of)| (slot, Table::Gather(of)));
        let packs = ids.packs().into_iter().map(|(slot, pack)| (slot, Table::Pack(pack, self.weights)));
        let mut tables = Vec::new();
        for (of, table) in gradients.chain(packs).collect::<Vec<_>>() {
            let len = match table {
                Table::Gather(_) => self.slots[of].len(),
                Table::Pack(pack, format) => pack.table_len(self.config, format),
            };
            // A table counts parameters, and its own places after them; the last two numbers mean something else.
            if p as u64 + len as u64 >= u64::from(u32::MAX) - 1 {
                return Err(Error::Limit {
                    what: format!("the update of {p} parameters"),
                    needs: p as u64 + len as u64,
                    limit: u64::from(u32::MAX),
                    unit: "places",
                    limit_name: "the 32-bit index of its tables",
                    hint: String::new(),
                });
            }
            let name = format!("table.{}", self.slots[of].name);
            tables.push((self.slot(name, Role::Table, &[("table", len)]), of, table));
        }
        Ok(UpdateIds { parameters, gradient, m, v, hyper, norm, tables })
    }

    pub fn update_steps(&mut self, u: &UpdateIds) -> Vec<Step> {
        let whole = self.dims(0, 0..self.shape.time);
        let mut steps = Vec::new();
        let elementwise = |slots: &[super::Slot], slot: SlotId, width: usize| {
            (slots[slot].len().div_ceil(width).min(ELEMENTWISE_GROUPS), Extent::Fixed(1), 1)
        };
        let mut push = |kernel, slots: Vec<SlotId>, groups| steps.push(once(kernel, None, whole, slots, groups));
        let over = |slot| elementwise(&self.slots, slot, self.tiles.width);
        for &(table, slot, _) in u.tables.iter().filter(|t| matches!(t.2, Table::Gather(_))) {
            push(Kernel::GatherGradient, vec![table, slot, u.gradient], over(slot));
        }
        if let Some((sums, norm)) = u.norm {
            push(Kernel::SquareSum, vec![u.gradient, sums], (NORM_GROUPS, Extent::Fixed(1), 1));
            push(Kernel::Clip, vec![sums, norm, u.hyper], (1, Extent::Fixed(1), 1));
        }
        let kernel = match (u.m, u.v) {
            (None, _) => Kernel::UpdateSgd,
            (_, None) => Kernel::UpdateMomentum,
            _ => Kernel::UpdateAdam,
        };
        let slots = [u.hyper, u.gradient, u.parameters].into_iter().chain(u.m).chain(u.v).collect();
        push(kernel, slots, over(u.parameters));
        for &(table, slot, _) in u.tables.iter().filter(|t| matches!(t.2, Table::Pack(..))) {
            push(Kernel::Pack, vec![table, u.parameters, slot], over(slot));
        }
        steps
    }
}

impl UpdateIds {
    /// What a dispatch's table says; `None` for kernels without one.
    pub(crate) fn table_of(&self, d: &Dispatch) -> Option<Table> {
        self.tables.iter().find(|t| t.0 == d.slots[0]).map(|t| t.2)
    }
}
