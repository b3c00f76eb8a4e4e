//! What formats of weights refuse, with an error that says which parameter or what instead.

use super::ROUNDED;
use super::harness::*;
use wgpu_rnn::*;

fn case() -> Case {
    let config = RnnConfig { cell: &cells::GRU, input_size: 3, hidden_size: 4, ..Default::default() };
    Case::new(config, 2, 2, 1)
}

fn error(device: &Device, weights: &Weights, options: &Options) -> String {
    let case = case();
    let plan = Plan::new(&case.config, case.shape, &device.caps(), options).unwrap();
    match Session::from_plan(device, plan, weights) {
        Err(e @ Error::Mismatch { .. }) => e.to_string(),
        Err(e) => panic!("{e:?}"),
        Ok(_) => panic!("a session"),
    }
}

#[test]
fn values_without_a_number_in_the_format_are_refused_by_name() {
    for device in [Device::cpu(), gpu()] {
        for format in ROUNDED {
            let options = Options { weights: format, ..Default::default() };
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut weights = case().weights;
                weights.layers[0].r[4 * 4 + 2] = bad;
                let message = error(&device, &weights, &options);
                assert!(message.starts_with("weight_hh_l0[4, 2]: expected finite values"), "{format}: {message}");
            }
        }
        let mut weights = case().weights;
        weights.layers[0].w[5] = 65520.0;
        let options = |weights| Options { weights, ..Default::default() };
        let message = error(&device, &weights, &options(WeightFormat::F16));
        assert_eq!(message, "weight_ih_l0[1, 2]: expected finite values of at most 65504 (f16), got 65520");
        weights.layers[0].w[5] = f32::MAX;
        let message = error(&device, &weights, &options(WeightFormat::Bf16));
        assert!(
            message.starts_with("weight_ih_l0[1, 2]: expected finite values within the range of bf16"),
            "{message}"
        );
        // The largest that fit.
        for (format, largest) in
            [(WeightFormat::F16, 65519.0), (WeightFormat::Bf16, 3.38e38), (WeightFormat::Int8, 3.3e38)]
        {
            weights.layers[0].w[5] = largest;
            let plan = Plan::new(&case().config, case().shape, &device.caps(), &options(format)).unwrap();
            assert!(Session::from_plan(&device, plan, &weights).is_ok(), "{format}");
        }
    }
}

/// Biases are not rounded, so any value of theirs is as good as in 32 bits.
#[test]
fn biases_are_as_they_are() {
    let mut case = case();
    case.weights.layers[0].b_w[0] = 1e30;
    for format in ROUNDED {
        let rounded = format.rounded(&case.config, &case.weights).unwrap();
        assert_eq!(rounded.layers[0].b_w, case.weights.layers[0].b_w);
    }
}

#[test]
fn int8_does_not_train() {
    for device in [Device::cpu(), gpu()] {
        let options = Options { weights: WeightFormat::Int8, train: true, ..Default::default() };
        match Plan::new(&case().config, case().shape, &device.caps(), &options) {
            Err(e @ Error::Unsupported { .. }) => assert!(e.to_string().contains("use f16 or bf16"), "{e}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Siblings share what lies on the device.
#[test]
fn a_sibling_has_the_same_format() {
    for device in [Device::cpu(), gpu()] {
        let case = case();
        let options = Options { weights: WeightFormat::F16, ..Default::default() };
        let plan = Plan::new(&case.config, case.shape, &device.caps(), &options).unwrap();
        let session = Session::from_plan(&device, plan, &case.weights).unwrap();
        let one = Shape { time: 1, batch: 1 };
        let message = session.sibling(one, &Options::default()).err().unwrap().to_string();
        assert_eq!(message, "weights of a sibling: expected f16, as they lie on the device, got f32");
        assert!(session.sibling(one, &options).is_ok());
        assert!(session.for_shape(one).is_ok());
    }
}
