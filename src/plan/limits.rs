//! What a device cannot hold is refused here, before anything is made.

use super::build::{cell_dim, depth, weight_bytes};
use super::display::dims_text;
use super::{Caps, DeviceClass, Dispatch, Extent, Options, Plan, Role, Slot, Step};
use crate::error::{Error, Result};
use crate::kernels::weight_offsets;
use crate::model::stack::{RnnConfig, Shape};

impl Plan {
    /// Every slot within a binding and a buffer, every grid within the workgroup limit.
    pub(super) fn check_limits(&self) -> Result<()> {
        self.slots.iter().try_for_each(|slot| check_slot(slot, &self.caps))?;
        let rows = self.shape.time as u64 * self.shape.batch as u64;
        if rows >= u64::from(u32::MAX) / 2 {
            return Err(Error::Limit {
                what: "T·B rows".into(),
                needs: rows,
                limit: u64::from(u32::MAX) / 2,
                unit: "rows",
                limit_name: "the 32-bit row index",
                hint: String::new(),
            });
        }
        if self.shape.batch > self.caps.max_workgroups {
            return Err(Error::Limit {
                what: format!("B = {}", self.shape.batch),
                needs: self.shape.batch as u64,
                limit: self.caps.max_workgroups as u64,
                unit: "workgroups",
                limit_name: "the device's max_compute_workgroups_per_dimension",
                hint: "; split the batch".into(),
            });
        }
        // Memory is one for all slots on the CPU; what a GPU has in all, no API tells.
        if self.caps.class == DeviceClass::Cpu && self.bytes() > self.caps.max_buffer {
            return Err(Error::Limit {
                what: format!("all slots for T = {}, B = {}", self.shape.time, self.shape.batch),
                needs: self.bytes(),
                limit: self.caps.max_buffer,
                unit: "bytes",
                limit_name: MEMORY,
                hint: SMALLER.into(),
            });
        }
        self.check_grids()
    }

    /// Grids over rows, where all sequences have T steps.
    fn check_grids(&self) -> Result<()> {
        for step in self.steps.iter().chain(&self.backward) {
            let Step::Once(Dispatch { kernel, groups: (_, extent, _), dims, .. }) = step else { continue };
            let dims = &self.dims[*dims];
            let groups = match extent {
                Extent::Fixed(n) => *n,
                Extent::Rows(per) => ((dims.end - dims.first) as usize * self.shape.batch).div_ceil(*per),
                Extent::SegmentRows(per) => (self.segment * self.shape.batch).div_ceil(*per),
                _ => continue,
            };
            if groups > self.caps.max_workgroups {
                return Err(Error::Limit {
                    what: kernel.name().into(),
                    needs: groups as u64,
                    limit: self.caps.max_workgroups as u64,
                    unit: "workgroups",
                    limit_name: "the device's max_compute_workgroups_per_dimension",
                    hint: "; use checkpoints, fewer steps per call (carry the state) or fewer sequences".into(),
                });
            }
        }
        Ok(())
    }
}

/// Name of the one limit of the CPU executor.
pub(super) const MEMORY: &str = "this machine's memory";
/// What helps where x, y or `pre` is too large.
const SMALLER: &str = "; run fewer steps per call (carry the state) or fewer sequences";

/// A slot within a binding and a buffer.
fn check_slot(slot: &Slot, caps: &Caps) -> Result<()> {
    let (limit, limit_name) = if caps.class == DeviceClass::Cpu {
        (caps.max_buffer, MEMORY)
    } else if slot.bytes() > caps.max_binding {
        (caps.max_binding, "the device's max_storage_buffer_binding_size")
    } else {
        (caps.max_buffer, "the device's max_buffer_size")
    };
    if slot.bytes() <= limit {
        return Ok(());
    }
    let hint = match slot.role {
        Role::Weights | Role::Parameters | Role::Table => String::new(),
        _ => SMALLER.into(),
    };
    let what = format!("slot {} {}", slot.name, dims_text(slot));
    Err(Error::Limit { what, needs: slot.bytes(), limit, unit: "bytes", limit_name, hint })
}

/// Refuses what no choice can make fit, before anything is counted or made: past this, products of sizes stay within their
/// types, and the lists of slots and steps within memory.
pub(super) fn check_sizes(config: &RnnConfig, shape: Shape, caps: &Caps, options: &Options) -> Result<()> {
    let (d, stacked) = (config.directions(), config.num_layers * config.directions());
    if stacked > caps.max_workgroups {
        return Err(Error::Limit {
            what: format!("L·D = {stacked}"),
            needs: stacked as u64,
            limit: caps.max_workgroups as u64,
            unit: "workgroups",
            limit_name: "the device's max_compute_workgroups_per_dimension",
            hint: "; use fewer layers".into(),
        });
    }
    let (outer, inner) = match config.layout {
        crate::model::stack::Layout::TimeMajor => (("T", shape.time), ("B", shape.batch)),
        crate::model::stack::Layout::BatchFirst => (("B", shape.batch), ("T", shape.time)),
    };
    let (b, d, stacked) = (("B", shape.batch), ("D", d), ("L·D", stacked));
    let (hidden, output) = (config.hidden_size, config.state_size());
    let format = options.weight_storage(caps);
    let (depth, width) = (depth(format, config.weight_columns(0)), config.cell.input_gates() * hidden);
    let packed = weight_offsets(&config.stages(), format).total;
    let check = |name: &str, role, dims: &[(&'static str, usize)]| {
        let element = match role {
            Role::Weights => weight_bytes(format, options.precision),
            _ if matches!(name, "x" | "y") => options.activation_bytes(caps),
            _ => options.precision.bytes(),
        };
        check_slot(&Slot { name: name.into(), dims: dims.to_vec(), role, element }, caps)
    };
    check("x", Role::Input, &[outer, inner, ("I", config.input_size)])?;
    if options.keep_y || config.head.is_some() || config.num_layers > 1 {
        check("y", Role::Output, &[outer, inner, ("D·P", d.1 * output)])?;
    }
    check("h0", Role::Input, &[stacked, b, ("P", output)])?;
    if config.cell.has_cell_state() {
        check("c0", Role::Input, &[stacked, b, cell_dim(config)])?;
    }
    check("w.l0", Role::Weights, &[d, depth, ("G·H", width), ("k", 4)])?;
    check("r.l0", Role::Weights, &[d, ("packed", packed), ("k", 4)])
}
