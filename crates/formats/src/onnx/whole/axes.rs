//! What the axes of a model's inputs count: guessed at first, then learned where nodes read them.
//!
//! A lowering that finds a guess wrong ends with what it has learned ([`Stop::Learn`]), and begins again.

use super::Shaped;
use super::lower::{Input, Lowering};
use super::value::{Axis, Kind, Laid};
use std::collections::{HashMap, HashSet};
use wgpu_rnn::{Error, Shape};

/// Why a lowering ends before its end.
pub enum Stop {
    /// It is known now what an axis of an input counts, and it was taken for something else: begin again.
    Learn(Vec<(Place, Kind)>),
    /// The recurrent node of that name joined a stack whose inner values something reads: begin again with a stack of its own.
    Apart(String),
    Fail(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Fail(error)
    }
}

pub type Made<T> = std::result::Result<T, Stop>;

/// An axis of an input.
pub type Place = (usize, usize);

/// What is known of a model before its first node.
#[derive(Default)]
pub struct Facts {
    /// What axes of inputs count.
    axes: HashMap<Place, Kind>,
    /// Recurrent nodes that begin a stack of their own.
    apart: HashSet<String>,
    /// Sequences have no steps: zeros are what recurrent nodes give.
    pub without_steps: bool,
}

impl Facts {
    pub fn new(without_steps: bool) -> Self {
        Self { without_steps, ..Self::default() }
    }

    /// Whether it is known what an axis counts.
    pub fn knows(&self, place: Place) -> bool {
        self.axes.contains_key(&place)
    }

    /// Whether a recurrent node begins a stack of its own, whatever it reads.
    pub fn keeps_apart(&self, node: &str) -> bool {
        self.apart.contains(node)
    }

    /// With what a lowering has learned.
    ///
    /// # Errors
    /// That of a lowering that failed.
    pub fn learn(&mut self, stop: Stop) -> Result<(), Error> {
        match stop {
            Stop::Learn(learned) => self.axes.extend(learned),
            Stop::Apart(node) => drop(self.apart.insert(node)),
            Stop::Fail(error) => return Err(error),
        }
        Ok(())
    }
}

impl Shaped {
    /// Whether it looks like steps: numbers per step, or ids and masks.
    fn of_steps(&self) -> bool {
        self.shape.len() >= 3 || self.shape.len() == 2 && !self.element.is_real()
    }
}

/// What every axis of the inputs counts, as far as it is known, and T and B; `recurrent`: something runs over steps.
pub fn guess(given: &[Shaped], facts: &Facts, recurrent: bool) -> (Vec<Input>, Shape) {
    let steps = |value: &&Shaped| recurrent && value.of_steps();
    let known = |kind: Kind| {
        let mut of = facts.axes.iter().filter(|(_, k)| **k == kind).map(|((n, axis), _)| given[*n].shape[*axis]);
        of.next()
    };
    let first = given.iter().find(steps).or_else(|| given.iter().find(|value| !value.shape.is_empty()));
    // Of the first that looks like steps, if its second axis is not known for something else.
    let second = given.iter().position(|value| steps(&value)).filter(|&n| !facts.knows((n, 1)));
    let time = known(Kind::Time).or(second.map(|n| given[n].shape[1])).unwrap_or(1);
    let batch = known(Kind::Batch).or(first.map(|value| value.shape[0])).unwrap_or(1);
    let kind = |n: usize, axis: usize| {
        let value = &given[n];
        let taken = |kind: Kind| facts.axes.iter().any(|((input, _), k)| *input == n && *k == kind);
        match facts.axes.get(&(n, axis)) {
            _ if value.shape[axis] == 1 => Kind::Columns,
            Some(kind) => *kind,
            None if axis == 0 && value.shape[0] == batch && !taken(Kind::Batch) => Kind::Batch,
            None if axis == 1 && steps(&value) && value.shape[1] == time && !taken(Kind::Time) => Kind::Time,
            None => Kind::Columns,
        }
    };
    let inputs = given.iter().enumerate().map(|(n, value)| {
        let axis = |axis: usize| Axis { size: value.shape[axis], kind: kind(n, axis), from: Some((n, axis)) };
        let axes = (0..value.shape.len()).map(axis).collect();
        Input { name: value.name.clone(), element: value.element, axes }
    });
    let inputs: Vec<Input> = inputs.collect();
    // What no input counts there is one of.
    let counted = |kind: Kind, size: usize| {
        let any = inputs.iter().flat_map(|input| &input.axes).any(|axis| axis.kind == kind);
        if any { size } else { 1 }
    };
    let shape = Shape { time: counted(Kind::Time, time), batch: counted(Kind::Batch, batch) };
    (inputs, shape)
}

impl Lowering<'_> {
    /// Takes an axis for what it must be, if that can be.
    ///
    /// # Errors
    /// [`Stop::Learn`] where it is an input's that was taken for something else.
    pub fn want(&self, laid: &Laid, wanted: &[(usize, Kind)]) -> Made<()> {
        let mut learned = Vec::new();
        let (mut refused, mut one_step) = (None, false);
        for &(n, kind) in wanted {
            let axis = laid.axes[n];
            let all = match kind {
                Kind::Time => self.shape.time,
                Kind::Batch => self.shape.batch,
                _ => axis.size,
            };
            let fits = axis.size == all && (axis.kind == kind || axis.size == 1);
            // What is known of one axis holds for all: a network has one T and one B.
            let settled = axis.size != all && self.facts.axes.values().any(|known| *known == kind);
            match axis.from {
                _ if fits => {}
                Some(place) if !settled && !self.facts.knows(place) && axis.size != 1 => learned.push((place, kind)),
                _ => {
                    one_step |= kind == Kind::Time && axis.size == 1;
                    let reason = format!("it must count {kind:?}, and the value is {}", laid.axes_in_words());
                    refused.get_or_insert(Error::Unsupported { what: format!("axis {n}"), reason });
                }
            }
        }
        // Where there is one step, T may have been guessed out of an axis that counts something else.
        let guessed = if one_step && learned.is_empty() { self.guessed_steps() } else { Vec::new() };
        // What is learned of one axis may make another fit.
        learned.extend(guessed);
        match refused {
            _ if !learned.is_empty() => Err(Stop::Learn(learned)),
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Axes that are guessed to count steps while it is known of none, as what they may count else.
    fn guessed_steps(&self) -> Vec<(Place, Kind)> {
        if self.facts.axes.values().any(|known| *known == Kind::Time) {
            return Vec::new();
        }
        let kind = |size: usize| if size == self.shape.batch { Kind::Batch } else { Kind::Columns };
        let axes = self.inputs.iter().flat_map(|input| &input.axes).filter(|axis| axis.kind == Kind::Time);
        axes.filter_map(|axis| Some((axis.from?, kind(axis.size)))).collect()
    }

    /// Learns which of two axes was taken for the wrong thing.
    pub fn agree(&self, a: Axis, b: Axis, at: usize) -> Made<()> {
        let open = |axis: &Axis| axis.from.filter(|place| !self.facts.knows(*place));
        match (open(&a), open(&b)) {
            // Columns of one are sequences if they are that in the other.
            (Some(place), _) if a.kind == Kind::Columns && b.kind == Kind::Batch => {
                Err(Stop::Learn(vec![(place, b.kind)]))
            }
            (_, Some(place)) => Err(Stop::Learn(vec![(place, a.kind)])),
            (Some(place), None) => Err(Stop::Learn(vec![(place, b.kind)])),
            (None, None) => {
                let reason = format!("axis {at} counts {:?} in one and {:?} in the other", a.kind, b.kind);
                Err(Error::Unsupported { what: "values side by side".into(), reason }.into())
            }
        }
    }
}
