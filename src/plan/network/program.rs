//! A plan as dispatches over one arena: pure data.

use super::kernel::{Job, Kernel};
use super::ops::dispatches;
use super::pass::{Entry, Pass, Work};
use super::text::{Route, Share};
use super::{NetworkPlanData, SlotId};
use crate::error::{Error, Result};
use crate::model::network::{Op, Operand, ParamId, Part, Rows, Source};
use crate::plan::Half;

/// Where everything is, and what runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    /// Offset of every slot of the plan.
    pub slots: Vec<usize>,
    /// First elements and counts of the gradients that a way back begins with: of values, and of states after the last step.
    pub gradients: Vec<(usize, usize)>,
    /// First elements of the gaps between slots ([`super::NetworkOptions::guard`]).
    pub guards: Vec<usize>,
    /// Offset of the gradients of parameters, in training.
    pub param_gradients: usize,
    /// Where parameters are in their buffer, and their gradients behind that offset ([`Network::own_params`]); all elements.
    pub params: (Vec<Option<usize>>, usize),
    /// Elements of the arena.
    pub len: usize,
    /// Those of them that are neither the plan's nor gradients of parameters.
    pub own: usize,
    /// All dispatches, those of the way there before those of the way back.
    pub jobs: Vec<Job>,
    /// There and back.
    pub passes: [Pass; 2],
}

/// Rounds of loops after which long work is cut: it ends in time for any watchdog, and within [`crate::Caps::max_rounds`]. It decides in which order
/// gradients of parameters are added up: the same on every device.
pub(crate) const STRETCH: usize = 60_000;

/// A program as it is put together.
pub(in crate::plan::network) struct Build<'a> {
    pub plan: &'a NetworkPlanData,
    pub slots: Vec<usize>,
    pub param_gradients: usize,
    params: Vec<Option<usize>>,
    /// m before every step `[T·B, heads]`, per operation that has it.
    pub m_before: Vec<usize>,
    /// First free element of scratch, which every operation has to itself while it runs.
    pub free: usize,
    base: usize,
    end: usize,
    /// The operation at hand.
    node: usize,
    jobs: Vec<Job>,
    entries: Vec<Entry>,
    /// Which pass is put together.
    half: Half,
    /// What was wrong first with a dispatch.
    wrong: Option<String>,
}

impl Program {
    /// # Errors
    /// [`Error::Limit`] for an arena or a grid beyond the device's limits; [`Error::Gpu`] for a kernel whose words are not those
    /// that its text names.
    pub fn new(plan: &NetworkPlanData) -> Result<Self> {
        let (mut at, guard, mut guards) = (0, plan.options.guard, Vec::new());
        let mut place = |len: usize| {
            at += len;
            if guard > 0 && len > 0 {
                guards.push(at);
                at += guard;
                return at - guard - len;
            }
            at - len
        };
        // What a way back begins with 0 lies together: one command clears it.
        let d_last = plan.states.iter().filter_map(|s| s.d_last);
        let cleared: Vec<SlotId> = plan.gradients.iter().copied().chain(d_last).collect();
        let mut slots = vec![0; plan.slots.len()];
        let mut gradients: Vec<(usize, usize)> = Vec::new();
        for &id in &cleared {
            let len = plan.slots[id].len;
            slots[id] = place(len);
            match gradients.last_mut() {
                Some((first, count)) if *first + *count == slots[id] => *count += len,
                _ => gradients.push((slots[id], len)),
            }
        }
        for (id, slot) in plan.slots.iter().enumerate().filter(|(id, _)| !cleared.contains(id)) {
            slots[id] = place(slot.len);
        }
        let params = plan.network.own_params();
        let param_gradients = place(if plan.options.train { params.1 } else { 0 });
        let plans = place(0);
        let maxima = |op: &Op| match op {
            Op::Scan(s) if s.divisor().is_some() => plan.rows() * s.heads,
            _ => 0,
        };
        let m_before = plan.network.nodes.iter().map(|n| place(maxima(&n.op))).collect();
        let (free, base, end) = (place(0), place(0), place(0));
        let mut build = Build {
            plan,
            slots,
            param_gradients,
            params: params.0.clone(),
            m_before,
            free,
            base,
            end,
            node: 0,
            jobs: Vec::new(),
            entries: Vec::new(),
            half: Half::Forward,
            wrong: None,
        };
        plan.order(Half::Forward).for_each(|n| build.forward(n));
        let forward = std::mem::take(&mut build.entries);
        build.half = Half::Backward;
        if plan.options.train {
            let first = plan.order(Half::Backward).next().unwrap_or_default();
            let clears = params.1 > 0 && !plan.options.accumulate;
            build.entries.extend(clears.then_some(Entry { node: first, work: Work::Clear }));
            plan.order(Half::Backward).for_each(|n| build.backward(n));
        }
        if let Some(reason) = build.wrong {
            return Err(Error::Gpu { what: "making a network's program".into(), reason });
        }
        let len = build.end.max(1);
        let pass = |entries, half| Pass::new(plan, &build.jobs, entries, half);
        let passes = [pass(forward, Half::Forward), pass(std::mem::take(&mut build.entries), Half::Backward)];
        let program = Self {
            slots: build.slots,
            gradients,
            guards,
            param_gradients,
            params,
            len,
            own: len - plans.min(len),
            jobs: build.jobs,
            passes,
        };
        program.check(plan)?;
        Ok(program)
    }

    fn check(&self, plan: &NetworkPlanData) -> Result<()> {
        let what = || format!("network of T={} B={}", plan.shape.time, plan.shape.batch);
        let hint = || "; shorten or split the sequences".to_string();
        let needs = 4 * self.len.max(self.params.1) as u64;
        let limit = plan.caps.max_binding.min(plan.caps.max_buffer).min(4 * u64::from(u32::MAX));
        if needs > limit {
            let limit_name = "the device's max_storage_buffer_binding_size";
            let (what, hint) = if self.len >= self.params.1 {
                (what(), hint())
            } else {
                ("parameters of the network's own operations".into(), "; use the CPU executor".into())
            };
            return Err(Error::Limit { what, needs, limit, unit: "bytes", limit_name, hint });
        }
        let longest = self.jobs.iter().max_by_key(|job| job.rounds);
        if let Some(job) = longest.filter(|job| job.rounds > plan.caps.max_rounds) {
            return Err(Error::Limit {
                what: format!("{} of {}", job.name, what()),
                needs: job.rounds as u64,
                limit: plan.caps.max_rounds as u64,
                unit: "iterations",
                limit_name: "the device's loops",
                hint: "; shorten the sequences or chunks, or use the CPU executor".into(),
            });
        }
        let groups = self.jobs.iter().map(|j| u64::from(j.groups[1])).max().unwrap_or(1);
        let limit = plan.caps.max_workgroups as u64;
        if groups > limit {
            let limit_name = "the device's max_compute_workgroups_per_dimension";
            return Err(Error::Limit {
                what: what(),
                needs: groups,
                limit,
                unit: "workgroups",
                limit_name,
                hint: hint(),
            });
        }
        Ok(())
    }
}

impl Build<'_> {
    fn forward(&mut self, n: usize) {
        (self.node, self.free) = (n, self.base);
        let plan = self.plan;
        dispatches(&plan.network.nodes[n].op).forward(n, self);
    }

    fn backward(&mut self, n: usize) {
        (self.node, self.free) = (n, self.base);
        let plan = self.plan;
        dispatches(&plan.network.nodes[n].op).backward(n, self);
    }

    /// The operation at hand, a stack of layers, runs here by its own plan; `dx`: back, where the gradient of its x goes.
    pub fn run_stack(&mut self, dx: usize) {
        let (node, stack) = (self.node, &self.plan.layers[self.plan.layers_at(self.node)].1);
        let parts = (0..stack.half(self.half).1.len()).map(Work::Stack);
        let works = [Work::Enter].into_iter().chain(parts).chain([Work::Leave { dx }]);
        self.entries.extend(works.map(|work| Entry { node, work }));
    }

    /// Scratch for the operation at hand.
    pub fn take(&mut self, len: usize) -> usize {
        self.free += len;
        self.end = self.end.max(self.free);
        self.free - len
    }

    pub fn push(&mut self, kernel: Kernel) {
        let shape = self.plan.shape;
        match kernel.job([shape.time, shape.batch], self.plan.caps.max_workgroups) {
            Ok(job) => {
                self.entries.push(Entry { node: self.node, work: Work::Job(self.jobs.len()) });
                self.jobs.push(job);
            }
            Err(reason) => self.wrong(reason),
        }
    }

    /// There can be no program.
    pub fn wrong(&mut self, reason: String) {
        self.wrong.get_or_insert(reason);
    }

    /// Rows of the value that the operation at hand makes.
    pub fn rows(&self) -> usize {
        self.plan.rows_of(self.plan.network.nodes[self.node].value)
    }

    /// Those in a batch of the shape that kernels are chosen for ([`super::NetworkOptions::nominal`]), where there is one.
    pub fn nominal_rows(&self) -> Option<usize> {
        let network = &self.plan.network;
        let nominal = self.plan.options.nominal?;
        Some(match network.values[network.nodes[self.node].value].rows {
            Rows::Steps => nominal.time * nominal.batch,
            Rows::Sequences => nominal.batch,
        })
    }

    /// Columns of a value.
    pub fn width(&self, value: usize) -> usize {
        self.plan.network.values[value].width
    }

    /// Offset of a slot, where there is one.
    pub fn slot(&self, slot: Option<SlotId>) -> Option<usize> {
        slot.map(|s| self.slots[s])
    }

    /// Offset of a part's first column.
    pub fn part(&self, part: Part) -> usize {
        self.slots[self.plan.values[part.value]] + part.first
    }

    /// Offset of the gradient of a part's first column.
    pub fn gradient(&self, part: Part) -> usize {
        self.slots[self.plan.gradients[part.value]] + part.first
    }

    /// Offset of the value that an operation makes.
    pub fn made(&self, n: usize) -> usize {
        self.slots[self.plan.values[self.plan.network.nodes[n].value]]
    }

    /// Offset of its gradient.
    pub fn d_made(&self, n: usize) -> usize {
        self.slots[self.plan.gradients[self.plan.network.nodes[n].value]]
    }

    /// Offset of a parameter among all, where there is one. Layers' have none: no operation of the network's own reads them
    /// ([`crate::model::network::Builder`] refuses it).
    pub fn param(&self, param: Option<ParamId>) -> Option<usize> {
        param.and_then(|p| self.params[p])
    }

    /// Offset of a parameter's gradient.
    pub fn d_param(&mut self, param: ParamId) -> usize {
        let at = self.param(Some(param));
        if at.is_none() {
            self.wrong(format!("parameter {param} is no operation's own"));
        }
        self.param_gradients + at.unwrap_or_default()
    }

    /// A kernel with the places of its operands: `p<n>`.
    pub fn with_operands(&self, mut kernel: Kernel, operands: &[Operand]) -> Kernel {
        for (n, operand) in operands.iter().enumerate() {
            let at = match operand.source {
                Source::Value(part) => Some(self.part(part)),
                Source::Param { param, first, .. } => self.param(Some(param)).map(|at| at + first),
            };
            kernel = kernel.word(format!("p{n}"), at);
        }
        kernel
    }

    /// A share of operand `n`'s gradient. `each`: neighbouring lanes that share a column; `rows`, `blocks`: of contributions; blocks
    /// where lanes add up rows for parameters.
    pub fn share(&mut self, operands: &[Operand], n: usize, value: String, lanes: &Lanes) -> Share {
        let operand = &operands[n];
        let contributions = operand.width() * lanes.each;
        if let Source::Value(part) = operand.source {
            let alone = operand.repeat == 1 && lanes.each == 1;
            if alone && !operands.iter().any(|other| other.overlaps(part)) {
                let (at, stride) = (self.gradient(part), self.width(part.value));
                return Share { port: n, value, route: Route::Direct { stride }, at };
            }
        }
        match (operand.source, lanes.blocks) {
            (Source::Param { .. }, Some(blocks)) => {
                Share { port: n, value, route: Route::Sums, at: self.take(blocks * contributions) }
            }
            _ => Share { port: n, value, route: Route::Rows, at: self.take(lanes.rows * contributions) },
        }
    }
}

/// The lanes whose shares of a gradient are stored.
pub(in crate::plan::network) struct Lanes {
    /// Neighbouring lanes that share an operand's column.
    pub each: usize,
    /// Rows of contributions.
    pub rows: usize,
    /// Rows of sums, where lanes add up the shares of parameters.
    pub blocks: Option<usize>,
}
