//! What would help where a file and what is asked of it do not fit: prefixes, cells, settings.

use crate::io::named::NamedTensors;
use crate::model::cell::Cell;
use crate::model::cells;
use crate::model::recurrence::Recurrence;
use crate::model::stack::{Bias, Direction, InputMode, RnnConfig};
use crate::model::weights::Names;
use std::collections::BTreeSet;

/// So many names are shown of a longer list.
const SHOWN: usize = 5;
/// So many characters are shown of a longer name.
const NAME: usize = 80;

/// What the name of a layer's parameter says: `weight_ih` of layer 0, reverse or not.
struct Parsed<'a> {
    kind: &'a str,
    layer: usize,
    reverse: bool,
}

/// Reads `weight_ih_l0_reverse`; `None` for what is no parameter of a layer. Kinds that this crate does not have, and endings,
/// count too: they are of the layer.
fn parsed(name: &str) -> Option<Parsed<'_>> {
    let at = name.match_indices("_l").map(|(at, _)| at).find(|at| {
        let (before, after) = (&name[..*at], &name[at + 2..]);
        let known =
            before == "gain" || ["weight_", "bias_"].iter().any(|k| before.len() > k.len() && before.starts_with(k));
        known && after.starts_with(|c: char| c.is_ascii_digit())
    })?;
    if name.contains('.') {
        return None;
    }
    let after = &name[at + 2..];
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    let layer = after[..digits].parse().unwrap_or(usize::MAX);
    Some(Parsed { kind: &name[..at], layer, reverse: &after[digits..] == "_reverse" })
}

/// Whether the name, without its prefix, is that of a layer's parameter.
pub(super) fn is_of_layers(name: &str) -> bool {
    parsed(name).is_some()
}

/// The first names of a list, and how many more there are.
pub(super) fn listed(names: &[impl AsRef<str>]) -> String {
    let shown: Vec<_> = names.iter().take(SHOWN).map(|n| shortened(n.as_ref())).collect();
    let more = match names.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(NAME) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.into(),
    }
}

/// The fields of `config` that would have the `unread` tensors read.
pub(super) fn settings(
    config: &RnnConfig,
    names: &Names<'_>,
    unread: &[String],
    shape: impl Fn(&str) -> Option<Vec<usize>>,
) -> String {
    let (mut set, mut layers, mut reverse, mut biases) = (Vec::new(), config.num_layers, false, [false; 2]);
    let mut once = |text: String| {
        if !set.contains(&text) {
            set.push(text);
        }
    };
    let rows = |name: &str| shape(name).and_then(|s| s.first().copied()).unwrap_or(0);
    for name in unread {
        if names.embedding == Some(name) {
            once(format!("vocabulary: Some({})", rows(name)));
        } else if names.head == Some(name) {
            once(format!("head: Some(Head {{ size: {}, .. }})", rows(name)));
        }
        let Some(Parsed { kind, layer, reverse: backwards }) = name.strip_prefix(names.layers).and_then(parsed) else {
            continue;
        };
        reverse |= backwards;
        layers = layers.max(layer.saturating_add(1));
        let with = |has: fn(&Cell) -> bool| {
            let cells = cells::ALL.iter().filter(|c| has(c) && c.input_gates() == config.cell.input_gates());
            format!("a cell that has {kind} ({})", cells.map(|c| c.name).collect::<Vec<_>>().join(", "))
        };
        match kind {
            "bias_ih" => biases[0] = true,
            "bias_hh" => biases[1] = true,
            "weight_hr" if config.proj_size == 0 => once(format!("proj_size: {}", rows(name))),
            "weight_ih" if config.skips_input(layer) => once(format!("input: InputMode::{:?}", InputMode::Linear)),
            "weight_unit" if config.cell.params.is_empty() => once(with(|c| !c.params.is_empty())),
            "gain" if !config.cell.normalises() => once(with(Cell::normalises)),
            _ => {}
        }
    }
    if layers > config.num_layers {
        once(format!("num_layers: {layers}"));
    }
    if reverse && config.directions() == 1 {
        once(format!("direction: Direction::{:?}", Direction::Bidirectional));
    }
    let bias = match (biases[0] || config.bias.has_input(), biases[1] || config.bias.has_recurrent()) {
        (true, true) => Bias::Two,
        (true, false) => Bias::One,
        (false, true) => Bias::Recurrent,
        (false, false) => Bias::None,
    };
    if bias != config.bias {
        once(format!("bias: Bias::{bias:?}"));
    }
    set.join(", ")
}

/// Shapes of layer 0, and what else tells cells apart.
pub(super) struct Shapes<'a> {
    pub w: &'a [usize],
    pub r: &'a [usize],
    pub projection: Option<Vec<usize>>,
    pub recurrence: Recurrence,
    /// Whether there are parameters per unit.
    pub unit: bool,
    /// Whether there are gains.
    pub gains: bool,
}

impl Shapes<'_> {
    /// H of `cell`; else the tensor that does not fit, what was expected and what was got.
    pub(super) fn hidden_size(&self, cell: &Cell) -> Result<usize, (&'static str, String, String)> {
        let (w, r) = (self.w, self.r);
        let (inputs, recurrents) = (cell.input_gates(), cell.recurrent_gates());
        let h = w[0].checked_div(inputs).unwrap_or(0);
        if h == 0 || !w[0].is_multiple_of(inputs) {
            let expected = format!("[{inputs}·H, I] for {}", cell.name);
            return Err(("weight_ih_l0", expected, format!("{w:?}{}", self.fitting())));
        }
        let rows = recurrents.saturating_mul(h);
        let columns = self.depth(h);
        if r[0] == rows && columns.is_none_or(|columns| r[1] == columns) {
            return match &self.projection {
                Some(p) if !cell.has_cell_state() || p.get(1) != Some(&h) => {
                    let expected = match cell.has_cell_state() {
                        true => format!("[P, H] = [{}, {h}] for {} with weight_ih_l0 {w:?}", r[1], cell.name),
                        false => format!("none, for {} has no projection", cell.name),
                    };
                    Err(("weight_hr_l0", expected, format!("{p:?}{}", self.fitting())))
                }
                _ => Ok(h),
            };
        }
        let (letter, columns) = match (&self.projection, self.recurrence) {
            (None, Recurrence::Dense) => ("H", h),
            (Some(_), Recurrence::Dense) => ("P", r[1]),
            (None, _) => ("H / heads", columns.unwrap_or(r[1])),
            (Some(_), _) => ("P / heads", columns.unwrap_or(r[1])),
        };
        let expected =
            format!("[{recurrents}·H, {letter}] = [{rows}, {columns}] for {} with weight_ih_l0 {w:?}", cell.name);
        let mut hint = self.fitting();
        if hint.is_empty() && r[0] == rows && r[1] < h && self.recurrence == Recurrence::Dense {
            hint = " (the columns may be those of a projection, but there is no weight_hr_l0; or of a recurrence that is not \
                    dense, but the header does not say so)"
                .into();
        }
        Err(("weight_hh_l0", expected, format!("{r:?}{hint}")))
    }

    /// The columns of R where there are `h` hidden units; `None` where R itself says it, or nothing fits.
    fn depth(&self, h: usize) -> Option<usize> {
        let state = match (&self.projection, self.recurrence) {
            (Some(_), Recurrence::Dense) => return None,
            (Some(projection), _) => projection.first().copied()?,
            (None, _) => h,
        };
        let heads = self.recurrence.heads(state);
        state.is_multiple_of(heads).then(|| state / heads)
    }

    /// The cells that these shapes fit.
    fn fitting(&self) -> String {
        let fits = |cell: &&'static Cell| {
            let parameters = (!cell.params.is_empty(), cell.normalises()) == (self.unit, self.gains);
            let h = self.w[0].checked_div(cell.input_gates()).unwrap_or(0);
            let whole = h > 0 && self.w[0].is_multiple_of(cell.input_gates());
            let rows = self.r[0] == cell.recurrent_gates().saturating_mul(h);
            let columns = self.depth(h).is_none_or(|columns| self.r[1] == columns);
            let projection = match &self.projection {
                Some(p) => cell.has_cell_state() && p.get(1) == Some(&h),
                None => true,
            };
            parameters && whole && rows && columns && projection
        };
        let cells: Vec<_> = cells::ALL.into_iter().filter(fits).collect();
        match cells.first() {
            Some(first) => {
                let names = cells.iter().map(|c| c.name).collect::<Vec<_>>().join(" or ");
                format!(" (the shapes fit {names} with hidden_size {})", self.w[0] / first.input_gates())
            }
            None => String::new(),
        }
    }
}

/// The prefixes that the file has, where it has nothing of a stack under `prefix`.
pub(super) fn prefix_hint(file: &impl NamedTensors, prefix: &str) -> String {
    let names = file.names();
    if names.iter().any(|n| n.strip_prefix(prefix).is_some_and(is_of_layers)) {
        return String::new();
    }
    let ends = |n: &'_ String| {
        let start = n.strip_suffix("weight_ih_l0").or_else(|| n.strip_suffix("weight_hh_l0"));
        start.map(shortened)
    };
    let mut found: BTreeSet<String> = names.iter().filter_map(ends).collect();
    let dotted = format!("{prefix}.");
    if found.contains(&dotted) {
        found = BTreeSet::from([dotted]);
    }
    let quoted: Vec<String> = found.iter().map(|p| format!("{p:?}")).collect();
    match quoted.as_slice() {
        [] => format!(" (no tensor of the file is a layer's weight_ih_l0; it has {})", listed_or_none(&names)),
        [one] => format!(" (did you mean the prefix {one}?)"),
        several => format!(" (did you mean one of the prefixes {}?)", listed(several)),
    }
}

/// Matrices that an embedding or a head could be.
pub(super) fn matrix_hint(file: &impl NamedTensors, columns: usize) -> String {
    let matrix = |n: &String| {
        let last = n.rsplit('.').next().unwrap_or(n);
        !is_of_layers(last) && file.shape(n).is_some_and(|s| s.len() == 2 && s[1] == columns)
    };
    let mut names: Vec<String> = file.names().into_iter().filter(matrix).collect();
    names.sort_unstable();
    match names.as_slice() {
        [] => String::new(),
        names => format!(" (matrices of so many columns: {})", listed(names)),
    }
}

/// The same, where a configuration asks for one of this shape.
pub(super) fn names_hint(file: &impl NamedTensors, shape: &[usize]) -> String {
    let hint = shape.last().map_or_else(String::new, |&columns| matrix_hint(file, columns));
    let help = "; Names { layers, embedding, head } say what they are called";
    if hint.is_empty() { hint } else { format!("{}{help})", hint.trim_end_matches(')')) }
}

fn listed_or_none(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { listed(names) }
}
