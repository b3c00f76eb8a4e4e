//! A configuration as a network: what a session of it gives, of the same parameters.

use crate::networks::{gpu, random};
use std::sync::Arc;
use wgpu_rnn::network::*;
use wgpu_rnn::weights::parameters;
use wgpu_rnn::*;
use wgpu_rnn_verify::tolerance;

type Named = Vec<(String, Vec<f64>)>;

const SHAPE: Shape = Shape { time: 5, batch: 4 };
const LENGTHS: [usize; 4] = [3, 0, 5, 1];
const ROWS: usize = 20;

/// What both read; past a sequence's end it is nothing that may be read.
struct Data<T> {
    x: Vec<T>,
    ids: Vec<u32>,
    classes: Vec<u32>,
    values: Vec<T>,
    weights: Vec<T>,
    /// Upstream of y.
    dy: Vec<T>,
}

impl<T: Element> Data<T> {
    fn new(config: &RnnConfig) -> Self {
        let padding = |n: usize, width: usize| n / width / 4 >= LENGTHS[n / width % 4];
        let numbers = |width: usize, seed: u64| -> Vec<f64> {
            let hidden = |(n, v)| if padding(n, width) { f64::NAN } else { v };
            random(ROWS * width, seed).into_iter().enumerate().map(hidden).collect()
        };
        let cast = |v: Vec<f64>| v.into_iter().map(T::from_f64).collect::<Vec<T>>();
        let whole = |count: usize, seed: u64| -> Vec<u32> {
            let of = |v: f64| if v.is_nan() { u32::MAX } else { (v.abs() * count as f64) as u32 };
            numbers(1, seed).into_iter().map(of).collect()
        };
        let size = config.head.map_or(1, |head| head.size);
        Self {
            x: cast(numbers(config.input_size, 1)),
            ids: whole(config.vocabulary.unwrap_or(1), 2),
            classes: whole(size, 3),
            values: cast(numbers(size, 4)),
            weights: cast(numbers(1, 5).into_iter().map(f64::abs).collect()),
            dy: cast(random(ROWS * config.output_size(), 6)),
        }
    }
}

fn wide<T: Element>(values: &[T]) -> Vec<f64> {
    values.iter().map(|v| v.to_f64()).collect()
}

fn precision<T: Element>() -> Precision {
    if T::NAME == "f64" { Precision::F64 } else { Precision::F32 }
}

/// A session's results by name: y or predictions, the loss, gradients of x and of parameters.
fn alone<T: Element>(device: &Device, config: &RnnConfig) -> Result<Named> {
    let data = Data::<T>::new(config);
    let train = config.head.is_none_or(|head| head.loss.is_some());
    let options = Options { train, precision: precision::<T>(), ..Default::default() };
    let plan = Plan::new(config, SHAPE, &device.caps(), &options)?;
    let mut session = Session::from_plan(device, plan, &Weights::<f64>::random(config, 9)?.cast::<T>())?;
    let x_shape = [5, 4, config.input_size];
    let input = match config.vocabulary {
        Some(_) => Input::of_ids(View::new(&data.ids, &[5, 4])),
        None => Input::new(View::new(&data.x, &x_shape)),
    };
    session.write(&Input { lengths: Some(&LENGTHS), ..input })?;
    if let Some(Head { size, loss: Some(loss) }) = config.head {
        let shape = [5, 4, size];
        let values = match loss {
            Loss::CrossEntropy => TargetValues::Classes(View::new(&data.classes, &[5, 4])),
            Loss::MeanSquared => TargetValues::Values(View::new(&data.values, &shape)),
        };
        session.write_targets(&Targets { values, weights: Some(View::new(&data.weights, &[5, 4])) })?;
    }
    session.run()?;
    let out = session.output()?;
    let mut all = vec![match out.predictions {
        Some(predictions) => ("predictions".to_string(), wide(&predictions.data)),
        None => ("y".to_string(), wide(&out.y.data)),
    }];
    if !train {
        return Ok(all);
    }
    let dy_shape = [5, 4, config.output_size()];
    let mut dy = Some(View::new(&data.dy, &dy_shape));
    if config.head.is_some() {
        all.push(("loss".into(), vec![session.loss()?.to_f64()]));
        dy = None;
    }
    let back = session.backward(&Upstream { y: dy, hn: None, cn: None })?;
    if config.vocabulary.is_none() {
        all.push(("d.x".into(), wide(&back.x.data)));
    }
    all.extend(back.weights.named(config).map(|(p, values)| (format!("d.{}", p.name), wide(values))));
    Ok(all)
}

/// The same of a network.
fn within<T: Element>(device: &Device, config: &RnnConfig) -> Result<Named> {
    let data = Data::<T>::new(config);
    let network = Arc::new(Network::of_config(config)?);
    let train = config.head.is_none_or(|head| head.loss.is_some());
    let options = NetworkOptions { train, precision: precision::<T>(), ..Default::default() };
    let plan = NetworkPlan::new(&network, SHAPE, &device.caps(), &options)?;
    let params: Vec<T> = Weights::<f64>::random(config, 9)?.flat(config);
    let mut session = NetworkSession::new(device, plan, &params)?;
    session.poison()?;
    let whole = |v: &[u32]| -> Vec<T> {
        v.iter().map(|&v| T::from_f64(if v == u32::MAX { f64::NAN } else { f64::from(v) })).collect()
    };
    let (ids, classes) = (whole(&data.ids), whole(&data.classes));
    let size = config.head.map_or(1, |head| head.size);
    let shapes = [config.input_size, 1, size].map(|width| [5, 4, width]);
    let names: Vec<&str> = network.inputs.iter().map(|&v| network.values[v].name.as_str()).collect();
    let loss = config.head.and_then(|head| head.loss);
    let of = |name: &&str| match *name {
        "x" => View::new(&data.x, &shapes[0]),
        "ids" => View::new(&ids, &shapes[1]),
        "target" if loss == Some(Loss::CrossEntropy) => View::new(&classes, &shapes[1]),
        "target" => View::new(&data.values, &shapes[2]),
        "weight" => View::new(&data.weights, &shapes[1]),
        other => panic!("an input {other}"),
    };
    let values: Vec<View<'_, T>> = names.iter().map(of).collect();
    let out = session.forward(&NetworkInput { lengths: Some(&LENGTHS), ..NetworkInput::new(&values) })?;
    assert_eq!((out.values.len(), network.outputs.len()), (1, 1));
    let mut all = vec![(network.outputs[0].0.clone(), wide(&out.values[0].data))];
    if !train {
        return Ok(all);
    }
    let back = match config.head {
        Some(_) => {
            all.push(("loss".into(), vec![session.loss()?.to_f64()]));
            session.run_back()?;
            session.gradients()?
        }
        None => {
            let shape = [5, 4, config.output_size()];
            let values = [View::new(&data.dy, &shape)];
            session.backward(&NetworkUpstream { values: &values, states: None })?
        }
    };
    if config.vocabulary.is_none() {
        all.push(("d.x".into(), wide(&back.inputs[0].data)));
    }
    let params = network.params.iter().zip(&back.params);
    all.extend(params.map(|(p, g)| (format!("d.{}", p.name), wide(&g.data))));
    Ok(all)
}

fn head(size: usize, loss: Option<Loss>) -> Option<Head> {
    Some(Head { size, loss })
}

#[test]
fn a_stack_has_the_bits_of_its_session() -> Result<()> {
    let lstm = RnnConfig { direction: Direction::Bidirectional, num_layers: 2, proj_size: 3, ..RnnConfig::lstm(6, 5) };
    let of_ids = RnnConfig { vocabulary: Some(11), ..RnnConfig::gru(6, 5) };
    let skips = RnnConfig { vocabulary: Some(3), input: InputMode::Skip, ..RnnConfig::rnn(5, 5) };
    for (n, config) in [of_ids, lstm, skips].into_iter().enumerate() {
        assert_eq!(within::<f32>(&Device::cpu(), &config)?, alone::<f32>(&Device::cpu(), &config)?, "{config:?}");
        assert_eq!(within::<f64>(&Device::cpu(), &config)?, alone::<f64>(&Device::cpu(), &config)?, "{config:?}");
        if n == 0 {
            assert_eq!(within::<f32>(&gpu(), &config)?, alone::<f32>(&gpu(), &config)?, "{config:?} on a GPU");
        }
    }
    Ok(())
}

#[test]
fn heads_and_losses_are_those_of_the_session() -> Result<()> {
    let words = RnnConfig { vocabulary: Some(11), head: head(7, Some(Loss::CrossEntropy)), ..RnnConfig::lstm(6, 5) };
    let both = Direction::Bidirectional;
    let square = RnnConfig { head: head(3, Some(Loss::MeanSquared)), direction: both, ..RnnConfig::gru(6, 5) };
    let predicts = RnnConfig { head: head(4, None), ..RnnConfig::gru(2, 5) };
    for config in [&words, &square, &predicts] {
        let (got, truth) = (within::<f64>(&Device::cpu(), config)?, alone::<f64>(&Device::cpu(), config)?);
        assert_eq!(got.len(), truth.len());
        for ((name, got), (other, truth)) in got.iter().zip(&truth) {
            assert_eq!(name, other);
            let (error, bound) = (tolerance::error(got, truth), tolerance::bound_f64(tolerance::scale(truth)));
            assert!(error <= bound, "{name} of {config:?}: off by {error:e}, over {bound:e}");
        }
    }
    let (got, truth) = (within::<f32>(&gpu(), &words)?, alone::<f64>(&Device::cpu(), &words)?);
    let calibration = alone::<f32>(&Device::cpu(), &words)?;
    for (((name, got), (_, truth)), (_, narrow)) in got.iter().zip(&truth).zip(&calibration) {
        let bound = tolerance::bound_f32(tolerance::scale(truth), tolerance::error(narrow, truth));
        let error = tolerance::error(got, truth);
        assert!(error <= bound, "{name} on a GPU: off by {error:e}, over {bound:e}");
    }
    Ok(())
}

/// Parameters need no map: names, shapes and order are those of the configuration.
#[test]
fn parameters_are_those_of_the_configuration() -> Result<()> {
    let lstm = RnnConfig {
        vocabulary: Some(11),
        head: head(7, Some(Loss::CrossEntropy)),
        direction: Direction::Bidirectional,
        num_layers: 2,
        ..RnnConfig::lstm(6, 5)
    };
    let bare = RnnConfig { cell: &cells::LSTM_PEEPHOLE, bias: Bias::One, ..RnnConfig::lstm(6, 5) };
    for config in [lstm, bare] {
        let network = Network::of_config(&config)?;
        let named = |p: &Param| (p.name.clone(), p.shape.clone());
        let expected: Vec<_> = parameters(&config).into_iter().map(|p| (p.name, p.shape)).collect();
        assert_eq!(network.params.iter().map(named).collect::<Vec<_>>(), expected);
        let flat: Vec<f32> = Weights::<f32>::random(&config, 1)?.flat(&config);
        assert_eq!(flat.len(), network.parameter_count());
    }
    Ok(())
}

#[test]
fn what_networks_cannot_be_is_refused() {
    let plain = RnnConfig::lstm(6, 5);
    let text = |config: RnnConfig| Network::of_config(&config).unwrap_err().to_string();
    let batch_first = text(RnnConfig { layout: Layout::BatchFirst, ..plain.clone() });
    assert!(batch_first.contains("networks are time-major"), "{batch_first}");
    let wide = text(RnnConfig { vocabulary: Some((1 << 24) + 1), ..plain.clone() });
    assert!(wide.starts_with("vocabulary of embedding: expected 1..=16777216"), "{wide}");
    let empty = text(RnnConfig { hidden_size: 0, ..plain });
    assert!(empty.starts_with("hidden_size"), "{empty}");
}
