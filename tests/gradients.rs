//! Every recorded gradient of the goldens.
use wgpu_rnn::io::safetensors::TensorFile;
use wgpu_rnn::verify::Golden;
use wgpu_rnn::*;

fn worst<T: Real>(
    path: &std::path::Path,
    device: &Device,
    strategy: Strategy,
    precision: Precision,
) -> Result<(String, f64)> {
    let golden = Golden::open(path)?;
    let file = TensorFile::open(path)?;
    let get = |name: &str| file.real::<f64>(name).unwrap().map(|(shape, data)| Tensor { shape, data });
    let cast = |t: &Tensor<f64>| Tensor {
        data: t.data.iter().map(|&v| T::from_f64(v)).collect::<Vec<T>>(),
        shape: t.shape.clone(),
    };
    let options = Options { strategy: Some(strategy), precision, train: true, ..Default::default() };
    let plan = Plan::new(&golden.config, golden.shape, &device.caps(), &options)?;
    let mut s = Session::<T>::from_plan(device, plan, &golden.weights.cast())?;
    s.poison()?;
    let (x, h0, c0) = (cast(&golden.x), golden.h0.as_ref().map(cast), golden.c0.as_ref().map(cast));
    let initial = Initial::Given { h0: h0.as_ref().map(Tensor::view), c0: c0.as_ref().map(Tensor::view) };
    s.forward(&Input { x: x.view(), lengths: golden.lengths.as_deref(), initial })?;
    let batched = |name: &str| {
        get(name).map(|mut t| {
            if x.shape.len() == 2 {
                t.shape.insert(1, 1);
            }
            cast(&t)
        })
    };
    let (y, hn, cn) = (batched("up.y"), batched("up.hn"), batched("up.cn"));
    let g = s.backward(&Upstream {
        y: y.as_ref().map(Tensor::view),
        hn: hn.as_ref().map(Tensor::view),
        cn: cn.as_ref().map(Tensor::view),
    })?;
    let mut got: Vec<(String, Vec<T>)> = vec![("grad.x".into(), g.x.data), ("grad.h0".into(), g.h0.data)];
    got.extend(g.c0.map(|c| ("grad.c0".to_string(), c.data)));
    for (p, v) in g.weights.named(&golden.config) {
        got.push((format!("grad.{}", p.name), v.to_vec()));
    }
    let mut worst = (String::new(), 0.0);
    for (name, values) in got {
        let Some(truth) = get(&name) else { continue };
        assert_eq!(truth.data.len(), values.len(), "{name}");
        let scale = truth.data.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let e = truth
            .data
            .iter()
            .zip(&values)
            .map(|(a, b)| {
                let d = (a - b.to_f64()).abs();
                if d.is_nan() { f64::INFINITY } else { d }
            })
            .fold(0.0, f64::max)
            / scale.max(1e-30);
        if e >= worst.1 {
            worst = (name, e);
        }
    }
    Ok(worst)
}

#[test]
fn goldens() {
    let mut failed = 0;
    let mut paths: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/torch_golden"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    paths.sort();
    let gpu = Device::gpu().unwrap();
    for path in paths {
        for strategy in [Strategy::Step, Strategy::Sequence] {
            let name = path.file_stem().unwrap().to_string_lossy().to_string();
            let a = worst::<f64>(&path, &Device::cpu(), strategy, Precision::F64);
            let b = worst::<f32>(&path, &Device::cpu(), strategy, Precision::F32);
            let c = worst::<f32>(&path, &gpu, strategy, Precision::F32);
            let ok = a.as_ref().is_ok_and(|a| a.1 < 1e-10)
                && b.as_ref().is_ok_and(|a| a.1 < 1e-5)
                && c.as_ref().is_ok_and(|a| a.1 < 1e-5);
            if !ok {
                failed += 1;
                println!("{name} {strategy} {a:?} {b:?} {c:?}");
            }
        }
    }
    assert_eq!(failed, 0);
}
