//! Files: whole models, and trained layers out of files of named tensors.

use crate::array::{Given, give, read};
use crate::config::described;
use crate::device;
use crate::error::Result;
use crate::tape::named;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use wgpu_rnn::io::Kind;
use wgpu_rnn::network::NetworkOptions;
use wgpu_rnn::{Device, Error, View};
use wgpu_rnn_formats::{ModelFile, WholeModel, WholeSession, WholeValue};

/// Sessions of a model kept at most, each for other shapes.
const SESSIONS: usize = 8;

/// What is recurrent in a file, as `wgpu-rnn inspect --json` tells it.
#[pyfunction]
pub fn inspect(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    let found = py.detach(|| wgpu_rnn_formats::inspect(path));
    Ok(found.map(|found| wgpu_rnn_cli::inspection(&found).to_string()).map_err(crate::error::Fault::from)?)
}

/// Whether a file has named tensors alone; of a file of no known kind the reader of models says what it is.
#[pyfunction]
pub fn holds_tensors(py: Python<'_>, path: PathBuf) -> PyResult<bool> {
    let bytes = py.detach(|| std::fs::read(&path).map_err(|e| Error::file(&path, e)));
    let bytes = bytes.map_err(crate::error::Fault::from)?;
    Ok(Kind::of(&bytes).is_some_and(wgpu_rnn_formats::Tensors::reads))
}

/// The file, whose bytes may be given instead of its place.
fn opened(py: Python<'_>, path: PathBuf, bytes: Option<&Bound<'_, PyBytes>>) -> Result<ModelFile> {
    let bytes = bytes.map(|bytes| bytes.as_bytes().to_vec());
    Ok(py.detach(|| match bytes {
        Some(bytes) => ModelFile::from_bytes(path, bytes),
        None => ModelFile::open(path),
    })?)
}

/// A whole model: ONNX or Keras.
#[pyclass(module = "wgpu_rnn._core", frozen)]
pub struct Model {
    model: WholeModel,
    device: Device,
    /// By the shapes that they are for; the one used longest ago first.
    sessions: Mutex<Vec<(Shapes, WholeSession<f32>)>>,
}

type Shapes = Vec<(String, Vec<usize>)>;

#[pymethods]
impl Model {
    #[new]
    #[pyo3(signature = (path, device, bytes=None))]
    fn new(py: Python<'_>, path: PathBuf, device: String, bytes: Option<&Bound<'_, PyBytes>>) -> PyResult<Self> {
        let file = opened(py, path, bytes)?;
        let made = py.detach(|| Ok((file.whole()?, device::open(&device)?)));
        let (model, device) = made.map_err(|e: crate::error::Fault| PyErr::from(e))?;
        Ok(Self { model, device, sessions: Mutex::default() })
    }

    /// Names and axes.
    fn inputs(&self) -> Vec<(String, String)> {
        pairs(self.model.inputs())
    }

    /// Names and axes.
    fn outputs(&self) -> Vec<(String, String)> {
        pairs(self.model.outputs())
    }

    /// Every output by its name.
    fn run<'py>(&self, py: Python<'py>, inputs: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        Ok(self.results(py, inputs)?)
    }
}

impl Model {
    fn results<'py>(&self, py: Python<'py>, inputs: &Bound<'py, PyDict>) -> Result<Bound<'py, PyDict>> {
        device::check()?;
        let mut names = Vec::new();
        let mut arrays = Vec::new();
        for (name, value) in inputs.iter() {
            let name: String = name.extract()?;
            arrays.push(read::<f32>(&name, &value)?);
            names.push(name);
        }
        let views: Vec<(&str, View<'_, f32>)> =
            names.iter().map(String::as_str).zip(arrays.iter().map(Given::view)).collect();
        let values = py.detach(|| self.forward(&views))?;
        let all = PyDict::new(py);
        for (name, value) in values {
            all.set_item(name, give(py, value)?)?;
        }
        Ok(all)
    }

    fn forward(&self, inputs: &[(&str, View<'_, f32>)]) -> Result<Vec<(String, wgpu_rnn::Tensor<f32>)>> {
        let shapes: Shapes = inputs.iter().map(|(name, view)| ((*name).to_string(), view.shape.to_vec())).collect();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, mut session) = match sessions.iter().position(|(of, _)| *of == shapes) {
            Some(n) => sessions.remove(n),
            None => {
                let made = self.model.session_with::<f32>(&self.device, &NetworkOptions::default(), inputs)?;
                (shapes.clone(), made)
            }
        };
        let values = session.run(inputs)?;
        if sessions.len() >= SESSIONS {
            sessions.remove(0);
        }
        sessions.push((shapes, session));
        Ok(values)
    }
}

fn pairs(values: Vec<WholeValue>) -> Vec<(String, String)> {
    values.into_iter().map(|value| (value.name, value.shape)).collect()
}

/// A file of named tensors: safetensors, .pt, .pth or .npz.
#[pyclass(module = "wgpu_rnn._core", frozen)]
pub struct Tensors(wgpu_rnn_formats::Tensors);

#[pymethods]
impl Tensors {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let file = py.detach(|| wgpu_rnn_formats::Tensors::open(path));
        Ok(Self(file.map_err(crate::error::Fault::from)?))
    }

    /// Every name.
    fn names(&self) -> Vec<&str> {
        self.0.names().collect()
    }

    /// A tensor's values, rounded to 32 bits.
    fn tensor<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let value = py.detach(|| self.0.real::<f32>(name)).map_err(crate::error::Fault::from)?;
        let none = || Error::mismatch("tensor", "a name of the file", name);
        let (shape, data) = value.ok_or_else(none).map_err(crate::error::Fault::from)?;
        Ok(give(py, wgpu_rnn::Tensor { data, shape })?.into_any())
    }

    /// The names of its recurrent layers and stacks.
    fn layers(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| self.0.layers().iter().map(|layer| layer.name().to_string()).collect())
    }

    /// A layer, or the only one: what it is, and its parameters by PyTorch's names.
    #[pyo3(signature = (name=None))]
    fn layer<'py>(&self, py: Python<'py>, name: Option<&str>) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>)> {
        let found = py.detach(|| self.0.layer(name)?.read::<f32>(None));
        let (config, weights) = found.map_err(crate::error::Fault::from)?;
        let none = || Error::Unsupported {
            what: format!("layer {}", name.unwrap_or_default()),
            reason: "it has activations of its own".into(),
        };
        let description = described(py, &config)?.ok_or_else(none).map_err(crate::error::Fault::from)?;
        let all = PyDict::new(py);
        for (name, values) in named(&config, weights) {
            all.set_item(name, give(py, values)?)?;
        }
        Ok((description, all))
    }
}
