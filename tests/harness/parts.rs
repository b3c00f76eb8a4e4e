//! Goldens to be changed: by whoever includes this, and says in `folder` where they are.

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::collections::HashMap;

/// A golden's tensors, to be changed and written again.
pub struct Parts {
    pub config: String,
    pub tensors: HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Parts {
    pub fn of(name: &str) -> Self {
        let bytes = std::fs::read(super::folder().join(format!("{name}.safetensors"))).expect("a golden");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
        let config = header.metadata().as_ref().expect("metadata")["config"].clone();
        let file = SafeTensors::deserialize(&bytes).expect("a golden");
        let part = |t: &TensorView<'_>| (t.dtype(), t.shape().to_vec(), t.data().to_vec());
        Self { config, tensors: file.iter().map(|(n, t)| (n.to_string(), part(&t))).collect() }
    }

    pub fn values(&mut self, name: &str, change: impl FnOnce(&mut [f64])) {
        let (_, _, bytes) = self.tensors.get_mut(name).expect("a tensor of the golden");
        let mut values: Vec<f64> = bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
        change(&mut values);
        *bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    }

    pub fn bytes(&self) -> Vec<u8> {
        let view = |(dtype, shape, data): &'_ (Dtype, Vec<usize>, Vec<u8>)| (*dtype, shape.clone(), data.clone());
        let parts: Vec<_> = self.tensors.iter().map(|(n, t)| (n, view(t))).collect();
        let views =
            parts.iter().map(|(n, (d, s, b))| (n, TensorView::new(*d, s.clone(), b).expect("a fitting tensor")));
        serialize(views, Some([("config".to_string(), self.config.clone())].into())).expect("serialises")
    }
}
