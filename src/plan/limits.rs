//! What a device cannot hold is refused here, before anything is made.

use super::display::dims_text;
use super::{Caps, Dispatch, Extent, Plan, Precision, Role, Slot, Step};
use crate::config::{RnnConfig, Shape};
use crate::error::{Error, Result};
use crate::kernels::weight_offsets;

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
                limit_name: "u32 row index",
                hint: String::new(),
            });
        }
        if self.shape.batch > self.caps.max_workgroups {
            return Err(Error::Limit {
                what: "B workgroups".into(),
                needs: self.shape.batch as u64,
                limit: self.caps.max_workgroups as u64,
                limit_name: "max_compute_workgroups_per_dimension",
                hint: "; split the batch".into(),
            });
        }
        self.check_grids()
    }

    /// Grids that cover all rows at once, as only the backward pass has them.
    fn check_grids(&self) -> Result<()> {
        for step in &self.backward {
            let Step::Once(Dispatch { kernel, groups: (_, Extent::Fixed(n), _), .. }) = step else { continue };
            if *n > self.caps.max_workgroups {
                return Err(Error::Limit {
                    what: format!("{} workgroups", kernel.name()),
                    needs: *n as u64,
                    limit: self.caps.max_workgroups as u64,
                    limit_name: "max_compute_workgroups_per_dimension",
                    hint: "; run fewer steps per call (carry the state) or fewer sequences".into(),
                });
            }
        }
        Ok(())
    }
}

fn check_slot(slot: &Slot, caps: &Caps) -> Result<()> {
    let (limit, limit_name) = if slot.bytes() > caps.max_binding {
        (caps.max_binding, "max_storage_buffer_binding_size")
    } else {
        (caps.max_buffer, "max_buffer_size")
    };
    if slot.bytes() <= limit {
        return Ok(());
    }
    let hint = match slot.role {
        Role::Weights => String::new(),
        _ => "; run fewer steps per call (carry the state) or fewer sequences".into(),
    };
    let what = format!("slot {} {}", slot.name, dims_text(slot));
    Err(Error::Limit { what, needs: slot.bytes(), limit, limit_name, hint })
}

/// Refuses what no choice can make fit, before anything is counted or made: past this, products of sizes stay within their
/// types, and the lists of slots and steps within memory.
pub(super) fn check_sizes(config: &RnnConfig, shape: Shape, caps: &Caps, precision: Precision) -> Result<()> {
    let (d, stacked) = (config.directions(), config.num_layers * config.directions());
    let most = caps.max_workgroups.min(MAX_STACKED);
    if stacked > most {
        return Err(Error::Limit {
            what: "L·D workgroups".into(),
            needs: stacked as u64,
            limit: most as u64,
            limit_name: "max_compute_workgroups_per_dimension",
            hint: "; use fewer layers".into(),
        });
    }
    let (outer, inner) = match config.layout {
        crate::config::Layout::TimeMajor => (("T", shape.time), ("B", shape.batch)),
        crate::config::Layout::BatchFirst => (("B", shape.batch), ("T", shape.time)),
    };
    let (b, d, stacked) = (("B", shape.batch), ("D", d), ("L·D", stacked));
    let (hidden, output) = (config.hidden_size, config.state_size());
    let (depth, width) = (config.input_size.div_ceil(4) + 1, config.cell.input_gates() * hidden);
    let packed = weight_offsets(&config.stages()).total;
    let check = |name: &str, role, dims: &[(&'static str, usize)]| {
        check_slot(&Slot { name: name.into(), dims: dims.to_vec(), role, element: precision.bytes() }, caps)
    };
    check("x", Role::Input, &[outer, inner, ("I", config.input_size)])?;
    check("y", Role::Output, &[outer, inner, ("D·P", d.1 * output)])?;
    check("h0", Role::Input, &[stacked, b, ("P", output)])?;
    if config.cell.has_cell_state() {
        check("c0", Role::Input, &[stacked, b, ("H", hidden)])?;
    }
    check("w.l0", Role::Weights, &[d, ("I/4+1", depth), ("G·H", width), ("k", 4)])?;
    check("r.l0", Role::Weights, &[d, ("packed", packed), ("k", 4)])
}

/// Layers times directions beyond this are refused on any device.
const MAX_STACKED: usize = 65_535;
