//! What does not fit is refused with the reason, before anything runs.

use crate::harness::*;
use wgpu_rnn::network::*;
use wgpu_rnn::{Device, Error, Precision, Result, Shape, View, rules};

fn mismatch<T>(result: Result<T>, reason: &str) {
    match result {
        Err(error @ Error::Mismatch { .. }) => assert!(error.to_string().contains(reason), "{error}\nlacks\n{reason}"),
        Err(error) => panic!("not a mismatch: {error}"),
        Ok(_) => panic!("not refused: {reason}"),
    }
}

/// A scan whose inputs have these widths.
fn scan(rule: &'static wgpu_rnn::rule::Rule, sizes: [usize; 3], widths: &[usize]) -> Result<Part> {
    let mut b = Builder::new();
    let mut operands = Vec::new();
    for (n, &width) in widths.iter().enumerate() {
        operands.push(b.input(&format!("x{n}"), width)?.into());
    }
    b.scan("scan", rule, sizes, &operands, false)
}

#[test]
fn operands_that_do_not_fit_the_ports() {
    let [linear, mingru] = [&rules::LINEAR, &rules::MINGRU];
    assert!(scan(linear, [4, 5, 3], &[20, 10, 12]).is_ok(), "k is shared by two heads each");
    mismatch(scan(linear, [4, 5, 3], &[20, 20]), "operands of scan: expected 3 for linear, got 2");
    mismatch(scan(linear, [4, 5, 3], &[20, 20, 12, 4]), "operands of scan: expected 3 for linear, got 4");
    mismatch(scan(linear, [4, 5, 3], &[21, 20, 12]), "q of scan: expected 20 columns");
    mismatch(scan(linear, [4, 5, 3], &[20, 15, 12]), "k of scan: expected 20 columns");
    mismatch(scan(linear, [4, 5, 3], &[20, 4, 12]), "k of scan: expected 20 columns");
    mismatch(scan(linear, [4, 5, 3], &[20, 20, 13]), "v of scan: expected 12 columns");
    for sizes in [[0, 5, 3], [4, 0, 3], [4, 5, 0]] {
        mismatch(scan(linear, sizes, &[20, 20, 12]), "heads, K, V of scan: expected at least 1");
    }
    mismatch(
        scan(mingru, [4, 2, 1], &[4, 4]),
        "heads, K, V of scan: expected at least 1 head, and 1, 1, got [4, 2, 1]",
    );
    mismatch(
        scan(mingru, [4, 1, 3], &[4, 4]),
        "heads, K, V of scan: expected at least 1 head, and 1, 1, got [4, 1, 3]",
    );
    let sizes = [4, 3, 2];
    mismatch(
        scan(&rules::MAMBA, sizes, &[8, 4, 12, 12, 12, 4, 4]),
        "heads, K, V of scan: expected at least 1, and V = 1",
    );
    mismatch(scan(linear, [usize::MAX / 4, 5, 3], &[20, 20, 12]), "heads, K, V of scan: expected at least 1, no more");
}

#[test]
fn options_that_do_not_fit() {
    let case = Case::new(&rules::GLA, 5, 2, 81);
    let (network, caps, shape) = (case.problem.network(false).unwrap(), Device::cpu().caps(), case.problem.shape);
    let plan = |shape, options: NetworkOptions| NetworkPlan::new(&network, shape, &caps, &options);
    mismatch(
        plan(shape, NetworkOptions { chunk: Some(0), ..Default::default() }),
        "chunk: expected at least 1 step, got 0",
    );
    mismatch(plan(Shape { time: 0, ..shape }, Default::default()), "time: expected 1..=");
    mismatch(plan(Shape { batch: 0, ..shape }, Default::default()), "batch: expected 1..=");
    mismatch(plan(Shape { time: usize::MAX, ..shape }, Default::default()), "time: expected 1..=");
    let refused = plan(Shape { time: 1 << 28, ..shape }, Default::default());
    assert!(matches!(refused, Err(Error::Limit { .. })), "{refused:?}");

    let gpu = gpu();
    let exact = NetworkOptions { precision: Precision::F64, ..Default::default() };
    let refused = NetworkPlan::new(&network, shape, &gpu.caps(), &exact);
    assert!(matches!(&refused, Err(Error::Unsupported { .. })), "{refused:?}");
    // A plan is for its kind of device, its precision, and a number of parameters.
    let of_gpu = NetworkPlan::new(&network, shape, &gpu.caps(), &Default::default()).unwrap();
    mismatch(NetworkSession::<f32>::new(&Device::cpu(), of_gpu, &[]), "device of the plan");
    mismatch(
        NetworkSession::<f32>::new(&Device::cpu(), plan(shape, exact).unwrap(), &[]),
        "precision of the plan: expected f32, got f64",
    );
    let plain = || plan(shape, Default::default()).unwrap();
    mismatch(NetworkSession::<f32>::new(&Device::cpu(), plain(), &[0.0]), "parameters: expected 0 values, got 1");
}

#[test]
fn inputs_that_do_not_fit() {
    let case = Case::new(&rules::LINEAR, 5, 2, 82);
    for device in [Device::cpu(), gpu()] {
        let mut session = case.session::<f32>(&device, &training(PARALLEL[0])).unwrap();
        case.with_input(|input: &NetworkInput<'_, f32>| {
            let mut refused = |input: NetworkInput<'_, f32>, reason: &str| mismatch(session.forward(&input), reason);
            refused(NetworkInput { values: &input.values[..2], ..*input }, "inputs of the network: expected 3, got 2");
            let narrow = [View::new(&input.values[0].data[..140], &[5, 2, 14]), input.values[1], input.values[2]];
            refused(
                NetworkInput { values: &narrow, ..*input },
                "q: expected [T, B, width] = [5, 2, 15], got [5, 2, 14]",
            );
            let hollow = [View::new(&input.values[0].data[..7], &[5, 2, 15]), input.values[1], input.values[2]];
            refused(NetworkInput { values: &hollow, ..*input }, "q: expected [5, 2, 15] = 150 values, got 7 values");
            for lengths in [&[0usize, 6][..], &[5, 6], &[5], &[5, 5, 5]] {
                refused(NetworkInput { lengths: Some(lengths), ..*input }, "lengths: expected 2 in 0..=5, got");
            }
            refused(
                NetworkInput { resets: Some(&[true; 9]), ..*input },
                "resets: expected [T, B] = [5, 2], got 9 flags",
            );
            refused(NetworkInput { resets: Some(&[]), ..*input }, "resets: expected [T, B] = [5, 2], got 0 flags");
            refused(
                NetworkInput { initial: NetworkInitial::Carry, ..*input },
                "initial states: expected an earlier run",
            );
            refused(
                NetworkInput { initial: NetworkInitial::Given(&[]), ..*input },
                "initial states: expected 1, got 0",
            );
            let state = [View::new(&[0.0; 118][..], &[2, 59])];
            let initial = NetworkInitial::Given(&state);
            refused(
                NetworkInput { initial, ..*input },
                "initial states: scan: expected [B, size] = [2, 90], got [2, 59]",
            );
        });
        mismatch(session.output(), "output: expected a run before it");
    }
}

#[test]
fn ways_back_that_do_not_fit() {
    let case = Case::new(&rules::MLSTM, 5, 2, 83);
    let (y, states) = ([1.0f32; 180], [1.0f32; 150]);
    let (good, state) = ([View::new(&y, &[5, 2, 18])], [View::new(&states[..150], &[2, 75])]);
    for device in [Device::cpu(), gpu()] {
        let mut session = case.session::<f32>(&device, &training(PARALLEL[0])).unwrap();
        let up = |values, states| NetworkUpstream { values, states };
        mismatch(session.backward(&up(&good, None)), "backward: expected a forward run of a training plan before it");
        case.with_input(|input| session.forward(input)).unwrap();
        mismatch(session.backward(&up(&[], None)), "gradients of outputs: expected 1, got 0");
        let narrow = [View::new(&y[..110], &[5, 2, 11])];
        mismatch(
            session.backward(&up(&narrow, None)),
            "gradient of y: expected [T, B, width] = [5, 2, 18], got [5, 2, 11]",
        );
        mismatch(
            session.backward(&up(&good, Some(&state))),
            "gradients of states: scan: expected [B, size] = [2, 108]",
        );
        assert!(session.backward(&up(&good, None)).is_ok());
        mismatch(session.backward(&up(&good, None)), "backward: expected a forward run of a training plan before it");

        let mut inference =
            case.session::<f32>(&device, &NetworkOptions { train: false, ..training(PARALLEL[0]) }).unwrap();
        case.with_input(|input| inference.forward(input)).unwrap();
        mismatch(inference.backward(&up(&good, None)), "backward: expected a forward run of a training plan before it");
        mismatch(inference.gradients(), "gradients: expected a plan that trains");
    }
}
