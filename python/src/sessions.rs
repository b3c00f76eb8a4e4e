//! Sessions of every shape that batches have, over one set of weights: taken for a call, and given back.

use crate::array::Float;
use crate::error::Result;
use wgpu_rnn::{Device, Options, Plan, RnnConfig, Session, Shape, Weights};

/// Sessions kept at most, and their bytes. A single one may take more.
const SESSIONS: usize = 16;
const BYTES: u64 = 1 << 30;

/// A session that nobody uses.
struct Idle<T: Float> {
    session: Session<T>,
    bytes: u64,
}

/// Sessions of one kind: that train, or that take resets.
pub struct Sessions<T: Float> {
    options: Options,
    /// It has the weights, and never runs: a shape of its own would be in nobody's way.
    first: Option<Session<T>>,
    /// The one used longest ago first.
    idle: Vec<Idle<T>>,
    /// Which weights they have.
    version: u64,
}

impl<T: Float> Sessions<T> {
    /// None yet.
    pub fn new(options: Options) -> Self {
        Self { options: Options { precision: T::PRECISION, ..options }, first: None, idle: Vec::new(), version: 0 }
    }

    /// A session of that shape over these weights, of which there have been `version`.
    pub fn take(
        &mut self,
        device: &Device,
        config: &RnnConfig,
        (weights, version): (&Weights<T>, u64),
        shape: Shape,
    ) -> Result<Session<T>> {
        let first = match &mut self.first {
            Some(first) => {
                if self.version != version {
                    first.set_weights(weights)?;
                }
                first
            }
            none => {
                let plan = Plan::new(config, Shape { time: 1, batch: 1 }, &device.caps(), &self.options)?;
                none.insert(Session::from_plan(device, plan, weights)?)
            }
        };
        self.version = version;
        match self.idle.iter().rposition(|idle| idle.session.plan().shape == shape) {
            Some(n) => Ok(self.idle.remove(n).session),
            None => Ok(first.for_shape(shape)?),
        }
    }

    /// What [`Sessions::take`] gave, for others to take.
    pub fn give_back(&mut self, session: Session<T>) {
        let bytes = session.plan().bytes();
        let taken = |idle: &[Idle<T>]| idle.iter().map(|idle| idle.bytes).sum::<u64>();
        while !self.idle.is_empty() && (self.idle.len() >= SESSIONS || taken(&self.idle).saturating_add(bytes) > BYTES)
        {
            self.idle.remove(0);
        }
        self.idle.push(Idle { session, bytes });
    }

    /// How many wait.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }
}
