//! A configuration as a network: its stack, and what is around it, as operations.

use super::{Builder, Network};
use crate::error::Result;
use crate::model::stack::{Head, Loss, RnnConfig};

impl Network {
    /// The network that computes what a [`crate::Session`] of the configuration does:
    ///
    /// ```text
    /// inputs   ids [T, B, 1] with a vocabulary, else x [T, B, I]; with a loss target [T, B, 1 or O] and weight [T, B, 1]
    /// outputs  y [T, B, D·(P or H)]; with a head predictions [T, B, O] instead
    /// ```
    ///
    /// Its parameters are those of [`crate::weights::parameters`], under the same names and in the same order, so that
    /// [`crate::Weights::flat`] gives them. Bits are those of the session, but for what a head adds up in another order.
    ///
    /// # Errors
    /// As [`RnnConfig::validate`] and [`Builder::embedding`]; [`crate::Error::Unsupported`] for a batch-first layout: networks are
    /// time-major.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use wgpu_rnn::network::{Network, NetworkInput, NetworkOptions, NetworkPlan, NetworkSession};
    /// use wgpu_rnn::{Device, RnnConfig, Shape, View, Weights};
    /// # fn main() -> wgpu_rnn::Result<()> {
    /// let config = RnnConfig { vocabulary: Some(20), ..RnnConfig::gru(3, 5) };
    /// let (device, network) = (Device::cpu(), Arc::new(Network::of_config(&config)?));
    /// let plan = NetworkPlan::new(&network, Shape { time: 4, batch: 1 }, &device.caps(), &NetworkOptions::default())?;
    /// let params: Vec<f32> = Weights::<f32>::random(&config, 1)?.flat(&config);
    /// let mut session = NetworkSession::new(&device, plan, &params)?;
    /// let out = session.forward(&NetworkInput::new(&[View::new(&[2.0, 7.0, 1.0, 19.0], &[4, 1, 1])]))?;
    /// assert_eq!(out.values[0].shape, [4, 1, 5]);
    /// # Ok(()) }
    /// ```
    pub fn of_config(config: &RnnConfig) -> Result<Self> {
        config.validate()?;
        let mut b = Builder::new();
        // Parameters in canonical order: the table, the stack's, the head's.
        let x = match config.vocabulary {
            Some(vocabulary) => {
                let ids = b.input("ids", 1)?;
                b.embedding("embedding", ids, vocabulary, config.input_size)?
            }
            None => b.input("x", config.input_size)?,
        };
        let y = b.stack("y", "", x, &RnnConfig { vocabulary: None, head: None, ..config.clone() })?;
        let Some(Head { size, loss }) = config.head else {
            b.output("y", y)?;
            return b.finish();
        };
        let (weight, bias) = (b.param("head.weight", &[size, y.width])?, b.param("head.bias", &[size])?);
        let predictions = b.linear("predictions", y, weight, Some(bias))?;
        b.output("predictions", predictions)?;
        if let Some(loss) = loss {
            let target = b.input("target", if loss == Loss::CrossEntropy { 1 } else { size })?;
            let weight = b.input("weight", 1)?;
            b.loss("loss", predictions, target, Some(weight), loss)?;
        }
        b.finish()
    }
}
