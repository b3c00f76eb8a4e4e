//! Where sessions enter the CPU executors: compiled here, once for f32 and once for f64.
//!
//! Sessions are generic over their element type, and rustc compiles a generic function again in every crate that calls it. Without
//! these entries every program, test and example compiled all of the CPU executors' kernels for every instruction set (20 to 200 s each).

#![expect(
    private_interfaces,
    reason = "no other crate can name the types, so none can implement the trait; its functions are for this one"
)]

use super::cpu::{self, Watch};
use super::device::Device;
use super::states::Ported;
use crate::error::Result;
use crate::model::weights::Weights;
use crate::num::Real;
use crate::plan::network::{NetworkPlan, Times};
use crate::plan::schedule::Schedule;
use crate::plan::{Half, Plan, Step};

/// What sessions compute in: `f32` (on every device) or `f64` (on the CPU executor). No other crate can add to them.
pub trait Element: Real {
    /// An executor of its own for a plan.
    #[doc(hidden)]
    fn bind(plan: &Plan, weights: &Weights<Self>) -> cpu::Executor<Self>;
    /// Other weights in place of those that an executor was made with.
    #[doc(hidden)]
    fn set_weights(executor: &mut cpu::Executor<Self>, plan: &Plan, weights: &Weights<Self>);
    /// Runs steps of a plan; where streams are given, between their states.
    #[doc(hidden)]
    fn run(
        executor: &mut cpu::Executor<Self>,
        plan: &Plan,
        schedule: &Schedule,
        steps: &[Step],
        with: (&mut Watch<'_, Self>, Option<&mut Ported<'_, Self>>),
    );
    /// Runs the update of a plan.
    #[doc(hidden)]
    fn update(executor: &mut cpu::Executor<Self>, plan: &Plan);
    /// An executor for a network's plan.
    #[doc(hidden)]
    fn bind_network(plan: &NetworkPlan, device: &Device, params: &[Self]) -> Result<cpu::network::Executor<Self>>;
    /// An executor for another plan of a network over the same parameters.
    #[doc(hidden)]
    fn sibling_of_network(
        executor: &cpu::network::Executor<Self>,
        plan: &NetworkPlan,
        device: &Device,
    ) -> Result<cpu::network::Executor<Self>>;
    /// Other parameters of a network.
    #[doc(hidden)]
    fn set_params(executor: &mut cpu::network::Executor<Self>, plan: &NetworkPlan, params: &[Self]) -> Result<()>;
    /// Updates the parameters of a network.
    #[doc(hidden)]
    fn update_network(executor: &mut cpu::network::Executor<Self>, plan: &NetworkPlan, hyper: &[Self]) -> Result<()>;
    /// Runs the operations of a network, forward or back, or one of them alone.
    #[doc(hidden)]
    fn run_network(
        executor: &mut cpu::network::Executor<Self>,
        plan: &NetworkPlan,
        times: &Times,
        pass: (Half, Option<usize>),
    ) -> Result<()>;
}

macro_rules! element {
    ($float:ty) => {
        impl Element for $float {
            fn bind(plan: &Plan, weights: &Weights<Self>) -> cpu::Executor<Self> {
                cpu::Executor::bind(plan, weights)
            }
            fn set_weights(executor: &mut cpu::Executor<Self>, plan: &Plan, weights: &Weights<Self>) {
                executor.repack(plan, weights);
            }
            fn run(
                executor: &mut cpu::Executor<Self>,
                plan: &Plan,
                schedule: &Schedule,
                steps: &[Step],
                (watch, streams): (&mut Watch<'_, Self>, Option<&mut Ported<'_, Self>>),
            ) {
                executor.walk(plan, schedule, steps, watch, streams);
            }
            fn update(executor: &mut cpu::Executor<Self>, plan: &Plan) {
                executor.walk_update(plan);
            }
            fn bind_network(
                plan: &NetworkPlan,
                device: &Device,
                params: &[Self],
            ) -> Result<cpu::network::Executor<Self>> {
                cpu::network::Executor::bind(plan, device, params)
            }
            fn sibling_of_network(
                executor: &cpu::network::Executor<Self>,
                plan: &NetworkPlan,
                device: &Device,
            ) -> Result<cpu::network::Executor<Self>> {
                executor.sibling(plan, device)
            }
            fn set_params(
                executor: &mut cpu::network::Executor<Self>,
                plan: &NetworkPlan,
                params: &[Self],
            ) -> Result<()> {
                executor.repack(plan, params)
            }
            fn update_network(
                executor: &mut cpu::network::Executor<Self>,
                plan: &NetworkPlan,
                hyper: &[Self],
            ) -> Result<()> {
                executor.walk_update(plan, hyper)
            }
            fn run_network(
                executor: &mut cpu::network::Executor<Self>,
                plan: &NetworkPlan,
                times: &Times,
                pass: (Half, Option<usize>),
            ) -> Result<()> {
                executor.run(plan, times, pass)
            }
        }
    };
}
element!(f32);
element!(f64);
