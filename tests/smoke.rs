use wgpu_rnn::*;
#[test]
fn smoke() {
    for cell in cells::ALL {
        for dir in [Direction::Forward, Direction::Bidirectional] {
            let config =
                RnnConfig { cell, input_size: 5, hidden_size: 17, num_layers: 2, direction: dir, ..Default::default() };
            let w = Weights::<f64>::random(&config, 1).unwrap();
            let shape = Shape { time: 6, batch: 5 };
            let x: Vec<f64> = (0..150).map(|i| ((i * 37 % 101) as f64 - 50.0) / 30.0).collect();
            let xf: Vec<f32> = x.iter().map(|&v| v as f32).collect();
            let lens = [3, 6, 1, 6, 2];
            let mut a = Session::new(&Device::cpu(), &config, shape, &w).unwrap();
            let oa = a.forward(&Input { lengths: Some(&lens), ..Input::new(View::new(&x, &[6, 5, 5])) }).unwrap();
            let gpu = Device::gpu().unwrap();
            for dev in [Device::cpu(), gpu] {
                for strategy in [Strategy::Step, Strategy::Sequence] {
                    let plan = Plan::new(
                        &config,
                        shape,
                        &dev.caps(),
                        &Options { strategy: Some(strategy), ..Default::default() },
                    )
                    .unwrap();
                    let mut b = Session::from_plan(&dev, plan, &w.cast::<f32>()).unwrap();
                    b.poison().unwrap();
                    let ob =
                        b.forward(&Input { lengths: Some(&lens), ..Input::new(View::new(&xf, &[6, 5, 5])) }).unwrap();
                    let err = |a: &[f64], b: &[f32]| {
                        a.iter()
                            .zip(b)
                            .map(|(a, b)| (a - *b as f64).abs())
                            .fold(0.0, |m: f64, e| if e.is_nan() { f64::INFINITY } else { m.max(e) })
                    };
                    println!(
                        "{} {:?} {} {strategy} y {:.2e} hn {:.2e} cn {:?}",
                        cell.name,
                        dir,
                        dev.kind(),
                        err(&oa.y.data, &ob.y.data),
                        err(&oa.hn.data, &ob.hn.data),
                        oa.cn.as_ref().map(|c| err(&c.data, &ob.cn.as_ref().unwrap().data))
                    );
                }
            }
        }
    }
}
