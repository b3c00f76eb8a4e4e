//! Zoneout in WGSL: functions around the cell's own ([`crate::zoneout`] tells what they do), and how much a unit keeps.

use super::{Kernel, Variant};
use crate::model::cell::Initial;
use crate::model::stack::{Direction, RnnConfig, StageShape};
use crate::num::random::{MaskKind, threshold};
use std::fmt::Write as _;

/// What every kernel that evaluates the cell may call before it does.
const NOTHING: &str = "const ZONEOUT: bool = false;\n\nfn use_zone(direction: u32, s: u32, b: u32, unit: u32) {\n}\n";

/// Whether a kernel holds the cell's text.
fn has_cell(kernel: Kernel) -> bool {
    kernel.calls_cell() || kernel == Kernel::CarryGradient
}

/// Whether it draws masks.
pub(super) fn draws(config: &RnnConfig, variant: &Variant) -> bool {
    config.zones() && variant.train && has_cell(variant.kernel)
}

/// The cell's text under other names, where its functions are wrapped.
pub(super) fn renamed(config: &RnnConfig, text: String) -> String {
    if !config.zones() {
        return text;
    }
    let names = [("fn forward_", "fn cell_forward_"), ("fn backward_", "fn cell_backward_"), ("STATES", "CELL_STATES")];
    let types = [("Forward", "CellForward"), ("Backward_", "CellBackward_")];
    names.into_iter().chain(types).fold(text, |text, (from, to)| text.replace(from, to))
}

/// The wrappers of every stage.
pub(super) fn parts(config: &RnnConfig, stages: &[StageShape], variant: &Variant) -> String {
    match (has_cell(variant.kernel), config.zones()) {
        (false, _) => String::new(),
        (true, false) => NOTHING.into(),
        (true, true) => {
            let mut text = shares(config, variant.train);
            text.push_str(&cell_types(config, stages));
            (0..stages.len()).for_each(|n| text.push_str(&wrapped(config, stages, n)));
            text
        }
    }
}

/// How much a unit keeps (masks of 0 and 1 in training, where they are on, else the expectation), and the mix. A kept value keeps
/// its bits, and the expectation is one expression in both kinds of plans, so that drivers make the same of it.
fn shares(config: &RnnConfig, train: bool) -> String {
    let zoneout = config.zoneout;
    let mut text = String::from("const ZONEOUT: bool = true;\n");
    let mut draws = String::new();
    for (name, kind, p) in
        [("hidden", MaskKind::ZoneoutHidden, zoneout.hidden), ("cell", MaskKind::ZoneoutCell, zoneout.cell)]
    {
        let _ = writeln!(text, "const ZONEOUT_{}: real = {:e};", name.to_uppercase(), f64::from(p));
        let mean = format!("fma(ZONEOUT_{}, old - made, made)", name.to_uppercase());
        let mixed = match train {
            true => format!("select({mean}, select(made, old, zone_{name} == 1.0), zone_masks)"),
            false => mean,
        };
        let variable = if train { "var<private>" } else { "const" };
        let value = if train { String::new() } else { format!(" = {:e}", f64::from(p)) };
        let _ = write!(
            text,
            "{variable} zone_{name}: real{value};\n\n\
             fn zoned_{name}(old: real, made: real) -> real {{\n    return {mixed};\n}}\n\n"
        );
        draws.push_str(&draw(name, kind, p));
    }
    if !train {
        text.push_str("fn use_zone(direction: u32, s: u32, b: u32, unit: u32) {\n}\n");
        return text;
    }
    let reverse = match config.direction {
        Direction::Forward => "false",
        Direction::Reverse => "true",
        Direction::Bidirectional => "direction == 1u",
    };
    let _ = write!(
        text,
        "var<private> zone_masks: bool;\n\n\
         // Sets what unit `unit` of sorted sequence b keeps at step s.\n\
         fn use_zone(direction: u32, s: u32, b: u32, unit: u32) {{\n    \
         zone_masks = run_word(2u) != 0u;\n    \
         let t = select(s, length_of(b) - 1u - s, {reverse});\n    \
         let place = dims.layer * DIRECTIONS + direction;\n{draws}}}\n"
    );
    text
}

/// Draws one of the two shares.
fn draw(name: &str, kind: MaskKind, p: f32) -> String {
    if p == 0.0 {
        return String::new();
    }
    let (kind, place) = kind.tag();
    format!(
        "    zone_{name} = ZONEOUT_{};\n    \
         if zone_masks {{\n        \
         let words = mask_words({kind}u, place + {place}u, order_of(b), t, unit / 4u);\n        \
         zone_{name} = select(0.0, 1.0, (words[unit % 4u] >> 8u) < {}u);\n    }}\n",
        name.to_uppercase(),
        threshold(p),
    )
}

/// What the cell's own functions take and give: only its own states.
fn cell_types(config: &RnnConfig, stages: &[StageShape]) -> String {
    let own = config.cell.states.len().max(1);
    let list: Vec<String> = (0..own).map(|i| format!("state[{i}]")).collect();
    let mut text = format!(
        "\nconst CELL_STATES: u32 = {own}u;\n\n\
         struct CellForward {{\n    state: array<real, CELL_STATES>,\n    out: real,\n}}\n\n\
         fn cell_part(state: array<real, STATES>) -> array<real, CELL_STATES> {{\n    \
         return array<real, CELL_STATES>({});\n}}\n",
        list.join(", ")
    );
    for n in 0..stages.len() {
        let _ = write!(
            text,
            "\nstruct CellBackward_{n} {{\n    pre: array<real, PRE_{n}>,\n    state: array<real, CELL_STATES>,\n    \
             unit: array<real, UNIT_{n}>,\n}}\n"
        );
    }
    text
}

/// One stage's functions as the kernels call them.
fn wrapped(config: &RnnConfig, stages: &[StageShape], n: usize) -> String {
    let (own, states) = (config.cell.states.len(), config.states());
    let (zones_h, zones_c) =
        (n + 1 == stages.len() && config.zoneout.hidden > 0.0, n == 0 && config.zoneout.cell > 0.0);
    let mut after = Vec::new();
    let (mut given, mut back) = (Vec::new(), Vec::new());
    for (i, state) in states.iter().enumerate() {
        let zoned_h = zones_h && state.initial == Initial::Hidden;
        let zoned_c = zones_c && state.initial == Initial::Cell;
        after.push(match (zoned_h, zoned_c) {
            (true, _) => "out".into(),
            (_, true) => format!("zoned_cell(state[{i}], made.state[{i}])"),
            _ if i < own => format!("made.state[{i}]"),
            _ => format!("state[{i}]"),
        });
        if i < own {
            given.push(match (zoned_h, zoned_c) {
                (true, _) => "0.0".into(),
                (_, true) => format!("(1.0 - zone_cell) * d_state[{i}]"),
                _ => format!("d_state[{i}]"),
            });
        }
        back.push(match (zoned_h, zoned_c) {
            (true, _) if i < own => format!("fma(zone_hidden, d_h, back.state[{i}])"),
            (true, _) => "zone_hidden * d_h".into(),
            (_, true) => format!("fma(zone_cell, d_state[{i}], back.state[{i}])"),
            _ if i < own => format!("back.state[{i}]"),
            _ => format!("d_state[{i}]"),
        });
    }
    // WGSL has no empty arrays: a cell without states has one that nothing reads.
    let pad = |list: &mut Vec<String>| list.extend(list.is_empty().then(|| "0.0".to_string()));
    [&mut after, &mut given, &mut back].into_iter().for_each(pad);
    let h = states.iter().position(|s| s.initial == Initial::Hidden).unwrap_or(0);
    let (out, d_out, d_h) = match zones_h {
        true => (
            format!("zoned_hidden(state[{h}], made.out)"),
            "(1.0 - zone_hidden) * d_h",
            format!("    let d_h = d_out + d_state[{h}];\n"),
        ),
        false => ("made.out".into(), "d_out", String::new()),
    };
    let arguments = format!("pre: array<real, PRE_{n}>, state: array<real, STATES>, unit: array<real, UNIT_{n}>");
    format!(
        "\nfn forward_{n}({arguments}) -> Forward {{\n    \
         let made = cell_forward_{n}(pre, cell_part(state), unit);\n    \
         let out = {out};\n    \
         return Forward(array<real, STATES>({}), out);\n}}\n\n\
         fn backward_{n}({arguments}, d_out: real, d_state: array<real, STATES>) -> Backward_{n} {{\n{d_h}    \
         let given = array<real, CELL_STATES>({});\n    \
         let back = cell_backward_{n}(pre, cell_part(state), unit, {d_out}, given);\n    \
         return Backward_{n}(back.pre, array<real, STATES>({}), back.unit);\n}}\n",
        after.join(", "),
        given.join(", "),
        back.join(", "),
    )
}
