//! Keras's activations: a row each, as the function of a recurrent cell and as an expression.

use super::config::{LayerConfig, shown};
use wgpu_rnn::expr::{Expr, exp, exp_m1, max, relu, sigmoid, softplus, tanh};
use wgpu_rnn::{Activation, Error, Result};

/// What `hard_sigmoid` is: clip(alpha · v + 0.5, 0, 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HardSigmoid(pub f64);

impl HardSigmoid {
    /// Before Keras 3.
    pub const OLD: Self = Self(0.2);
    /// From Keras 3 on.
    pub const NEW: Self = Self(1.0 / 6.0);

    pub fn cell(self) -> Activation {
        Activation::HardSigmoid { alpha: self.0 as f32, beta: 0.5 }
    }

    fn expr(self, x: Expr) -> Expr {
        clip(Expr::from(self.0) * x + 0.5.into(), 0.0, 1.0)
    }
}

/// The activation of a recurrent cell by its name in Keras; none is linear.
pub(super) fn of_cell(name: Option<&str>, hard: HardSigmoid) -> Result<Activation> {
    Ok(match name.unwrap_or("linear") {
        "linear" => Activation::Affine { alpha: 1.0, beta: 0.0 },
        "relu" => Activation::Relu,
        "sigmoid" => Activation::Sigmoid,
        "tanh" => Activation::Tanh,
        "hard_sigmoid" => hard.cell(),
        "elu" => Activation::Elu { alpha: 1.0 },
        "softsign" => Activation::Softsign,
        "softplus" => Activation::Softplus,
        "leaky_relu" => Activation::LeakyRelu { alpha: 0.2 },
        other => {
            let reason = "recurrent cells have linear, relu, leaky_relu, sigmoid, hard_sigmoid, tanh, elu, softsign and softplus";
            return Err(Error::Unsupported { what: format!("activation {}", shown(other)), reason: reason.into() });
        }
    })
}

/// The same as an expression over input 0; `None` for softmax, which looks at all columns.
pub(super) fn of_columns(name: Option<&str>, hard: HardSigmoid) -> Result<Option<Expr>> {
    let x = || Expr::input(0);
    Ok(Some(match name.unwrap_or("linear") {
        "softmax" => return Ok(None),
        "linear" => x(),
        "relu" => relu(x()),
        "relu6" => clip(x(), 0.0, 6.0),
        "sigmoid" => sigmoid(x()),
        "tanh" => tanh(x()),
        "hard_sigmoid" => hard.expr(x()),
        "elu" => elu(x(), 1.0),
        "selu" => Expr::from(1.050_700_987_355_480_5) * elu(x(), 1.673_263_242_354_377_2),
        "softsign" => x() / (Expr::from(1.0) + max(x(), -x())),
        "softplus" => softplus(x()),
        "leaky_relu" => leaky(x(), 0.2),
        "exponential" => exp(x()),
        "silu" | "swish" => x() * sigmoid(x()),
        "hard_silu" | "hard_swish" => x() * hard.expr(x()),
        "mish" => x() * tanh(softplus(x())),
        other => {
            let reason = "networks have Keras's activations but for gelu, log_softmax and the rarer ones";
            return Err(Error::Unsupported { what: format!("activation {}", shown(other)), reason: reason.into() });
        }
    }))
}

/// The expression of a layer that is an activation; `None` for softmax.
pub(super) fn of_layer(layer: &LayerConfig, hard: HardSigmoid) -> Result<Option<Expr>> {
    let x = || Expr::input(0);
    Ok(Some(match layer.class.as_str() {
        "ReLU" => {
            let slope = layer.number("negative_slope", 0.0);
            let threshold = layer.number("threshold", 0.0);
            if threshold != 0.0 {
                let reason = "networks have ReLU with a threshold of 0".into();
                return Err(Error::Unsupported { what: format!("threshold {threshold}"), reason });
            }
            let y = leaky(x(), slope);
            layer.field("max_value").and_then(serde_json::Value::as_f64).map_or(y.clone(), |most| least(y, most))
        }
        "LeakyReLU" => leaky(x(), layer.number("negative_slope", layer.number("alpha", 0.3))),
        "ELU" => elu(x(), layer.number("alpha", 1.0)),
        "Softmax" => return Ok(None),
        _ => return of_columns(layer.activation(&["activation"]).as_deref(), hard),
    }))
}

/// The smaller of x and a number.
fn least(x: Expr, most: f64) -> Expr {
    -max(-x, Expr::from(-most))
}

fn clip(x: Expr, low: f64, high: f64) -> Expr {
    max(least(x, high), low.into())
}

fn leaky(x: Expr, slope: f64) -> Expr {
    relu(x.clone()) - Expr::from(slope) * relu(-x)
}

fn elu(x: Expr, alpha: f64) -> Expr {
    relu(x.clone()) + Expr::from(alpha) * exp_m1(-relu(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_and_columns_have_the_same_functions() {
        for (hard, at_one) in [(HardSigmoid::OLD, 0.7), (HardSigmoid::NEW, 1.0 / 6.0 + 0.5)] {
            let expr = of_columns(Some("hard_sigmoid"), hard).unwrap().unwrap();
            assert_eq!(hard.cell().parameters()[0], hard.0 as f32);
            assert!((expr.at(&[1.0]) - at_one).abs() < 1e-15);
            assert_eq!([expr.at(&[-9.0]), expr.at(&[9.0])], [0.0, 1.0]);
        }
    }

    #[test]
    fn expressions_by_hand() {
        let at = |name: &str, x: f64| of_columns(Some(name), HardSigmoid::NEW).unwrap().unwrap().at(&[x]);
        assert_eq!([at("relu6", 7.0), at("relu6", -1.0), at("relu6", 2.5)], [6.0, 0.0, 2.5]);
        assert_eq!([at("leaky_relu", -2.0), at("leaky_relu", 2.0)], [-0.4, 2.0]);
        assert!((at("elu", -1.0) - (-1f64).exp_m1()).abs() < 1e-15);
        assert!((at("softsign", -3.0) + 0.75).abs() < 1e-15);
        let error = of_columns(Some("gelu"), HardSigmoid::NEW).unwrap_err().to_string();
        assert!(error.starts_with("not supported: activation gelu: "), "{error}");
    }
}
