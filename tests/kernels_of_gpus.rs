//! What a real GPU would run, run here: kernels and tiles chosen as for class `Gpu` (`Options::kernels`), whatever adapter there
//! is. Matrix products through workgroup memory against those without: the same bits.

mod harness;

use harness::*;
use wgpu_rnn::*;

/// Options with kernels as for a class.
fn kernels(class: DeviceClass, options: Options) -> Options {
    Options { kernels: Some(class), ..options }
}

/// A case's session with kernels as for a class.
fn session(case: &Case, device: &Device, class: DeviceClass, options: &Options) -> Session {
    let options = kernels(class, options.clone());
    let plan = Plan::new(&case.config, case.shape, &device.caps(), &options).unwrap();
    assert_eq!(plan.tiles.shared, class == DeviceClass::Gpu);
    Session::from_plan(device, plan, &case.weights).unwrap()
}

/// Forward and back with both kinds of kernels, over NaN-filled memory.
fn assert_same_training(what: &str, case: &Case, options: &Options) {
    let options = Options { train: true, resets: case.resets, ..options.clone() };
    let [(out, gradients), (other_out, other)] = [DeviceClass::Gpu, DeviceClass::SoftwareGpu]
        .map(|class| case.poisoned(&mut session(case, &gpu(), class, &options)));
    assert_same(what, &out, &other_out);
    assert_same_gradients(what, &case.config, &gradients, &other);
}

#[test]
fn tiles_in_workgroup_memory_give_the_same_bits_over_odd_sizes() {
    for (n, &size) in ODD_SIZES.iter().enumerate() {
        let (input_size, hidden_size) = (ODD_SIZES[(n + 3) % ODD_SIZES.len()], size.min(65));
        let config = RnnConfig { input_size, hidden_size, direction: Direction::Bidirectional, ..Default::default() };
        let case = Case::new(config, 5, 3, n as u64).with_lengths(&[2, 5, 4]);
        assert_same_training(&format!("I={input_size} H={hidden_size}"), &case, &forced(Strategy::Step));
    }
}
