//! Columns, wherever they are, as what the network's operations read: neighbouring columns of one value.

use super::super::constant::Constant;
use super::super::fold::Places;
use super::axes::{Made, Stop};
use super::lower::{Fixed, Lowering, Source};
use super::value::{Axis, Column, Kind, Laid, Value};
use crate::element::Element;
use std::collections::HashMap;
use wgpu_rnn::expr::Expr;
use wgpu_rnn::network::{Operand, Part, Pooling, Rows};
use wgpu_rnn::{Error, Result};

/// Neighbouring columns that are copied piece by piece, at most; more pieces are picked by a product.
const MOST_PIECES: usize = 16;
/// Elements of the largest matrix of zeros and ones that picks columns.
const MOST_PICKED: usize = 1 << 24;

/// What a pointwise expression reads.
pub enum Read {
    /// The same number everywhere.
    Number(f64),
    /// Columns.
    Operand(Operand),
}

impl Lowering<'_> {
    /// All columns of a value side by side, in their order.
    pub fn dense(&mut self, name: &str, laid: &Laid) -> Made<Part> {
        self.columns(name, &laid.columns)
    }

    /// Those columns side by side.
    pub fn columns(&mut self, name: &str, columns: &[Column]) -> Made<Part> {
        let mut pieces: Vec<Part> = Vec::new();
        let mut numbers = false;
        for column in columns {
            let &Column::Of(source, at) = column else {
                numbers = true;
                continue;
            };
            let part = self.part_of(source)?;
            let one = match part.columns(at as usize, 1) {
                Ok(one) => one,
                Err(_) => return Err(Stop::from_state()),
            };
            match pieces.last_mut() {
                Some(last) if last.value == one.value && last.first + last.width == one.first => last.width += 1,
                _ => pieces.push(one),
            }
        }
        if let ([piece], false) = (&pieces[..], numbers) {
            return Ok(*piece);
        }
        if pieces.len() <= MOST_PIECES && !numbers {
            let name = self.fresh(&format!("{name}.columns"));
            return Ok(self.builder.concat(&name, &pieces)?);
        }
        self.picked(name, columns)
    }

    /// Those columns by a product with a matrix of zeros and ones; numbers are its bias.
    fn picked(&mut self, name: &str, columns: &[Column]) -> Made<Part> {
        // Every source once, whole.
        let mut sources: Vec<(u32, Part, usize)> = Vec::new();
        for column in columns {
            if let &Column::Of(source, _) = column
                && !sources.iter().any(|(known, ..)| *known == source)
            {
                let before = sources.last().map_or(0, |(_, part, first)| first + part.width);
                sources.push((source, self.part_of(source)?, before));
            }
        }
        let parts: Vec<Part> = sources.iter().map(|(_, part, _)| *part).collect();
        let x = match &parts[..] {
            [] => return Err(Error::mismatch("columns", "some of a run's values", "numbers alone").into()),
            [one] => *one,
            several => {
                let name = self.fresh(&format!("{name}.sources"));
                self.builder.concat(&name, several)?
            }
        };
        let needs = columns.len().saturating_mul(x.width);
        if needs > MOST_PICKED {
            let reason = format!("{} of {} columns, in another order, are more than it picks", columns.len(), x.width);
            return Err(Error::Unsupported { what: "the order of columns".into(), reason }.into());
        }
        let mut matrix = self.matrix(columns.len(), x.width)?;
        let mut bias = vec![0.0; columns.len()];
        for (row, column) in columns.iter().enumerate() {
            match column {
                Column::Number(v) => bias[row] = *v,
                Column::Of(source, at) => {
                    let first = sources.iter().find(|(known, ..)| known == source).map_or(0, |(.., first)| *first);
                    matrix[row * x.width + first + *at as usize] = 1.0;
                }
            }
        }
        let weight = self.param(&format!("{name}.pick"), &[columns.len(), x.width], &matrix)?;
        let some = bias.iter().any(|v| *v != 0.0);
        let bias = some.then(|| self.param(&format!("{name}.numbers"), &[columns.len()], &bias)).transpose()?;
        let name = self.fresh(&format!("{name}.picked"));
        Ok(self.builder.linear(&name, x, weight, bias)?)
    }

    /// The columns of an initial state, which only a run's inputs give.
    pub fn given_columns(&self, what: &str, laid: &Laid) -> Made<Vec<Column>> {
        let given = |column: &Column| match column {
            Column::Of(source, _) => matches!(self.sources[*source as usize], Source::Input(_) | Source::Fixed(_)),
            Column::Number(_) => true,
        };
        if laid.columns.iter().all(given) {
            return Ok(laid.columns.clone());
        }
        let reason = "a network begins with states that it is given".into();
        Err(Error::Unsupported { what: format!("{what} that nodes make of a run's values"), reason }.into())
    }

    /// The same as an operand of a pointwise expression, which may repeat columns.
    pub fn operand(&mut self, name: &str, columns: &[Column]) -> Made<Operand> {
        let Some(&first) = columns.first() else { return Err(Error::mismatch("columns", "at least 1", 0).into()) };
        if columns.len() > 1 && columns.iter().all(|column| *column == first) {
            return Ok(Operand::from(self.columns(name, &[first])?).each(columns.len()));
        }
        // The whole again and again.
        let again = (1..columns.len()).find(|&n| columns[n] == first);
        if let Some(period) = again.filter(|n| columns.len().is_multiple_of(*n)) {
            let (whole, rest) = columns.split_at(period);
            if period > 1 && rest.chunks(period).all(|chunk| chunk == whole) {
                let part = self.columns(name, whole)?;
                return Ok(Operand::from(part).groups(period, columns.len() / period));
            }
        }
        // Each several times.
        let times = columns.iter().take_while(|column| **column == first).count();
        if times > 1 && columns.len().is_multiple_of(times) {
            let mut chunks = columns.chunks(times);
            if chunks.all(|chunk| chunk.iter().all(|column| *column == chunk[0])) {
                let each: Vec<Column> = columns.iter().step_by(times).copied().collect();
                return Ok(Operand::from(self.columns(name, &each)?).each(times));
            }
        }
        Ok(self.columns(name, columns)?.into())
    }

    /// An input of a pointwise operator whose result has those axes.
    pub fn read(&mut self, name: &str, value: &Value, axes: &[Axis], rows: Rows) -> Made<Read> {
        let sizes: Vec<usize> = axes.iter().map(|axis| axis.size).collect();
        match value {
            Value::Order { .. } => Err(super::ops::order_as_numbers().into()),
            Value::Constant(constant) => {
                if let Some(one) = constant.uniform() {
                    return Ok(Read::Number(one.numbers().first().copied().unwrap_or(0.0)));
                }
                let front = axes.len().saturating_sub(constant.shape.len());
                let rows_differ = axes.iter().skip(front).zip(&constant.shape);
                let rows_differ = rows_differ.into_iter().any(|(axis, &size)| axis.kind != Kind::Columns && size != 1);
                if rows_differ {
                    let laid = self.fixed(constant, axes, rows)?;
                    return Ok(Read::Operand(self.operand(name, &laid.columns)?));
                }
                let shape: Vec<usize> =
                    axes.iter().map(|axis| if axis.kind == Kind::Columns { axis.size } else { 1 }).collect();
                let all = constant.numbers();
                let values: Vec<f64> = Places::repeated(&constant.shape, &shape).map(|at| all[at]).collect();
                let param = self.param(&format!("{name}.constant"), &[values.len()], &values)?;
                Ok(Read::Operand(self.builder.whole(param)))
            }
            Value::Laid(laid) => {
                let laid = self.in_rows(name, laid, rows)?;
                // Axes that are missing in front are columns of size 1.
                let missing = axes.len().saturating_sub(laid.axes.len());
                let front = std::iter::repeat_n(Axis::columns(1), missing);
                let whole = laid.with(front.chain(laid.axes.iter().copied()).collect(), laid.columns.clone());
                let columns: Vec<usize> = sizes
                    .iter()
                    .zip(axes)
                    .map(|(&size, axis)| if axis.kind == Kind::Columns { size } else { 1 })
                    .collect();
                Ok(Read::Operand(self.operand(name, &whole.repeated(&columns).columns)?))
            }
        }
    }

    /// A value with a row per step as one with a row per sequence, where there is one step, and the like.
    pub fn in_rows(&mut self, name: &str, laid: &Laid, rows: Rows) -> Made<Laid> {
        if laid.rows == rows {
            return Ok(laid.clone());
        }
        if rows == Rows::Sequences && self.shape.time == 1 {
            let part = self.dense(name, laid)?;
            let name = self.fresh(&format!("{name}.row"));
            let part = self.builder.pool(&name, part, Pooling::Last)?;
            let made = self.laid(part, laid.axes.clone(), laid);
            return Ok(Laid { rows, ..made });
        }
        if rows == Rows::Steps
            && let Some(columns) = self.spread(laid)
        {
            return Ok(Laid { rows, ..laid.with(laid.axes.clone(), columns) });
        }
        let reason = "networks do not repeat a row per sequence over its steps".into();
        Err(Error::Unsupported { what: "a value per sequence together with one per step".into(), reason }.into())
    }

    /// The columns of inputs that have a row per sequence, as what has that row at every step.
    fn spread(&mut self, laid: &Laid) -> Option<Vec<Column>> {
        let mut made: HashMap<u32, u32> = HashMap::new();
        let one = |column: &Column| match *column {
            Column::Number(v) => Some(Column::Number(v)),
            Column::Of(source, at) => {
                let given = matches!(self.sources[source as usize], Source::Input(_) | Source::Fixed(_));
                let spread = given.then(|| *made.entry(source).or_insert_with(|| self.source(Source::Spread(source))));
                spread.map(|spread| Column::Of(spread, at))
            }
        };
        laid.columns.iter().map(one).collect()
    }

    /// A constant with rows of its own, as a value that every run is fed.
    pub fn fixed(&mut self, constant: &Constant, axes: &[Axis], rows: Rows) -> Result<Laid> {
        let sizes: Vec<usize> = axes.iter().map(|axis| axis.size).collect();
        self.budget.take(&sizes)?;
        let tensor = constant.taken(sizes.clone(), Places::repeated(&constant.shape, &sizes));
        let width: usize = axes.iter().filter(|a| a.kind == Kind::Columns).map(|a| a.size).product();
        let source = self.source(Source::Fixed(self.fixed.len()));
        let columns = (0..width as u32).map(|at| Column::Of(source, at)).collect();
        let laid =
            Laid { element: constant.element, axes: axes.to_vec(), columns, rows, sorted: false, reversed: false };
        self.fixed.push(Fixed { tensor, laid: laid.clone() });
        Ok(laid)
    }

    /// A pointwise expression of several inputs, in the shape that they have together; `element`: the result's, `None`: the first value's.
    pub fn pointwise(
        &mut self,
        name: &str,
        values: &[Value],
        element: Option<Element>,
        expression: impl Fn(&[Expr]) -> Expr,
    ) -> Made<Value> {
        let axes = self.together(values)?;
        let first = values.iter().find_map(|value| match value {
            Value::Laid(laid) => Some(laid.clone()),
            _ => None,
        });
        let first = first.ok_or_else(|| Error::mismatch("inputs", "a run's value", "constants"))?;
        let (sorted, reversed) = self.orders(values, &axes)?;
        let rows = if values.iter().any(|v| matches!(v, Value::Laid(laid) if laid.rows == Rows::Steps)) {
            Rows::Steps
        } else {
            Rows::Sequences
        };
        let (mut operands, mut inputs) = (Vec::new(), Vec::new());
        for value in values {
            inputs.push(match self.read(name, value, &axes, rows)? {
                Read::Number(v) => Expr::from(finite(v)),
                Read::Operand(operand) => {
                    operands.push(operand);
                    Expr::input(operands.len() - 1)
                }
            });
        }
        let name = self.fresh(name);
        let part = self.builder.map(&name, expression(&inputs), &operands)?;
        let like = Laid { rows, element: element.unwrap_or(first.element), sorted, reversed, ..first };
        Ok(Value::Laid(self.laid(part, axes, &like)))
    }

    /// In which orders the sequences and the steps of values are that are read together, whose result has those axes.
    pub fn orders(&self, values: &[Value], axes: &[Axis]) -> Made<(bool, bool)> {
        let mixed = |what: &str| {
            let reason = "one is in another order than the other".into();
            Err(Error::Unsupported { what: format!("values whose {what} differ"), reason }.into())
        };
        let counts = |laid: &Laid, time: bool| {
            let counts = |axis: &Axis| match axis.kind {
                Kind::Both { .. } => true,
                Kind::Time => time,
                Kind::Batch => !time,
                Kind::Columns => false,
            };
            laid.axes.iter().any(counts)
        };
        let laid = || values.iter().filter_map(|v| if let Value::Laid(laid) = v { Some(laid) } else { None });
        let mut sorted = laid().filter(|laid| counts(laid, false)).map(|laid| laid.sorted);
        let mut reversed = laid().filter(|laid| counts(laid, true)).map(|laid| laid.reversed);
        let (a, b) = (sorted.next().unwrap_or(false), reversed.next().unwrap_or(false));
        if sorted.any(|other| other != a) {
            return mixed("sequences");
        }
        // A constant that differs from row to row is in the order of the inputs.
        let differs = |value: &Value| match value {
            Value::Constant(constant) => {
                let front = axes.len().saturating_sub(constant.shape.len());
                let mut both = axes.iter().skip(front).zip(&constant.shape);
                both.any(|(axis, &size)| axis.kind != Kind::Columns && size != 1)
            }
            _ => false,
        };
        if reversed.any(|other| other != b) || (a || b) && values.iter().any(differs) {
            return mixed("steps");
        }
        Ok((a, b))
    }

    /// The axes that values have together, sizes of 1 repeated.
    pub fn together(&mut self, values: &[Value]) -> Made<Vec<Axis>> {
        let axes = |value: &Value| match value {
            Value::Laid(laid) => laid.axes.clone(),
            Value::Constant(constant) => constant.shape.iter().map(|&size| Axis::columns(size)).collect(),
            Value::Order { .. } => vec![Axis::columns(self.shape.batch)],
        };
        let all: Vec<Vec<Axis>> = values.iter().map(axes).collect();
        let rank = all.iter().map(Vec::len).max().unwrap_or(0);
        let mut result = vec![Axis::columns(1); rank];
        // A run's values first: what a constant has along an axis does not say what it counts.
        let laid = |value: &Value| matches!(value, Value::Laid(_));
        let (runs, constants): (Vec<_>, Vec<_>) = values.iter().zip(&all).partition(|(value, _)| laid(value));
        for (value, own) in runs.into_iter().chain(constants) {
            for (n, axis) in own.iter().enumerate() {
                let at = n + rank - own.len();
                let before = result[at];
                match (before.size, axis.size) {
                    (_, 1) => {}
                    (1, _) => result[at] = *axis,
                    (a, b) if a != b => {
                        return Err(
                            Error::mismatch(format!("axis {at}"), "sizes that fit", format!("{a} and {b}")).into()
                        );
                    }
                    _ if before.kind == axis.kind || !laid(value) => {}
                    _ => self.agree(before, *axis, at)?,
                }
            }
        }
        Ok(result)
    }
}

impl Stop {
    /// Of a node that reads cell states, or the state of a linear recurrence or a convolution.
    pub fn from_state() -> Self {
        let reason = "a network gives states other than h after a run, not as values within it".into();
        Self::Fail(Error::Unsupported { what: "a state as what other nodes read".into(), reason })
    }
}

/// Kernels have no infinite constants: what masks write stays the largest number there is.
fn finite(v: f64) -> f64 {
    v.clamp(f64::from(f32::MIN), f32::MAX.into())
}
