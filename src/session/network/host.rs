//! A network within the host's own GPU work: over the host's buffers, into the host's encoder.

use super::NetworkSession;
use crate::error::{Error, Result};
use crate::exec::Element;
use crate::exec::gpu::{NetworkBinding, NetworkBuffers};

impl<T: Element> NetworkSession<T> {
    /// Bind groups that use the caller's own buffers, for [`NetworkSession::encode`]. GPU only.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on the CPU executor, and for an input of token ids, targets or weights; [`Error::Mismatch`] for a wrong
    /// number of buffers or one that is too small; [`Error::Gpu`] for one with the wrong usage or device.
    #[cfg(not(target_family = "wasm"))]
    pub fn bind(&self, buffers: &NetworkBuffers<'_>) -> Result<NetworkBinding> {
        self.device.block(self.bind_async(buffers))
    }

    /// [`NetworkSession::bind`] for those who may not wait.
    ///
    /// # Errors
    /// As [`NetworkSession::bind`].
    pub async fn bind_async(&self, buffers: &NetworkBuffers<'_>) -> Result<NetworkBinding> {
        self.device.require_gpu("bind")?;
        self.check_bound(buffers)?;
        let binding = self.executor.on_gpu(|e, plan| e.bind_host(plan, buffers))?;
        self.device.settle().await?;
        Ok(binding)
    }

    /// Ids and classes are checked where they are written: nobody sees those in the host's buffers.
    fn check_bound(&self, buffers: &NetworkBuffers<'_>) -> Result<()> {
        let network = &self.plan.network;
        let ids = network.embeddings().map(|(_, of)| of.ids.value);
        let losses =
            network.losses().flat_map(|(_, of)| [Some(of.targets.value), of.weights.map(|w| w.value)]).flatten();
        let checked: Vec<usize> = ids.chain(losses).collect();
        let bound = network.inputs.iter().zip(buffers.inputs).filter(|(_, buffer)| buffer.is_some());
        match bound.map(|(value, _)| *value).find(|value| checked.contains(value)) {
            Some(value) => Err(Error::Unsupported {
                what: format!("a buffer of the host's for {}", network.values[value].name),
                reason: "its ids, targets or weights must be checked; give it to NetworkSession::write".into(),
            }),
            None => Ok(()),
        }
    }

    /// Sets each sequence's length for the runs to come; `None`: all T. [`NetworkSession::write`] does this too; resets stay those
    /// of the last input.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a wrong count or a length beyond T; errors of the device.
    pub fn set_lengths(&mut self, lengths: Option<&[usize]>) -> Result<()> {
        let resets = self.times.resets.clone();
        let times = self.checked_times(lengths, Some(&resets[..]).filter(|r| !r.is_empty()))?;
        self.unsettled();
        self.executor.write_times(&times)?;
        self.times = times;
        Ok(())
    }

    /// Encodes the whole way there into the caller's encoder, no submit, nothing read back: inputs and outputs from and to the buffers
    /// of `binding`, from the states that were written last or carried ([`NetworkSession::encode_carry`]). The session's own outputs and
    /// states are not those of an earlier run any more. Lengths are those of [`NetworkSession::set_lengths`]; they are uploaded at once,
    /// so encode again after changing them, into another submit.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the plan needs several submits (then use [`NetworkSession::encode_part`]); [`Error::Unsupported`] on
    /// the CPU executor.
    pub fn encode(&mut self, encoder: &mut wgpu::CommandEncoder, binding: &NetworkBinding) -> Result<()> {
        let submits = self.plan.submit_count(false);
        if submits > 1 {
            let expected = "a plan of one submit (or encode_part)";
            return Err(Error::mismatch("encode", expected, format!("{submits} submits")));
        }
        self.encode_part(0, encoder, binding)
    }

    /// Encodes part `index` of as many as [`crate::network::NetworkPlanData::submit_count`] says; the parts must be submitted in order.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a part that does not exist; [`Error::Unsupported`] on the CPU executor.
    pub fn encode_part(
        &mut self,
        index: usize,
        encoder: &mut wgpu::CommandEncoder,
        binding: &NetworkBinding,
    ) -> Result<()> {
        self.device.require_gpu("encode")?;
        let submits = self.plan.submit_count(false);
        if index >= submits {
            return Err(Error::mismatch("part", format!("0..{submits}"), index));
        }
        self.unsettled();
        if index == 0 {
            self.draw()?;
        }
        self.executor.on_gpu(|e, plan| e.encode_host(encoder, plan, index, binding))
    }

    /// Encodes that what comes next goes on from the states that the run encoded before it ends with: a stream over the host's buffers.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on the CPU executor; errors of the device.
    pub fn encode_carry(&mut self, encoder: &mut wgpu::CommandEncoder) -> Result<()> {
        self.device.require_gpu("encode_carry")?;
        self.unsettled();
        self.executor.on_gpu(|e, plan| e.encode_carry(encoder, plan))
    }
}
