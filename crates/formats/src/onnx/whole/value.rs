//! Where an ONNX value lies in the network: which of its axes are steps, sequences and columns.
//!
//! A network's value has a row for every step of every sequence, or one for every sequence, and columns in the row. An ONNX value has axes.
//! [`Laid`] says which axis is which, and where every column is; so operators that only name axes anew, reorder columns or pick some of them
//! cost nothing.

use super::super::constant::{Constant, count};
use super::super::fold::{Places, strides};
use crate::element::Element;
use wgpu_rnn::network::Rows;
use wgpu_rnn::{Error, Result};

/// What an axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Steps.
    Time,
    /// Sequences.
    Batch,
    /// Columns of a row. So does every axis of size 1.
    Columns,
    /// Steps and sequences as one axis.
    Both {
        time: usize,
        batch: usize,
        /// Neighbours are sequences of a step.
        time_first: bool,
    },
}

/// An axis of an ONNX value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    pub size: usize,
    pub kind: Kind,
    /// The axis of which input it still is: what it counts can be learned from what is done with it.
    pub from: Option<(usize, usize)>,
}

impl Axis {
    pub fn columns(size: usize) -> Self {
        Self { size, kind: Kind::Columns, from: None }
    }
}

/// Where a column of a value is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Column {
    /// Which source, and which of its columns.
    Of(u32, u32),
    /// The same number in every row.
    Number(f64),
}

/// A value that a run gives.
#[derive(Clone, Debug)]
pub struct Laid {
    pub element: Element,
    /// In ONNX's order. One is of steps and one of sequences at most.
    pub axes: Vec<Axis>,
    /// In row-major order of the axes of columns.
    pub columns: Vec<Column>,
    /// What its sources have a row for.
    pub rows: Rows,
    /// Its sequences are in the order of their lengths, the longest first, not in that of the inputs.
    pub sorted: bool,
    /// Its steps are in reverse order.
    pub reversed: bool,
}

/// A value while a graph becomes a network.
#[derive(Clone, Debug)]
pub enum Value {
    Constant(Constant),
    Laid(Laid),
    /// Which sequence is where when they are sorted by length, or the way back: a list of B numbers that the network never needs.
    Order {
        back: bool,
    },
}

impl Laid {
    pub fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.size).collect()
    }

    pub fn axis_of(&self, kind: Kind) -> Option<usize> {
        self.axes.iter().position(|axis| axis.kind == kind)
    }

    /// The sizes of the axes of columns alone; 1 for others.
    fn column_shape(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| if axis.kind == Kind::Columns { axis.size } else { 1 }).collect()
    }

    /// With other columns.
    pub fn with(&self, axes: Vec<Axis>, columns: Vec<Column>) -> Self {
        Self { axes, columns, ..self.clone() }
    }

    /// The axes in another order.
    pub fn transposed(&self, order: &[usize]) -> Self {
        let shape = self.column_shape();
        let own = strides(&shape);
        let sizes: Vec<usize> = order.iter().map(|&n| shape[n]).collect();
        let places = Places::new(&sizes, 0, order.iter().map(|&n| own[n] as isize).collect());
        let columns = places.map(|at| self.columns[at]).collect();
        self.with(order.iter().map(|&n| self.axes[n]).collect(), columns)
    }

    /// The columns at some places along an axis of columns.
    pub fn picked(&self, axis: usize, places: &[usize]) -> Self {
        let shape = self.column_shape();
        let inner: usize = shape[axis + 1..].iter().product();
        let outer: usize = shape[..axis].iter().product();
        let step = shape[axis] * inner;
        let at = (0..outer).flat_map(|o| places.iter().map(move |&p| o * step + p * inner)).flat_map(|f| f..f + inner);
        let columns = at.map(|at| self.columns[at]).collect();
        let mut axes = self.axes.clone();
        axes[axis] = Axis::columns(places.len());
        self.with(axes, columns)
    }

    /// Columns repeated to a shape with as many axes, of which those of steps and sequences stay.
    pub fn repeated(&self, sizes: &[usize]) -> Self {
        let (from, mut to) = (self.column_shape(), sizes.to_vec());
        let mut axes = self.axes.clone();
        for ((axis, size), own) in axes.iter_mut().zip(&mut to).zip(&from) {
            match axis.kind {
                Kind::Columns => axis.size = *size,
                _ => *size = *own,
            }
        }
        let columns = Places::repeated(&from, &to).map(|at| self.columns[at]).collect();
        self.with(axes, columns)
    }

    /// The same rows and columns with other axes: those of steps and sequences must be whole in both shapes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where they are not: a shape that mixes steps with columns.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Self> {
        if count(&self.shape()) != count(shape) {
            return Err(Error::mismatch(
                "shape",
                format!("as many values as {:?}", self.shape()),
                format!("{shape:?}"),
            ));
        }
        let mut axes = Vec::new();
        let mut rest = self.axes.iter().filter(|axis| axis.size != 1).peekable();
        let mut sizes = shape.iter().copied().peekable();
        let mixed = || {
            let reason = format!("it mixes axes of steps or sequences with others, from {:?}", self.axes_in_words());
            Error::Unsupported { what: format!("the shape {shape:?}"), reason }
        };
        // Groups of axes that have the same number of values before and behind.
        while sizes.peek().is_some() {
            let mut group = vec![sizes.next().unwrap_or(1)];
            if group == [1] {
                axes.push(Axis::columns(1));
                continue;
            }
            let Some(first) = rest.next() else { return Err(mixed()) };
            let mut own = vec![*first];
            let (mut before, mut behind) = (first.size, group[0]);
            while before != behind {
                if before < behind {
                    let axis = rest.next().ok_or_else(mixed)?;
                    before = before.saturating_mul(axis.size);
                    own.push(*axis);
                } else {
                    let size = sizes.next().ok_or_else(mixed)?;
                    behind = behind.saturating_mul(size);
                    group.push(size);
                }
            }
            match &own[..] {
                // Sizes of 1 that were taken along the way are columns.
                // Steps and sequences as one axis, and apart again.
                [a, b]
                    if group.len() == 1 && [Kind::Time, Kind::Batch].iter().all(|k| [a.kind, b.kind].contains(k)) =>
                {
                    let time_first = a.kind == Kind::Time;
                    let (time, batch) = if time_first { (a.size, b.size) } else { (b.size, a.size) };
                    let kind = Kind::Both { time, batch, time_first };
                    axes.push(Axis { size: group[0], kind, from: None });
                }
                [Axis { kind: Kind::Both { time, batch, time_first }, .. }] if group.len() > 1 => {
                    let apart = if *time_first {
                        [(*time, Kind::Time), (*batch, Kind::Batch)]
                    } else {
                        [(*batch, Kind::Batch), (*time, Kind::Time)]
                    };
                    let mut apart = apart.into_iter();
                    for &size in &group {
                        let kind = if size == 1 {
                            Kind::Columns
                        } else {
                            let (own, kind) = apart.next().ok_or_else(mixed)?;
                            if own != size {
                                return Err(mixed());
                            }
                            kind
                        };
                        axes.push(Axis { size, kind, from: None });
                    }
                }
                [one] if group.iter().filter(|&&size| size != 1).count() == 1 => {
                    axes.extend(group.iter().map(|&size| if size == 1 { Axis::columns(1) } else { *one }));
                }
                own if own.iter().all(|axis| axis.kind == Kind::Columns) => {
                    axes.extend(group.iter().map(|&size| Axis::columns(size)));
                }
                _ => return Err(mixed()),
            }
        }
        if rest.next().is_some() {
            return Err(mixed());
        }
        Ok(self.with(axes, self.columns.clone()))
    }

    /// `[B=3, T=7, 4]`
    pub fn axes_in_words(&self) -> String {
        let axis = |axis: &Axis| match axis.kind {
            Kind::Time => format!("T={}", axis.size),
            Kind::Batch => format!("B={}", axis.size),
            Kind::Both { .. } => format!("T·B={}", axis.size),
            Kind::Columns => axis.size.to_string(),
        };
        format!("[{}]", self.axes.iter().map(axis).collect::<Vec<_>>().join(", "))
    }

    /// For a tensor of its shape: how far apart steps and sequences are (0 without), and where every column is.
    pub fn places(&self) -> LaidPlaces {
        let all = strides(&self.shape());
        let step = |kind: Kind| {
            let of_both = self.axes.iter().zip(&all).find_map(|(axis, &step)| match axis.kind {
                Kind::Both { batch, time_first: true, .. } if kind == Kind::Time => Some(step * batch),
                Kind::Both { time, time_first: false, .. } if kind == Kind::Batch => Some(step * time),
                Kind::Both { .. } => Some(step),
                _ => None,
            });
            self.axis_of(kind).map(|n| all[n]).or(of_both).unwrap_or(0)
        };
        let shape = self.column_shape();
        let steps = (0..shape.len()).map(|n| if shape[n] == 1 { 0 } else { all[n] as isize }).collect();
        LaidPlaces {
            time: step(Kind::Time),
            batch: step(Kind::Batch),
            columns: Places::new(&shape, 0, steps).collect(),
        }
    }
}

/// Where rows and columns are in a tensor with ONNX's axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaidPlaces {
    pub time: usize,
    pub batch: usize,
    pub columns: Vec<usize>,
}

impl LaidPlaces {
    pub fn at(&self, t: usize, b: usize, column: usize) -> usize {
        t * self.time + b * self.batch + self.columns[column]
    }
}
