//! The WGSL that a plan's sessions compile.

use super::{Dispatch, Plan, Step};
use crate::kernels::{Kernel, Variant, source};
use crate::model::activation_format::ActivationFormat;
use std::collections::HashSet;

/// The WGSL of one pipeline of a plan; see [`Plan::shaders`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shader {
    /// Which kernel.
    pub kernel: Kernel,
    /// The cell's stage that it works on, of kernels that work on one; else 0.
    pub stage: usize,
    /// Whether it works on the head, as a layer of its own.
    pub head: bool,
    /// The text, complete: its entry point is `main`, its bindings are the kernel's ([`Kernel::bindings`]) in group 0.
    pub text: String,
}

impl Plan {
    /// The WGSL of every pipeline that a session of this plan compiles on a GPU, in the order in which its steps (forward,
    /// backward, update) first need them: to read, or to hand to another compiler. No GPU is needed.
    ///
    /// ```
    /// use wgpu_rnn::{Device, Options, Plan, RnnConfig, Shape};
    /// let config = RnnConfig { input_size: 8, hidden_size: 8, ..Default::default() };
    /// let plan = Plan::new(&config, Shape { time: 3, batch: 2 }, &Device::cpu().caps(), &Options::default())?;
    /// let shaders = plan.shaders();
    /// assert_eq!(shaders[0].kernel.name(), "load_state");
    /// assert!(shaders.iter().all(|s| s.text.contains("fn main(")));
    /// # Ok::<(), wgpu_rnn::Error>(())
    /// ```
    pub fn shaders(&self) -> Vec<Shader> {
        let mut seen = HashSet::new();
        let steps = self.steps.iter().chain(&self.backward).chain(&self.update);
        let dispatches = steps.flat_map(|step| match step {
            Step::ClearPadding(_) => &[][..],
            Step::Once(dispatch) => std::slice::from_ref(dispatch),
            Step::EachStep(_, body) | Step::EachStepBack(_, body) => body,
        });
        let variants = dispatches.map(|d| self.variant(d)).filter(|v| seen.insert(*v));
        variants
            .map(|v| Shader { kernel: v.kernel, stage: v.stage, head: v.head, text: source(&self.config, &v) })
            .collect()
    }

    /// What the text of a dispatch's pipeline depends on.
    pub(crate) fn variant(&self, d: &Dispatch) -> Variant {
        let kernel = d.kernel;
        Variant {
            kernel,
            stage: if kernel.is_per_stage() { d.stage } else { 0 },
            tiles: self.tiles,
            train: self.train,
            write_y: d.write_y || !kernel.has_y(),
            head: d.head,
            resets: self.options.resets,
            weights: self.options.weights,
            activations: if kernel.has_activations() { self.options.activations } else { ActivationFormat::F32 },
        }
    }
}
