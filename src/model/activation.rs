//! Elementwise functions: what a configuration names ([`Activation`]) and what a cell calls ([`Functions`]).
//!
//! The definitions are those of the ONNX operators `RNN`, `LSTM` and `GRU` (attributes `activations`, `activation_alpha`,
//! `activation_beta`). The WGSL twins are in `shaders/lib/math.wgsl` and `shaders/lib/activations.wgsl`.

use crate::model::stack::RnnConfig;
use crate::num::Lanes;
use pulp::{Simd, WithSimd};

/// An elementwise function. NaN gives NaN.
///
/// ```
/// use wgpu_rnn::{Activation, RnnConfig};
/// let leaky = Activation::LeakyRelu { alpha: 0.1 };
/// let config = RnnConfig { activations: vec![Activation::HARD_SIGMOID, leaky], ..RnnConfig::gru(1, 1) };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// 1 / (1 + exp(−x))
    Sigmoid,
    /// tanh(x)
    Tanh,
    /// max(x, 0)
    Relu,
    /// α·x + β
    Affine {
        /// α
        alpha: f32,
        /// β
        beta: f32,
    },
    /// x where x ≥ 0, else α·x
    LeakyRelu {
        /// α
        alpha: f32,
    },
    /// x where x ≥ α, else 0
    ThresholdedRelu {
        /// α
        alpha: f32,
    },
    /// α·tanh(β·x)
    ScaledTanh {
        /// α
        alpha: f32,
        /// β
        beta: f32,
    },
    /// α·x + β, clamped to 0..=1
    HardSigmoid {
        /// α
        alpha: f32,
        /// β
        beta: f32,
    },
    /// x where x ≥ 0, else α·(exp(x) − 1)
    Elu {
        /// α
        alpha: f32,
    },
    /// x / (1 + |x|)
    Softsign,
    /// log(1 + exp(x))
    Softplus,
}

impl Activation {
    /// ONNX's default, α = 0.01.
    pub const LEAKY_RELU: Self = Self::LeakyRelu { alpha: 0.01 };
    /// ONNX's default, α = 1.
    pub const THRESHOLDED_RELU: Self = Self::ThresholdedRelu { alpha: 1.0 };
    /// ONNX's default, α = 0.2, β = 0.5.
    pub const HARD_SIGMOID: Self = Self::HardSigmoid { alpha: 0.2, beta: 0.5 };
    /// ONNX's default, α = 1.
    pub const ELU: Self = Self::Elu { alpha: 1.0 };

    /// ONNX's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "Sigmoid",
            Self::Tanh => "Tanh",
            Self::Relu => "Relu",
            Self::Affine { .. } => "Affine",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::ThresholdedRelu { .. } => "ThresholdedRelu",
            Self::ScaledTanh { .. } => "ScaledTanh",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::Elu { .. } => "Elu",
            Self::Softsign => "Softsign",
            Self::Softplus => "Softplus",
        }
    }

    /// α and β, those that it has.
    pub fn parameters(self) -> Vec<f32> {
        match self {
            Self::Sigmoid | Self::Tanh | Self::Relu | Self::Softsign | Self::Softplus => Vec::new(),
            Self::LeakyRelu { alpha } | Self::ThresholdedRelu { alpha } | Self::Elu { alpha } => vec![alpha],
            Self::Affine { alpha, beta } | Self::ScaledTanh { alpha, beta } | Self::HardSigmoid { alpha, beta } => {
                vec![alpha, beta]
            }
        }
    }

    #[inline(always)]
    fn value<V: Lanes>(self, x: V) -> V {
        let zero = x.like(0.0);
        match self {
            Self::Sigmoid => x.sigmoid(),
            Self::Tanh => x.tanh(),
            Self::Relu => x.max(zero),
            Self::Affine { alpha, beta } => scaled(x, alpha).plus(beta),
            Self::LeakyRelu { alpha } => x.pick(zero, x, x * x.like(alpha.into())),
            Self::ThresholdedRelu { alpha } => x.pick(x.like(alpha.into()), x, zero),
            Self::ScaledTanh { alpha, beta } => (x * x.like(beta.into())).tanh() * x.like(alpha.into()),
            Self::HardSigmoid { alpha, beta } => scaled(x, alpha).plus(beta).max(zero).min(x.like(1.0)),
            Self::Elu { alpha } => x.pick(zero, x, (x.min(zero).exp() - x.like(1.0)) * x.like(alpha.into())),
            Self::Softsign => {
                let x = moderate(x);
                x.div(x.abs() + x.like(1.0))
            }
            // max(x, 0) + log(1 + exp(−|x|)): nothing overflows.
            Self::Softplus => x.max(zero) + (zero - x.abs()).exp().log_of_one_plus(),
        }
    }

    #[inline(always)]
    fn derivative<V: Lanes>(self, x: V) -> V {
        let (zero, one) = (x.like(0.0), x.like(1.0));
        match self {
            Self::Sigmoid => x.sigmoid_slope(),
            // tanh x = 2 sigmoid(2 x) − 1
            Self::Tanh => (x + x).sigmoid_slope() * x.like(4.0),
            Self::Relu => x.nan_or(x.positive()),
            Self::Affine { alpha, .. } => x.like(alpha.into()),
            Self::LeakyRelu { alpha } => x.pick(zero, one, x.like(alpha.into())),
            Self::ThresholdedRelu { alpha } => x.pick(x.like(alpha.into()), one, zero),
            Self::ScaledTanh { alpha, beta } => {
                let twice = x * x.like(2.0 * f64::from(beta));
                twice.sigmoid_slope() * x.like(4.0 * f64::from(alpha) * f64::from(beta))
            }
            Self::HardSigmoid { alpha, beta } => {
                let y = scaled(x, alpha).plus(beta);
                zero.pick(y, zero, y.pick(one, zero, x.like(alpha.into())))
            }
            Self::Elu { alpha } => x.pick(zero, one, x.min(zero).exp() * x.like(alpha.into())),
            Self::Softsign => {
                let share = one.div(moderate(x).abs() + one);
                share * share
            }
            Self::Softplus => x.sigmoid(),
        }
    }
}

/// α·x, to which β is added with one rounding for both.
struct Scaled<V>(V, f32);

fn scaled<V>(x: V, alpha: f32) -> Scaled<V> {
    Scaled(x, alpha)
}

impl<V: Lanes> Scaled<V> {
    #[inline(always)]
    fn plus(self, beta: f32) -> V {
        self.0.mul_add(self.0.like(self.1.into()), self.0.like(beta.into()))
    }
}

/// x where x / (1 + |x|) is not ±1 yet: infinity over infinity is NaN.
#[inline(always)]
fn moderate<V: Lanes>(x: V) -> V {
    x.min(x.like(1e30)).max(x.like(-1e30))
}

impl std::fmt::Display for Activation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name().to_lowercase())?;
        match self.parameters()[..] {
            [] => Ok(()),
            [alpha] => write!(f, "({alpha})"),
            [alpha, beta, ..] => write!(f, "({alpha}, {beta})"),
        }
    }
}

/// An activation as a cell calls it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Function {
    activation: Activation,
    path: Path,
    /// What the argument is clamped to, on both sides of 0; infinite for nothing.
    clip: f32,
}

/// How a [`Function`] is evaluated: the usual ones are part of the stage kernel, the others a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Path {
    Sigmoid,
    Tanh,
    Relu,
    Call,
}

impl Function {
    fn new(activation: Activation, clip: f32) -> Self {
        let path = match activation {
            _ if clip < f32::INFINITY => Path::Call,
            Activation::Sigmoid => Path::Sigmoid,
            Activation::Tanh => Path::Tanh,
            Activation::Relu => Path::Relu,
            _ => Path::Call,
        };
        Self { activation, path, clip }
    }

    /// Its values.
    #[inline(always)]
    pub fn apply<V: Lanes>(&self, x: V) -> V {
        match self.path {
            Path::Sigmoid => Activation::Sigmoid.value(x),
            Path::Tanh => Activation::Tanh.value(x),
            Path::Relu => Activation::Relu.value(x),
            Path::Call => call::<V, false>(self, x),
        }
    }

    /// Its derivative at `x`; 0 for relu at 0, and where `x` is clipped. Not taken from the value y there: 1 − y² is all rounding error where y is near
    /// 1.
    #[inline(always)]
    pub fn slope<V: Lanes>(&self, x: V) -> V {
        match self.path {
            Path::Sigmoid => Activation::Sigmoid.derivative(x),
            Path::Tanh => Activation::Tanh.derivative(x),
            Path::Relu => Activation::Relu.derivative(x),
            Path::Call => call::<V, true>(self, x),
        }
    }
}

/// Out of the stage kernels, which would grow by all activations at every place that applies one.
#[cold]
#[inline(never)]
fn call<V: Lanes, const SLOPE: bool>(function: &Function, x: V) -> V {
    struct Run<V, const SLOPE: bool>(Function, V);
    impl<V: Lanes, const SLOPE: bool> WithSimd for Run<V, SLOPE> {
        type Output = V;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _isa: S) -> V {
            let Self(Function { activation, clip, .. }, x) = self;
            let v = clamp(x, clip);
            x.nan_or(if SLOPE { within(x, clip, activation.derivative(v)) } else { activation.value(v) })
        }
    }
    x.isa().vectorize(Run::<V, SLOPE>(*function, x))
}

/// x clamped to ±`limit`.
#[inline(always)]
fn clamp<V: Lanes>(x: V, limit: f32) -> V {
    x.min(x.like(limit.into())).max(x.like((-limit).into()))
}

/// `d` where |x| is at most `limit`, else 0: the adjoint of [`clamp`].
#[inline(always)]
fn within<V: Lanes>(x: V, limit: f32, d: V) -> V {
    x.like(limit.into()).pick(x.abs(), d, x.like(0.0))
}

/// What a cell of one direction calls: its activations, in the cell's order, by index; and what an LSTM does beside them.
#[derive(Clone, Debug, PartialEq)]
pub struct Functions {
    list: Vec<Function>,
    cell_clip: f32,
    /// [`RnnConfig::input_forget`]: f is 1 − i.
    pub input_forget: bool,
}

impl Functions {
    /// Those of a configuration's direction (0 or 1).
    pub(crate) fn new(config: &RnnConfig, direction: usize) -> Self {
        let limit = |clip: Option<f32>| clip.unwrap_or(f32::INFINITY);
        let function = |activation| Function::new(activation, limit(config.clip));
        let list = config.activations_of(direction).into_iter().map(function).collect();
        Self { list, cell_clip: limit(config.cell_clip), input_forget: config.input_forget }
    }

    /// c clamped to ± [`RnnConfig::cell_clip`].
    #[inline(always)]
    pub fn clip_cell<V: Lanes>(&self, c: V) -> V {
        if self.cell_clip < f32::INFINITY { c.nan_or(clamp(c, self.cell_clip)) } else { c }
    }

    /// The adjoint of `clip_cell` at `c`: `d`, or 0 where c is clipped.
    #[inline(always)]
    pub fn clip_cell_back<V: Lanes>(&self, c: V, d: V) -> V {
        if self.cell_clip < f32::INFINITY { c.nan_or(within(c, self.cell_clip, d)) } else { d }
    }
}

impl std::ops::Index<usize> for Functions {
    type Output = Function;

    #[inline(always)]
    fn index(&self, n: usize) -> &Function {
        &self.list[n]
    }
}
