//! States: device memory that runs are given and change in place.

use std::sync::Arc;
use tfm_core::reference::Reference;
use tfm_core::{CompileOptions, DType, Graph, NoParameters, ParameterSource, Session, Tensor};

struct Ones;

impl ParameterSource for Ones {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        match name {
            "weight" => Ok(Tensor::from_f32([2, 2], vec![1.0; 4]).expect("four elements")),
            _ => Err(format!("no parameter {name}")),
        }
    }
}

fn session() -> Session {
    Session::new(Reference::<f64>::new(), Arc::new(NoParameters))
}

#[test]
fn a_run_writes_rows_and_reads_them_back() {
    let mut graph = Graph::new();
    let cache = graph.state("cache", DType::F32, [4, 2]);
    let x = graph.input("x", DType::F32, [2, 2]);
    let rows = graph.indices("rows", 4, [2]);
    let cache = graph.write_rows(cache, x, rows);
    let all = graph.gather(cache, rows);
    graph.output(all);

    let mut session = session();
    let program = session.compile(&graph, &CompileOptions::default()).unwrap();
    let mut cache = session.allocate(DType::F32, [4, 2]).unwrap();
    let mut run = |x: [f32; 4], rows: [i32; 2]| {
        let inputs = [("x", x[..].into()), ("rows", rows[..].into())];
        let outputs = session.run(&program, &inputs, &mut [("cache", &mut cache)]).unwrap();
        outputs[0].as_f32().unwrap().to_vec()
    };
    assert_eq!(run([1.0, 2.0, 3.0, 4.0], [3, 0]), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(run([5.0, 6.0, 7.0, 8.0], [1, 2]), [5.0, 6.0, 7.0, 8.0]);
}

/// Folding plans the static part alone; writes to states have no place in that plan.
#[test]
fn folding_leaves_the_writes_alone() {
    let mut graph = Graph::new();
    let weight = graph.parameter("weight", DType::F32, [2, 2]);
    let doubled = graph.scale(weight, 2.0);
    let cache = graph.state("cache", DType::F32, [3, 2]);
    let rows = graph.indices("rows", 3, [2]);
    let cache = graph.write_rows(cache, doubled, rows);
    let written = graph.gather(cache, rows);
    graph.output(written);

    let mut session = Session::new(Reference::<f64>::new(), Arc::new(Ones));
    let program = session.compile(&graph, &CompileOptions::default()).unwrap();
    let mut cache = session.allocate(DType::F32, [3, 2]).unwrap();
    let outputs = session
        .run(&program, &[("rows", [2, 1][..].into())], &mut [("cache", &mut cache)])
        .unwrap();
    assert_eq!(outputs[0].as_f32().unwrap(), [2.0; 4]);
}
