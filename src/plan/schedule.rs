//! Time order: which sequences run at which step, and where their rows lie. Pure data, made from the lengths.

use crate::model::stack::{Empty, Layout, RnnConfig, Shape};

/// Sequences sorted by falling length, so that those still running at step `s` are a prefix; step `s` is time `s` of the
/// forward direction and time `length − 1 − s` of the reverse one, so both directions finish a sequence at the same step.
/// Sequences of length 0 come last and run at no step: no kernel computes anything for them. Their states go through from h0 to hn
/// (and their gradients back), and where they are to be 0 instead executors clear them after the kernels that write them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The table the kernels read: `order[B], length[B], row_offset[T + 1], row[D][T·B]`, and with [`Self::with_resets`]
    /// `reset[D][T·B]` (shaders/lib/schedule.wgsl).
    table: Vec<u32>,
    batch: usize,
    time: usize,
    steps: usize,
    ragged: bool,
    /// Whether the table has the flags of episodes.
    resets: bool,
    /// The caller's indices of sequences whose hn and cn, and gradients of h0 and c0, are to be 0.
    cleared: Vec<usize>,
}

impl Schedule {
    /// `lengths` are in the caller's order and already validated; `None` means all T.
    pub fn new(config: &RnnConfig, shape: Shape, lengths: Option<&[usize]>) -> Self {
        let Shape { time, batch } = shape;
        let length = |b: usize| lengths.map_or(time, |l| l[b]);
        let mut order: Vec<usize> = (0..batch).collect();
        order.sort_by_key(|&b| std::cmp::Reverse(length(b)));
        let steps = length(order[0]);

        let mut table = Vec::with_capacity(2 * batch + time + 1 + config.directions() * time * batch);
        table.extend(order.iter().map(|&b| b as u32));
        table.extend(order.iter().map(|&b| length(b) as u32));
        let (mut rows, mut active) = (0, batch);
        for step in 0..=time {
            table.push(rows);
            while active > 0 && length(order[active - 1]) <= step {
                active -= 1;
            }
            rows += active as u32;
        }
        for direction in 0..config.directions() {
            let reverse = crate::model::stack::Direction::Reverse == config.direction || direction == 1;
            let start = table.len();
            for step in 0..steps {
                for &b in order.iter().take_while(|&&b| length(b) > step) {
                    let t = if reverse { length(b) - 1 - step } else { step };
                    table.push(match config.layout {
                        Layout::TimeMajor => t * batch + b,
                        Layout::BatchFirst => b * time + t,
                    } as u32);
                }
            }
            table.resize(start + time * batch, 0);
        }
        let cleared = (0..batch).filter(|&b| length(b) == 0).collect();
        Self { table, batch, time, steps, ragged: (0..batch).any(|b| length(b) != time), resets: false, cleared }
    }

    /// The same where states of sequences of length 0 are what `empty` says ([`Schedule::new`]: zeros).
    pub fn with_empty(mut self, empty: Empty) -> Self {
        if empty == Empty::Initial {
            self.cleared.clear();
        }
        self
    }

    /// The same where episodes begin inside the run: `resets` `[T, B]` in the caller's layout flags their first steps (`None`:
    /// there are none). The reverse direction comes to an episode from its end, so its state is set anew before the step at
    /// time t if the next episode begins at t + 1.
    pub fn with_resets(mut self, config: &RnnConfig, resets: Option<&[bool]>) -> Self {
        let next = if config.layout == Layout::TimeMajor { self.batch } else { 1 };
        let mut flags = vec![0; config.directions() * self.time * self.batch];
        for direction in 0..config.directions() {
            let reverse = crate::model::stack::Direction::Reverse == config.direction || direction == 1;
            let rows = &self.rows(direction)[..self.row_offset(self.steps)];
            for (r, (flag, &row)) in flags[direction * self.time * self.batch..].iter_mut().zip(rows).enumerate() {
                let begins = |row: usize| resets.is_some_and(|flags| flags[row]);
                let set =
                    if reverse { r >= self.active(0) && begins(row as usize + next) } else { begins(row as usize) };
                *flag = u32::from(set);
            }
        }
        self.table.extend(flags);
        self.resets = true;
        self
    }

    /// Whether an episode begins at a packed row of a direction.
    pub fn is_reset(&self, direction: usize, row: usize) -> bool {
        let rows = self.time * self.batch;
        let start = 2 * self.batch + self.time + 1;
        self.resets && self.table[self.table.len() - (self.table.len() - start) / 2 + direction * rows + row] != 0
    }

    /// The table as the kernels read it.
    pub fn table(&self) -> &[u32] {
        &self.table
    }
    /// The caller's indices, ascending, of sequences whose last states (and gradients of first states) are 0 whatever the first
    /// ones are.
    pub fn cleared(&self) -> &[usize] {
        &self.cleared
    }
    /// Steps of the longest sequence.
    pub fn steps(&self) -> usize {
        self.steps
    }
    /// Whether any sequence is shorter than T (then y has padding to clear).
    pub fn is_ragged(&self) -> bool {
        self.ragged
    }
    /// The caller's index of sorted sequence `b`.
    pub fn order(&self, b: usize) -> usize {
        self.table[b] as usize
    }
    /// Length of sorted sequence `b`.
    pub fn length(&self, b: usize) -> usize {
        self.table[self.batch + b] as usize
    }
    /// Packed row of (step, sequence 0).
    pub fn row_offset(&self, step: usize) -> usize {
        self.table[2 * self.batch + step] as usize
    }
    /// Sequences still running at `step`.
    pub fn active(&self, step: usize) -> usize {
        self.row_offset(step + 1) - self.row_offset(step)
    }
    /// Rows of x and y, in the caller's layout, of the packed rows of a direction.
    pub fn rows(&self, direction: usize) -> &[u32] {
        &self.table[2 * self.batch + self.time + 1 + direction * self.time * self.batch..][..self.time * self.batch]
    }
}
