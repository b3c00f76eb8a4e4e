//! Which way over time is taken, what the plan says of it, and that its kernels are those.

use std::sync::Arc;
use wgpu_rnn::network::{Builder, Network, NetworkOptions, NetworkPlan, Operand, Parallel, ScanShape};
use wgpu_rnn::rule::{HeadState, Rule};
use wgpu_rnn::{Caps, Device, DeviceClass, Error, Result, RnnConfig, Shape, cells, rules};

fn of(scans: &[(&'static Rule, [usize; 3])]) -> Result<Arc<Network>> {
    let mut b = Builder::new();
    for (n, (rule, sizes)) in scans.iter().enumerate() {
        let mut operands: Vec<Operand> = Vec::new();
        for port in rule.inputs {
            operands.push(b.input(&format!("{n}.{}", port.name), port.extent.width(*sizes))?.into());
        }
        for port in rule.params {
            let param = b.param(&format!("{n}.{}", port.name), &[port.extent.width(*sizes)])?;
            operands.push(b.whole(param));
        }
        let y = b.scan(&format!("scan {n}"), rule, *sizes, &operands, false)?;
        b.output(&format!("y {n}"), y)?;
    }
    Ok(Arc::new(b.finish()?))
}

fn plan(network: &Arc<Network>, caps: &Caps, options: NetworkOptions) -> Result<NetworkPlan> {
    NetworkPlan::new(network, Shape { time: 70, batch: 2 }, caps, &options)
}

fn scan(network: &Network) -> &ScanShape {
    match &network.nodes[0].op {
        wgpu_rnn::network::Op::Scan(scan) => scan,
        other => panic!("{other:?}"),
    }
}

#[test]
fn products_are_of_matrices_in_chunks_of_bounded_length() -> Result<()> {
    let forced = |chunk| NetworkOptions { parallel: Some(Parallel::Products), chunk, ..Default::default() };
    for rule in rules::ALL {
        let corrects = (rule.form)().erase.is_some();
        for values in [1, 2, 40] {
            let network = of(&[(rule, rule.state.sizes([2, 3, values]))])?;
            for chunk in [4, 32, 33, 256, 257, usize::MAX] {
                let most = if corrects { 32 } else { 256 };
                let expected = rule.state == HeadState::Matrix && values > 1 && chunk <= most;
                let plan = plan(&network, &Caps::webgpu(), forced(Some(chunk)))?;
                assert_eq!(plan.products(scan(&network)), expected, "{} V={values} chunks of {chunk}", rule.name);
                let kernels: Vec<&str> = plan.shaders().into_iter().map(|(name, _)| name).collect();
                assert_eq!(kernels.contains(&"network.products_tile"), expected, "{} {kernels:?}", rule.name);
                let words = if expected { "as products" } else { "scanned twice" };
                assert!(plan.to_string().contains(words), "{} {chunk}: {plan}", rule.name);
            }
        }
    }
    let wide = of(&[(&rules::GLA, [1, 20_000, 2])])?;
    assert!(!plan(&wide, &Caps::webgpu(), forced(None))?.products(scan(&wide)), "loops beyond a stretch");
    Ok(())
}

#[test]
fn the_planner_goes_by_columns() -> Result<()> {
    let chosen = |scans: &[(&'static Rule, [usize; 3])], caps: &Caps| -> Result<Parallel> {
        let by_default = plan(&of(scans)?, caps, NetworkOptions::default())?.parallel;
        let absurd = NetworkOptions { chunk: Some(usize::MAX), ..Default::default() };
        assert_ne!(plan(&of(scans)?, caps, absurd)?.parallel, Parallel::Products, "chunks that are the whole");
        Ok(by_default)
    };
    let gpu = Caps::webgpu();
    assert_eq!(chosen(&[(&rules::GLA, [2, 8, 31])], &gpu)?, Parallel::Chunked);
    assert_eq!(chosen(&[(&rules::GLA, [2, 8, 32])], &gpu)?, Parallel::Products);
    assert_eq!(chosen(&[(&rules::DELTA, [2, 8, 32]), (&rules::MINGRU, [70, 1, 1])], &gpu)?, Parallel::Products);
    assert_eq!(chosen(&[(&rules::GLA, [2, 8, 32]), (&rules::DELTA, [2, 8, 4])], &gpu)?, Parallel::Chunked);
    assert_eq!(chosen(&[(&rules::GLA, [128, 8, 32])], &gpu)?, Parallel::Recurrent, "as many columns as lanes");
    assert_eq!(chosen(&[(&rules::MAMBA, [64, 16, 1])], &gpu)?, Parallel::Chunked);
    assert_eq!(chosen(&[(&rules::GLA, [2, 8, 32])], &Device::cpu().caps())?, Parallel::Recurrent);
    let network = of(&[(&rules::GLA, [2, 8, 32])])?;
    for (time, expected) in [(1, Parallel::Recurrent), (32, Parallel::Recurrent), (33, Parallel::Products)] {
        let plan = NetworkPlan::new(&network, Shape { time, batch: 64 }, &gpu, &NetworkOptions::default())?;
        assert_eq!(plan.parallel, expected, "{plan}");
    }
    // A scan of one chunk does not count.
    let both = of(&[(&rules::GLA, [2, 8, 32]), (&rules::MINGRU, [70, 1, 1])])?;
    let plan = NetworkPlan::new(&both, Shape { time: 64, batch: 1 }, &gpu, &NetworkOptions::default())?;
    assert_eq!(plan.parallel, Parallel::Products, "{plan}");
    Ok(())
}

/// Chunks of rules with a correction carry states through workgroup memory: rows beyond it are refused by name.
#[test]
fn states_beyond_workgroup_memory_are_refused() -> Result<()> {
    let caps = Caps::webgpu();
    let rows = caps.max_workgroup_memory / 16;
    for (keys, fits) in [(rows, true), (rows + 1, false)] {
        let network = of(&[(&rules::DELTA, [1, keys, 2])])?;
        for parallel in [Some(Parallel::Chunked), Some(Parallel::Recurrent), None] {
            let options = NetworkOptions { parallel, ..Default::default() };
            let plan = NetworkPlan::new(&network, Shape { time: 99, batch: 1 }, &caps, &options);
            match plan {
                Ok(plan) => {
                    assert_eq!(plan.parallel == Parallel::Recurrent, parallel == Some(Parallel::Recurrent) || !fits)
                }
                Err(Error::Limit { what, .. }) => {
                    assert!(
                        !fits && parallel == Some(Parallel::Chunked) && what.ends_with("rows of a state in chunks")
                    );
                }
                Err(other) => return Err(other),
            }
        }
    }
    Ok(())
}

/// What is said of memory and work counts the plans of layers, and grows with T as it says.
#[test]
fn figures_count_layers() -> Result<()> {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 6, hidden_size: 5, ..Default::default() };
    let mut b = Builder::new();
    let x = b.input("x", 6)?;
    let y = b.layers("lstm", x, &config)?;
    let y = b.scan("scan", &rules::MINGRU, [5, 1, 1], &[y.into(), y.into()], false)?;
    b.output("y", y)?;
    let network = Arc::new(b.finish()?);
    for caps in [Caps::webgpu(), Device::cpu().caps()] {
        let of = |time, train| {
            let options = NetworkOptions { train, ..Default::default() };
            NetworkPlan::new(&network, Shape { time, batch: 2 }, &caps, &options)
        };
        assert_eq!(of(70, true)?.flops(), of(70, false)?.flops());
        assert!(of(70, false)?.flops() > 70 * 2 * 2 * 4 * 5 * 11);
        let (short, long) = (of(1000, true)?, of(2000, true)?);
        let layers = short.layers[0].1.bytes();
        let slots = short.slots.iter().map(|s| 4 * s.len as u64).sum::<u64>();
        let own = 8 * if caps.class == DeviceClass::Cpu { network.parameter_count() as u64 } else { 0 };
        assert!(short.bytes() >= layers + slots + own, "{short}");
        if caps.class == DeviceClass::Cpu {
            assert_eq!(short.bytes(), layers + slots + own, "{short}");
        }
        let grown = (long.bytes() - short.bytes()) as f64 / 1000.0;
        let said = short.bytes_per_step() as f64;
        assert!(grown <= 1.01 * said && grown >= 0.9 * said, "{grown} bytes a step, said {said}: {short}");
    }
    Ok(())
}

/// The parameters of layers are with their sessions: a network of one large stack fits where the stack does.
#[test]
fn parameters_of_layers_need_no_binding_of_the_network() -> Result<()> {
    let config = RnnConfig { cell: &cells::LSTM, input_size: 2048, hidden_size: 2048, ..Default::default() };
    let mut b = Builder::new();
    let x = b.input("x", 2048)?;
    let y = b.layers("lstm", x, &config)?;
    b.output("y", y)?;
    let network = Arc::new(b.finish()?);
    assert!(4 * network.parameter_count() as u64 > Caps::webgpu().max_binding);
    NetworkPlan::new(&network, Shape { time: 1, batch: 1 }, &Caps::webgpu(), &NetworkOptions::default())?;
    Ok(())
}
