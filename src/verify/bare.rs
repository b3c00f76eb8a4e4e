//! A linear recurrence by itself: inputs and parameters of its own, in ranges that trained models have, for benches and the command
//! line.

use super::naive_linear::{self, Problem};
use super::{Comparison, tolerance};
use crate::config::Shape;
use crate::device::Device;
use crate::error::Result;
use crate::network::{
    Builder, Network, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession, NetworkUpstream, Operand,
};
use crate::rule::{Extent, Rule};
use crate::tensor::View;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::sync::Arc;

/// Steps and sequences that are held against the naive loop at most.
const CHECKED: Shape = Shape { time: 100, batch: 2 };

/// A rule, its sizes, and numbers.
#[derive(Clone, Debug)]
pub struct Bare {
    /// The rule over inputs of its own; its output is y.
    pub network: Arc<Network>,
    /// The same as a naive loop takes it.
    pub problem: Problem<f32>,
    seed: u64,
}

impl Bare {
    /// `sizes`: heads, K and V.
    ///
    /// # Errors
    /// [`crate::Error::Mismatch`] for sizes that the rule does not take.
    pub fn new(rule: &'static Rule, sizes: [usize; 3], shape: Shape, reverse: bool, seed: u64) -> Result<Self> {
        shape.validate()?;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut builder = Builder::new();
        let (mut operands, mut ports): (Vec<Operand>, Vec<Vec<f32>>) = (Vec::new(), Vec::new());
        for port in rule.inputs {
            let width = width(sizes, port.extent);
            operands.push(builder.input(port.name, width)?.into());
            ports.push(values(&mut rng, port.name, sizes, shape.time.saturating_mul(shape.batch) * width));
        }
        for port in rule.params {
            let width = width(sizes, port.extent);
            let param = builder.param(port.name, &[width])?;
            operands.push(builder.whole(param));
            ports.push(values(&mut rng, port.name, sizes, width));
        }
        let y = builder.scan("scan", rule, sizes, &operands, reverse)?;
        builder.output("y", y)?;
        let problem = Problem {
            rule,
            sizes,
            shape,
            ports,
            initial: Vec::new(),
            lengths: Vec::new(),
            resets: Vec::new(),
            reverse,
        };
        Ok(Self { network: Arc::new(builder.finish()?), problem, seed })
    }

    /// A session on a device, with its inputs written.
    ///
    /// # Errors
    /// See [`NetworkPlan::new`] and [`NetworkSession::new`].
    pub fn session(&self, device: &Device, options: &NetworkOptions) -> Result<NetworkSession<f32>> {
        let inputs = self.problem.rule.inputs.len();
        let params: Vec<f32> = self.problem.ports[inputs..].concat();
        let plan = NetworkPlan::new(&self.network, self.problem.shape, &device.caps(), options)?;
        let mut session = NetworkSession::new(device, plan, &params)?;
        let Shape { time, batch } = self.problem.shape;
        let shapes: Vec<_> = self.network.inputs.iter().map(|&v| [time, batch, self.network.values[v].width]).collect();
        let views: Vec<_> = self.problem.ports.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
        session.write(&NetworkInput::new(&views))?;
        Ok(session)
    }

    /// One run, until y (training: all gradients, y standing for its own) is in host memory.
    ///
    /// # Errors
    /// Errors of the device.
    pub fn run(&self, session: &mut NetworkSession<f32>) -> Result<()> {
        session.run()?;
        let y = session.output()?.values.remove(0);
        if session.plan().options.train {
            session.backward(&NetworkUpstream { values: &[y.view()], states: None })?;
        }
        Ok(())
    }

    /// Holds y of its first steps and sequences, as many as a naive loop may take, against the naive f64 loop.
    ///
    /// # Errors
    /// As [`Bare::session`].
    pub fn check(&self, device: &Device, options: &NetworkOptions) -> Result<(Comparison, Shape)> {
        let Problem { rule, sizes, shape, reverse, .. } = self.problem;
        let shape = Shape { time: shape.time.min(CHECKED.time), batch: shape.batch.min(CHECKED.batch) };
        let part = Self::new(rule, sizes, shape, reverse, self.seed)?;
        let mut session = part.session(device, options)?;
        session.run()?;
        let y = session.output()?.values.remove(0).data;
        let truth = naive_linear::forward(&part.problem.map(f64::from))?.y;
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
        let naive = tolerance::error(&wide(naive_linear::forward(&part.problem)?.y), &truth);
        let bound = tolerance::bound_f32(tolerance::scale(&truth), naive);
        Ok((Comparison { tensor: "y".into(), error: tolerance::error(&wide(y), &truth), bound }, shape))
    }
}

fn width([heads, keys, values]: [usize; 3], extent: Extent) -> usize {
    heads
        * match extent {
            Extent::Head => 1,
            Extent::Key => keys,
            Extent::Value => values,
        }
}

/// Keys and queries of length about 1, decays that forget over some ten to some thousand steps.
fn values(rng: &mut StdRng, name: &str, [_, keys, _]: [usize; 3], count: usize) -> Vec<f32> {
    let vector = 1.0 / (keys as f32).sqrt();
    let (low, high) = match name {
        "q" | "k" | "r" | "B" | "C" | "a" | "b" => (-vector, vector),
        "g" | "gamma" => (-0.1, -0.001),
        "w" | "time_decay" => (-6.0, -2.0),
        "dt" => (0.01, 0.1),
        "dt_bias" => (-4.0, -2.0),
        "beta" | "u" => (0.0, 0.99),
        _ => (-1.0, 1.0),
    };
    (0..count).map(|_| rng.random_range(low..high)).collect()
}
