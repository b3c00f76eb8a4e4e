//! Embeddings: which ids are taken, the same bits on both executors and on any number of threads, and what padding may hold.

use crate::networks::{gpu, random};
use std::sync::Arc;
use wgpu_rnn::network::*;
use wgpu_rnn::{Device, Element, Precision, Result, Shape, Tensor, View};

/// y of a table `[vocabulary, width]` by ids in the second of two columns.
fn table(vocabulary: usize, width: usize) -> Result<Arc<Network>> {
    let mut b = Builder::new();
    let ids = b.input("ids", 2)?;
    let y = b.embedding("table", ids.columns(1, 1)?, vocabulary, width)?;
    b.output("y", y)?;
    Ok(Arc::new(b.finish()?))
}

fn session<T: Element>(
    device: &Device,
    network: &Arc<Network>,
    shape: Shape,
    train: bool,
) -> Result<NetworkSession<T>> {
    let precision = if T::NAME == "f64" { Precision::F64 } else { Precision::F32 };
    let options = NetworkOptions { train, precision, ..Default::default() };
    let plan = NetworkPlan::new(network, shape, &device.caps(), &options)?;
    let params: Vec<T> = random(network.parameter_count(), 7).into_iter().map(T::from_f64).collect();
    let session = NetworkSession::new(device, plan, &params)?;
    Ok(session)
}

/// Ids `[T, B, 2]` of a few words that are common and many that are not; NaN past sequences' ends.
fn ids(shape: Shape, lengths: &[usize], vocabulary: usize) -> Vec<f32> {
    let of = |(row, v): (usize, f64)| {
        let often = (vocabulary as f64 * v.abs().powi(4)).floor() as f32;
        if row / shape.batch < lengths[row % shape.batch] { [-1.5, often] } else { [f32::NAN; 2] }
    };
    random(shape.time * shape.batch, 3).into_iter().enumerate().flat_map(of).collect()
}

fn there_and_back<T: Element>(device: &Device, threads: usize) -> Result<(NetworkOutput<T>, NetworkGradients<T>)> {
    // More rows than are linked at once, and columns for several threads.
    let (network, shape, lengths) = (table(300, 70)?, Shape { time: 1500, batch: 3 }, [1500, 0, 1347]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    pool.install(|| {
        let mut session = session::<T>(device, &network, shape, true)?;
        session.poison()?;
        let ids: Vec<T> = ids(shape, &lengths, 300).iter().map(|&v| T::from_f64(f64::from(v))).collect();
        let views = [View::new(&ids, &[1500, 3, 2])];
        let out = session.forward(&NetworkInput { lengths: Some(&lengths), ..NetworkInput::new(&views) })?;
        let up: Vec<T> = random(out.values[0].data.len(), 9).into_iter().map(T::from_f64).collect();
        let upstream = NetworkUpstream { values: &[View::new(&up, &[1500, 3, 70])], states: None };
        Ok((out, session.backward(&upstream)?))
    })
}

/// A gradient is one sum over the rows in order, wherever and in however many dispatches it is made.
#[test]
fn executors_and_threads_give_the_same_bits() -> Result<()> {
    let (out, back) = there_and_back::<f32>(&Device::cpu(), 1)?;
    let params: Vec<f32> = random(300 * 70, 7).iter().map(|&v| v as f32).collect();
    let (shape, lengths) = (Shape { time: 1500, batch: 3 }, [1500, 0, 1347]);
    let up: Vec<f32> = random(1500 * 3 * 70, 9).iter().map(|&v| v as f32).collect();
    let (mut y, mut d) = (vec![0.0; 1500 * 3 * 70], vec![0.0f32; 300 * 70]);
    for (row, id) in ids(shape, &lengths, 300).chunks(2).enumerate().filter(|(_, id)| !id[1].is_nan()) {
        for c in 0..70 {
            y[row * 70 + c] = params[id[1] as usize * 70 + c];
            d[id[1] as usize * 70 + c] += up[row * 70 + c];
        }
    }
    assert_eq!(out.values[0].data, y);
    assert_eq!(back.params[0].data, d);
    assert!(d.chunks(70).any(|row| row.iter().all(|v| *v == 0.0)), "a word that does not occur");
    assert!(back.inputs[0].data.iter().all(|v| *v == 0.0), "ids have no gradient");
    assert_eq!(there_and_back::<f32>(&gpu(), 1)?, (out.clone(), back.clone()), "on a GPU");
    for threads in [2, 3, 5] {
        assert_eq!(there_and_back::<f32>(&Device::cpu(), threads)?, (out.clone(), back.clone()), "{threads} threads");
        assert_eq!(there_and_back::<f64>(&Device::cpu(), threads)?, there_and_back::<f64>(&Device::cpu(), 1)?);
    }
    Ok(())
}

fn refused<T: std::fmt::Debug>(result: Result<T>, text: &str) {
    assert_eq!(result.unwrap_err().to_string(), text);
}

#[test]
fn ids_that_are_no_rows_are_refused() -> Result<()> {
    let (network, shape) = (table(9, 2)?, Shape { time: 2, batch: 2 });
    for device in [Device::cpu(), gpu()] {
        let mut session = session::<f32>(&device, &network, shape, false)?;
        let mut run = |at: usize, id: f32| {
            let mut ids = vec![0.0; 8];
            (ids[2 * at + 1], ids[2 * at]) = (id, f32::NAN);
            let views = [View::new(&ids, &[2, 2, 2])];
            session.forward(&NetworkInput { lengths: Some(&[1, 2]), ..NetworkInput::new(&views) })
        };
        for (id, text) in [(9.0, "9"), (-1.0, "-1"), (2.5, "2.5"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
            refused(run(3, id), &format!("id 3 of table: expected a whole number in 0..9, got {text}"));
            // Past the end of a sequence nobody looks.
            let out = run(2, id)?;
            assert_eq!(out.values[0].data[4..6], [0.0; 2]);
        }
        let table = random(18, 7);
        let last = run(3, 8.0)?.values[0].data[6..].to_vec();
        assert_eq!(last, [table[16] as f32, table[17] as f32]);
    }
    Ok(())
}

#[test]
fn what_is_no_embedding_is_refused() -> Result<()> {
    let mut b = Builder::new();
    let ids = b.input("ids", 2)?;
    let one = ids.columns(0, 1)?;
    let y = b.embedding("y", one, 3, 4)?;
    assert_eq!((y.width, b.param_id("y.weight"), b.param_id("z.weight")), (4, Some(0), None));
    refused(b.embedding("z", ids, 3, 4), "columns of the ids of z: expected 1, got 2");
    let made = b.embedding("z", y.columns(0, 1)?, 3, 4);
    refused(made, "ids of z: expected an input, got y, which an operation makes");
    for vocabulary in [0, (1 << 24) + 1] {
        let text = "vocabulary of z: expected 1..=16777216 (ids are whole numbers of f32), got";
        refused(b.embedding("z", one, vocabulary, 4), &format!("{text} {vocabulary}"));
    }
    assert!(b.embedding("z", one, 3, 0).is_err(), "no columns");
    assert!(b.embedding("y", one, 3, 4).is_err(), "a name that is taken");
    b.embedding("z", one, 1 << 24, 1)?;
    b.output("y", y)?;
    let network = b.finish()?;
    assert_eq!(network.params.len(), 2, "what was refused has left nothing behind");
    Ok(())
}

/// Files hold a table under its name, as `torch.nn.Embedding` does.
#[test]
fn tables_have_their_names_in_files() -> Result<()> {
    let network = table(20, 8)?;
    let params: Vec<f32> = network.random(4)?;
    assert!(params.iter().all(|v| v.abs() < 1.0) && params.iter().any(|v| v.abs() > 0.5), "±1, whatever the width");
    let named = network.named(&params)?;
    assert_eq!(named, [("table.weight".to_string(), Tensor { data: params.clone(), shape: vec![20, 8] })]);
    let found = network.flat(|name| Ok(named.iter().find(|(n, _)| n == name).map(|(_, tensor)| tensor.clone())))?;
    assert_eq!(found, params);
    Ok(())
}
