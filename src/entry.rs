//! Where sessions enter the CPU executors: compiled here, once for f32 and once for f64.
//!
//! Sessions are generic over their element type, and rustc compiles a generic function again in every crate that calls it. Without
//! these entries every program, test and example compiled all of the CPU executors' kernels for every instruction set (20 to 200 s each).

#![expect(
    private_interfaces,
    reason = "no other crate can name the trait; its functions take what is private to this one"
)]

use crate::cpu::{self, Watch};
use crate::error::Result;
use crate::expr::Element;
use crate::network::{self, NetworkPlan, Times};
use crate::plan::{Plan, Step};
use crate::real::Real;
use crate::schedule::Schedule;
use crate::weights::Weights;

/// The entries of one element type. The supertrait of [`Real`] that no other crate can name: `f32` and `f64` are all there are.
pub trait Entry: Sized {
    /// An executor of its own for a plan.
    fn bind(plan: &Plan, weights: &Weights<Self>) -> cpu::Executor<Self>
    where
        Self: Real;
    /// Other weights in place of those that an executor was made with.
    fn set_weights(executor: &mut cpu::Executor<Self>, plan: &Plan, weights: &Weights<Self>)
    where
        Self: Real;
    /// Runs steps of a plan.
    fn run(
        executor: &mut cpu::Executor<Self>,
        plan: &Plan,
        schedule: &Schedule,
        steps: &[Step],
        watch: &mut Watch<'_, Self>,
    ) where
        Self: Real;
    /// Runs the update of a plan.
    fn update(executor: &mut cpu::Executor<Self>, plan: &Plan)
    where
        Self: Real;
    /// An executor for a network's plan.
    fn bind_network(plan: &NetworkPlan, params: &[Self]) -> Result<network::CpuExecutor<Self>>
    where
        Self: Element;
    /// Other parameters of a network.
    fn set_params(executor: &mut network::CpuExecutor<Self>, plan: &NetworkPlan, params: &[Self]) -> Result<()>
    where
        Self: Element;
    /// Runs a network, forward or back.
    fn run_network(
        executor: &mut network::CpuExecutor<Self>,
        plan: &NetworkPlan,
        times: &Times,
        back: bool,
    ) -> Result<()>
    where
        Self: Element;
}

macro_rules! entry {
    ($float:ty) => {
        impl Entry for $float {
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
                watch: &mut Watch<'_, Self>,
            ) {
                executor.walk(plan, schedule, steps, watch);
            }
            fn update(executor: &mut cpu::Executor<Self>, plan: &Plan) {
                executor.walk_update(plan);
            }
            fn bind_network(plan: &NetworkPlan, params: &[Self]) -> Result<network::CpuExecutor<Self>> {
                network::CpuExecutor::bind(plan, params)
            }
            fn set_params(
                executor: &mut network::CpuExecutor<Self>,
                plan: &NetworkPlan,
                params: &[Self],
            ) -> Result<()> {
                executor.repack(plan, params)
            }
            fn run_network(
                executor: &mut network::CpuExecutor<Self>,
                plan: &NetworkPlan,
                times: &Times,
                back: bool,
            ) -> Result<()> {
                if back { executor.walk_back(plan, times) } else { executor.walk(plan, times) }
            }
        }
    };
}
entry!(f32);
entry!(f64);
