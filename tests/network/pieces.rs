//! Whole sequences against pieces of them, and chunks side by side against one step after the other.

use crate::networks::{inputs, of_rule, session};
use wgpu_rnn::network::{NetworkInitial, NetworkInput, NetworkOptions, Parallel};
use wgpu_rnn::{Result, Shape, View, rules};

#[test]
fn steps_give_the_bits_of_the_whole() -> Result<()> {
    for rule in rules::ALL {
        let network = of_rule(rule, false)?;
        let (time, batch) = (9, 2);
        let (mut whole, _) = session(&network, Shape { time, batch }, &NetworkOptions::default())?;
        let values = inputs(&network, Shape { time, batch }, 3);
        let shapes: Vec<Vec<usize>> =
            network.inputs.iter().map(|&v| vec![time, batch, network.values[v].width]).collect();
        let views: Vec<_> = values.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
        let truth = whole.forward(&NetworkInput::new(&views))?;
        let (mut one, _) = session(&network, Shape { time: 1, batch }, &NetworkOptions::default())?;
        let mut states = Vec::new();
        for t in 0..time {
            let rows: Vec<Vec<f64>> =
                values.iter().zip(&shapes).map(|(v, s)| v[t * batch * s[2]..][..batch * s[2]].to_vec()).collect();
            let shapes: Vec<Vec<usize>> = shapes.iter().map(|s| vec![1, batch, s[2]]).collect();
            let views: Vec<_> = rows.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
            let initial = if t == 0 { NetworkInitial::Empty } else { NetworkInitial::Carry };
            let out = one.forward(&NetworkInput { initial, ..NetworkInput::new(&views) })?;
            let width = truth.values[0].shape[2];
            assert_eq!(
                out.values[0].data,
                truth.values[0].data[t * batch * width..][..batch * width],
                "{} step {t}",
                rule.name
            );
            states = out.states;
        }
        assert_eq!(states, truth.states, "{}", rule.name);
    }
    Ok(())
}

#[test]
fn chunks_side_by_side_give_the_same_numbers() -> Result<()> {
    for rule in rules::ALL {
        for reverse in [false, true] {
            let network = of_rule(rule, reverse)?;
            let shape = Shape { time: 21, batch: 3 };
            let values = inputs(&network, shape, 3);
            let shapes: Vec<Vec<usize>> =
                network.inputs.iter().map(|&v| vec![21, 3, network.values[v].width]).collect();
            let views: Vec<_> = values.iter().zip(&shapes).map(|(v, s)| View::new(v, s)).collect();
            let resets: Vec<bool> = (0..63).map(|n| [22, 45, 46].contains(&n)).collect();
            let input =
                NetworkInput { lengths: Some(&[13, 21, 4]), resets: Some(&resets), ..NetworkInput::new(&views) };
            let run = |parallel| -> Result<_> {
                let options = NetworkOptions { parallel: Some(parallel), chunk: Some(4), ..Default::default() };
                session(&network, shape, &options)?.0.forward(&input)
            };
            let one = run(Parallel::Recurrent)?;
            for way in [Parallel::Chunked, Parallel::Products] {
                let other = run(way)?;
                for (a, b) in one.values.iter().zip(&other.values).chain(one.states.iter().zip(&other.states)) {
                    let scale = a.data.iter().filter(|v| v.abs() < 1e20).fold(0.0f64, |m, v| m.max(v.abs()));
                    for (a, b) in a.data.iter().zip(&b.data) {
                        let near = (a - b).abs() <= 1e-12 * scale || a == b;
                        assert!(near, "{} {way:?} {reverse}: {a} {b}", rule.name);
                    }
                }
            }
        }
    }
    Ok(())
}
