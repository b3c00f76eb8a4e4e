//! Update rules: what a gradient does to a parameter. PyTorch's equations, bias correction included.

use crate::error::{Error, Result};

/// An update rule. The learning rate η is given at every update ([`crate::Session::update`]); g is the gradient (clipped, with
/// [`crate::Options::clip_norm`]), p the parameter, t the number of the update, from 1.
///
/// Hyperparameters are f64 and rounded once to the precision of the plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimiser {
    /// Stochastic gradient descent, PyTorch `optim.SGD` with dampening 0 and without Nesterov's variant. Momentum: Polyak 1964,
    /// in the form of Sutskever et al. 2013 that PyTorch's documentation gives.
    ///
    /// ```text
    /// m ← μ m + g        p ← p − η m
    /// ```
    Sgd {
        /// μ, at least 0; with 0 nothing is remembered.
        momentum: f64,
    },
    /// Adam, PyTorch `optim.Adam` without weight decay (Kingma & Ba 2015, arXiv:1412.6980v9, algorithm 1).
    ///
    /// ```text
    /// m ← β1 m + (1 − β1) g        v ← β2 v + (1 − β2) g²
    /// p ← p − η/(1 − β1ᵗ) · m / (√v / √(1 − β2ᵗ) + ε)
    /// ```
    Adam {
        /// β1, in 0..1.
        beta1: f64,
        /// β2, in 0..1.
        beta2: f64,
        /// ε, at least 0.
        epsilon: f64,
    },
    /// Adam with decoupled weight decay, PyTorch `optim.AdamW` (Loshchilov & Hutter 2019, arXiv:1711.05101v3, algorithm 2):
    /// first `p ← p − η λ p`, then as [`Optimiser::Adam`]. It decays every parameter, biases and embedding included.
    AdamW {
        /// β1, in 0..1.
        beta1: f64,
        /// β2, in 0..1.
        beta2: f64,
        /// ε, at least 0.
        epsilon: f64,
        /// λ, at least 0.
        weight_decay: f64,
    },
}

impl Optimiser {
    /// Gradient descent; `momentum` 0 for none.
    pub fn sgd(momentum: f64) -> Self {
        Self::Sgd { momentum }
    }

    /// Adam with PyTorch's defaults: β = (0.9, 0.999), ε = 1e-8.
    pub fn adam() -> Self {
        Self::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }

    /// AdamW with PyTorch's defaults for the rest: β = (0.9, 0.999), ε = 1e-8. (PyTorch's default weight decay is 0.01.)
    pub fn adamw(weight_decay: f64) -> Self {
        Self::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay }
    }

    /// How many numbers it remembers of every parameter.
    pub(crate) fn moments(&self) -> usize {
        match self {
            Self::Sgd { momentum: 0.0 } => 0,
            Self::Sgd { .. } => 1,
            Self::Adam { .. } | Self::AdamW { .. } => 2,
        }
    }

    /// Refuses what PyTorch refuses, and what is not a number.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the hyperparameter.
    pub fn validate(&self) -> Result<()> {
        let at_least_0 = |what: &str, value: f64| match value.is_finite() && value >= 0.0 {
            true => Ok(()),
            false => Err(Error::mismatch(what, "a finite number of at least 0", value)),
        };
        let beta = |what: &str, value: f64| match (0.0..1.0).contains(&value) {
            true => Ok(()),
            false => Err(Error::mismatch(what, "0 <= beta < 1", value)),
        };
        match *self {
            Self::Sgd { momentum } => at_least_0("momentum", momentum),
            Self::Adam { beta1, beta2, epsilon } | Self::AdamW { beta1, beta2, epsilon, .. } => {
                beta("beta1", beta1)?;
                beta("beta2", beta2)?;
                at_least_0("epsilon", epsilon)?;
                match *self {
                    Self::AdamW { weight_decay, .. } => at_least_0("weight_decay", weight_decay),
                    _ => Ok(()),
                }
            }
        }
    }

    /// What update number `t` (from 1) reads, in the order of [`Hyper`]. Corrections are made here, in f64, since β2ᵗ is near 1.
    pub(crate) fn hyper(&self, learning_rate: f64, t: u64, clip_norm: Option<f32>) -> [f64; Hyper::COUNT] {
        let mut values = [0.0; Hyper::COUNT];
        let mut put = |hyper: Hyper, value: f64| values[hyper as usize] = value;
        put(Hyper::Keep, 1.0);
        put(Hyper::Scale, 1.0);
        put(Hyper::MaxNorm, clip_norm.map_or(0.0, f64::from));
        match *self {
            Self::Sgd { momentum } => {
                put(Hyper::Rate, learning_rate);
                put(Hyper::Beta1, momentum);
            }
            Self::Adam { beta1, beta2, epsilon } | Self::AdamW { beta1, beta2, epsilon, .. } => {
                let t = t as f64;
                put(Hyper::Rate, learning_rate / (1.0 - beta1.powf(t)));
                put(Hyper::Beta1, beta1);
                put(Hyper::Rest1, 1.0 - beta1);
                put(Hyper::Beta2, beta2);
                put(Hyper::Rest2, 1.0 - beta2);
                put(Hyper::Correction, (1.0 - beta2.powf(t)).sqrt());
                put(Hyper::Epsilon, epsilon);
                if let Self::AdamW { weight_decay, .. } = *self {
                    put(Hyper::Keep, 1.0 - learning_rate * weight_decay);
                }
            }
        }
        values
    }
}

impl std::fmt::Display for Optimiser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sgd { momentum } => write!(f, "SGD, momentum {momentum}"),
            Self::Adam { beta1, beta2, epsilon } => write!(f, "Adam, beta ({beta1}, {beta2}), epsilon {epsilon:e}"),
            Self::AdamW { beta1, beta2, epsilon, weight_decay } => {
                write!(f, "AdamW, beta ({beta1}, {beta2}), epsilon {epsilon:e}, weight decay {weight_decay}")
            }
        }
    }
}

/// What an update reads: places in the slot `hyper`, which the host writes before every update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hyper {
    /// η, over 1 − β1ᵗ where there is one.
    Rate,
    /// β1, or μ.
    Beta1,
    /// 1 − β1
    Rest1,
    /// β2
    Beta2,
    /// 1 − β2
    Rest2,
    /// √(1 − β2ᵗ)
    Correction,
    /// ε
    Epsilon,
    /// 1 − η λ
    Keep,
    /// The norm that gradients are clipped to.
    MaxNorm,
    /// What gradients are multiplied by: 1, or what `clip` makes of their norm.
    Scale,
}

impl Hyper {
    /// How many there are.
    pub const COUNT: usize = Self::Scale as usize + 1;

    /// Names of the generated WGSL constants.
    pub const NAMES: [(Self, &str); Self::COUNT] = [
        (Self::Rate, "HYPER_RATE"),
        (Self::Beta1, "HYPER_BETA1"),
        (Self::Rest1, "HYPER_REST1"),
        (Self::Beta2, "HYPER_BETA2"),
        (Self::Rest2, "HYPER_REST2"),
        (Self::Correction, "HYPER_CORRECTION"),
        (Self::Epsilon, "HYPER_EPSILON"),
        (Self::Keep, "HYPER_KEEP"),
        (Self::MaxNorm, "HYPER_MAX_NORM"),
        (Self::Scale, "HYPER_SCALE"),
    ];
}
