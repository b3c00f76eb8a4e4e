//! How a plan stores activations on a device.

use super::{Caps, DeviceClass, Options};
use crate::error::{Error, Result};
use crate::model::activation_format::ActivationFormat;

impl Options {
    /// See [`crate::Plan::activation_storage`].
    pub(crate) fn activation_storage(&self, caps: &Caps) -> ActivationFormat {
        if caps.class == DeviceClass::Cpu { ActivationFormat::F32 } else { self.activations }
    }

    /// Bytes of a value of x, `pre` or y on a device.
    pub(crate) fn activation_bytes(&self, caps: &Caps) -> usize {
        match self.activation_storage(caps) {
            ActivationFormat::F32 => self.precision.bytes(),
            half => half.bytes(),
        }
    }

    /// Refuses activations in fewer bits where there is no plan, or no shader, for them.
    pub(crate) fn check_activations(&self, caps: &Caps) -> Result<()> {
        if self.activations == ActivationFormat::F32 {
            return Ok(());
        }
        let refused = |what: &str, reason: &str| Err(Error::Unsupported { what: what.into(), reason: reason.into() });
        if self.train {
            let reason = "the backward pass reads what the forward pass keeps in 32 bits; train with f32 activations";
            return refused("training with f16 activations", reason);
        }
        if !caps.f16 {
            let reason = "the device has no f16 in shaders, or was made without wgpu's Features::SHADER_F16; \
                          use f32 activations";
            return refused("f16 activations", reason);
        }
        Ok(())
    }
}
