//! What compilation makes of a graph: joined and fused layers, folded parameters, taps; and what a
//! run checks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tfm_core::fused::{Activation, Attention, AttentionOperands, KeyRows, KeySet};
use tfm_core::passes::{fuse_linears, join_linears};
use tfm_core::reference::Reference;
use tfm_core::{CompileOptions, DType, Error, Graph, ParameterSource, Session, Tensor, Value};

/// Parameters of ascending numbers, and how often one was read.
#[derive(Default)]
struct Counting {
    shapes: HashMap<&'static str, Vec<usize>>,
    loads: AtomicUsize,
}

impl Counting {
    fn new(shapes: &[(&'static str, &[usize])]) -> Arc<Self> {
        let shapes = shapes.iter().map(|(name, shape)| (*name, shape.to_vec())).collect();
        Arc::new(Counting { shapes, loads: AtomicUsize::new(0) })
    }
}

impl ParameterSource for Counting {
    fn load(&self, name: &str) -> Result<Tensor, String> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let shape = self.shapes.get(name).ok_or("is not in the checkpoint")?;
        let numbers = (0..shape.iter().product()).map(|i: usize| 0.1 * i as f32 - 1.0).collect();
        Tensor::from_f32(&shape[..], numbers).map_err(|error| error.to_string())
    }
}

fn session(source: Arc<Counting>) -> Session {
    Session::new(Reference::<f64>::new(), source)
}

fn linears(graph: &Graph) -> usize {
    graph.to_string().matches("= linear(").count()
}

const QKV: &[(&str, &[usize])] =
    &[("q", &[4, 3]), ("k", &[4, 3]), ("v", &[2, 3]), ("qb", &[4]), ("kb", &[4]), ("vb", &[2])];

/// Queries, keys and values of one operand.
fn qkv() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", DType::F32, [5, 3]);
    for (weight, bias, n) in [("q", "qb", 4), ("k", "kb", 4), ("v", "vb", 2)] {
        let weight = graph.parameter(weight, DType::F32, [n, 3]);
        let bias = graph.parameter(bias, DType::F32, [n]);
        let y = graph.linear(x, weight, Some(bias));
        graph.output(y);
    }
    graph
}

const X: [f32; 15] = [1., -2., 3., 0.5, 0., 1., 2., 2., 2., -1., -1., -1., 0., 0., 7.];

#[test]
fn layers_of_one_operand_become_one_with_the_same_results() {
    let graph = qkv();
    let joined = join_linears(&graph);
    assert_eq!((linears(&graph), linears(&joined)), (3, 1));

    let mut session = session(Counting::new(QKV));
    let program = session.compile(&graph, &CompileOptions::default()).unwrap();
    let outputs = session.run(&program, &[("x", X[..].into())], &mut []).unwrap();
    for (output, (_, shape)) in outputs.iter().zip(QKV) {
        let (n, output) = (shape[0], output.as_f32().unwrap());
        for (row, x) in X.chunks(3).enumerate() {
            for j in 0..n {
                let weight = |i: usize| 0.1 * (j * 3 + i) as f32 - 1.0;
                let bias = 0.1 * j as f32 - 1.0;
                let expected: f32 = (0..3).map(|i| x[i] * weight(i)).sum::<f32>() + bias;
                assert!((output[row * n + j] - expected).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn what_follows_a_linear_layer_moves_into_it() {
    let build = |finish: fn(&mut Graph, Value, Value)| {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [5, 3]);
        let weight = graph.parameter("w", DType::F32, [3, 3]);
        let y = graph.linear(x, weight, None);
        finish(&mut graph, x, y);
        fuse_linears(&graph)
    };
    let all = build(|graph, x, y| {
        let y = graph.activate(Activation::Relu, y);
        let y = graph.add(x, y);
        graph.output(y);
    });
    assert_eq!(linears(&all), 1);
    assert!(!all.to_string().contains("activate(") && !all.to_string().contains("add("), "{all}");

    // A result that others see stays.
    let returned = build(|graph, x, y| {
        let z = graph.add(x, y);
        graph.output(y);
        graph.output(z);
    });
    let labelled = build(|graph, x, y| {
        graph.label(y, "y");
        let z = graph.add(x, y);
        graph.output(z);
    });
    let doubled = build(|graph, _, y| {
        let z = graph.add(y, y);
        graph.output(z);
    });
    for graph in [returned, labelled, doubled] {
        assert!(graph.to_string().contains("add("), "{graph}");
    }
}

/// A layer whose operand lies in a state may not be moved past a write to it.
#[test]
fn a_linear_layer_reads_its_state_before_a_later_write() {
    let mut graph = Graph::new();
    let state = graph.state("state", DType::F32, [1, 3]);
    let weight = graph.parameter("w", DType::F32, [3, 3]);
    let y = graph.linear(state, weight, None);
    let x = graph.input("x", DType::F32, [1, 3]);
    let ids = graph.indices("ids", 1, [1]);
    graph.write_rows(state, x, ids);
    let sum = graph.add(y, x);
    graph.output(sum);

    let mut session = session(Counting::new(&[("w", &[3, 3])]));
    let program = session.compile(&graph, &CompileOptions::default()).unwrap();
    let mut state = session.allocate(DType::F32, [1, 3]).unwrap();
    let mut step = |x: [f32; 3]| {
        let inputs = [("x", x[..].into()), ("ids", [0][..].into())];
        let outputs = session.run(&program, &inputs, &mut [("state", &mut state)]).unwrap();
        outputs[0].as_f32().unwrap().to_vec()
    };
    step([1.0, 0.0, 0.0]);
    // The first column of the weight, plus x.
    for (found, expected) in step([0.0, 0.0, 0.0]).iter().zip([-1.0, -0.7, -0.4]) {
        assert!((found - expected).abs() < 1e-6);
    }
}

/// Training holds the weights in states, and writes them when nobody reads them any more.
#[test]
fn a_layer_with_its_weight_in_a_state_takes_what_follows_before_the_write() {
    let mut graph = Graph::new();
    let weight = graph.state("weight", DType::F32, [3, 3]);
    let x = graph.input("x", DType::F32, [3, 3]);
    let y = graph.linear(x, weight, None);
    let sum = graph.add(y, x);
    let ids = graph.indices("ids", 3, [3]);
    graph.write_rows(weight, sum, ids);
    let fused = fuse_linears(&graph).to_string();
    assert!(fused.contains("= linear(") && !fused.contains("add("), "{fused}");
}

#[test]
fn parameters_are_folded_once_for_all_programs_and_forks() {
    let source = Counting::new(QKV);
    let mut session = session(source.clone());
    let program = session.compile(&qkv(), &CompileOptions::default()).unwrap();
    let loads = source.loads.load(Ordering::Relaxed);
    assert_eq!(loads, QKV.len(), "each parameter is read once");
    let steps = program.plan().steps();

    let again = session.compile(&qkv(), &CompileOptions::default()).unwrap();
    let mut fork = session.fork(1).unwrap();
    let forked = fork.compile(&qkv(), &CompileOptions::default()).unwrap();
    assert_eq!(source.loads.load(Ordering::Relaxed), loads, "nothing is read again");
    assert_eq!((again.plan().steps(), forked.plan().steps()), (steps, steps));

    // Only the product and the bias run: what makes the joined weight is in no step.
    assert_eq!(steps, 2, "matmul and add");
    let run = |session: &mut Session, program| {
        session.run(program, &[("x", X[..].into())], &mut []).unwrap()
    };
    let expected = run(&mut session, &program);
    assert_eq!(run(&mut session, &again), expected);
    assert_eq!(run(&mut fork, &forked), expected);
    assert_eq!(run(&mut fork, &program), expected, "a fork runs its parent's programs");
}

#[test]
fn programs_run_where_they_were_compiled() {
    let mut here = session(Counting::new(QKV));
    let mut there = session(Counting::new(QKV));
    let program = here.compile(&qkv(), &CompileOptions::default()).unwrap();
    let outcome = there.run(&program, &[("x", X[..].into())], &mut []);
    assert_eq!(outcome, Err(Error::ForeignProgram));
}

#[test]
fn taps_look_inside_fused_ops() {
    let mut graph = Graph::new();
    let query = graph.input("query", DType::F32, [3, 2, 4]);
    let offsets = graph.input("offsets", DType::I32, [3]);
    let ranges = graph.input("ranges", DType::I32, [2, 2]);
    let y = graph.scoped("encoder.self_attention", |graph| {
        let keys = KeySet { causal: true, ..KeySet::default() };
        let op = Attention { scale: 0.5, keys, ..Attention::default() };
        let rows = KeyRows::Ranges { query_offsets: offsets, key_ranges: ranges };
        graph.attention(op, AttentionOperands::new(query, [query, query], rows))
    });
    graph.output(y);

    let mut session = session(Counting::new(&[]));
    let tap = |name: &str| CompileOptions { taps: vec![name.into()], ..CompileOptions::default() };
    let program = session.compile(&graph, &tap("encoder.self_attention.weights")).unwrap();
    let numbers: Vec<f32> = (0..24).map(|i| (i as f32 * 0.7).sin()).collect();
    let inputs = [
        ("query", numbers[..].into()),
        ("offsets", [0, 2, 3][..].into()),
        ("ranges", [0, 2, 2, 1][..].into()),
    ];
    let outputs = session.run(&program, &inputs, &mut []).unwrap();
    let weights = &outputs[1];
    assert_eq!(weights.shape()[..], [2, 3, 3]);
    for (row, weights) in weights.as_f32().unwrap().chunks(3).enumerate() {
        assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6, "row {row}: {weights:?}");
    }
    // The first query of the first sequence sees itself alone, the second sequence its own key
    // alone.
    assert_eq!(weights.as_f32().unwrap()[..3], [1.0, 0.0, 0.0]);
    assert_eq!(weights.as_f32().unwrap()[6..9], [0.0, 0.0, 1.0]);

    let unknown = session.compile(&graph, &tap("encoder.self_attention.wieghts")).unwrap_err();
    assert!(unknown.to_string().contains("wieghts"), "{unknown}");
}

#[test]
fn a_run_checks_what_it_is_given() {
    let mut graph = Graph::new();
    let table = graph.parameter("q", DType::F32, [4, 3]);
    let ids = graph.indices("ids", 4, [2]);
    let y = graph.embedding(ids, table, 1.0, None);
    graph.output(y);
    let mut session = session(Counting::new(QKV));
    let program = session.compile(&graph, &CompileOptions::default()).unwrap();
    let mut message = |inputs: &[(&str, tfm_core::HostSlice<'_>)]| {
        session.run(&program, inputs, &mut []).unwrap_err().to_string()
    };
    assert_eq!(message(&[]), "input `ids` is not bound; pass it to `run`");
    assert_eq!(
        message(&[("ids", [1, 4][..].into())]),
        "input `ids`: index 4 at position 1 is not below 4"
    );
    assert_eq!(
        message(&[("ids", [-1, 0][..].into())]),
        "input `ids`: index -1 at position 0 is not below 4"
    );
    assert_eq!(
        message(&[("ids", [0][..].into())]),
        "input `ids`: the graph declares i32 [2], but it is i32 [1]"
    );

    let mut graph = Graph::new();
    let state = graph.state("cache", DType::F32, [2]);
    let negated = graph.neg(state);
    graph.output(negated);
    let program = session.compile(&graph, &CompileOptions::default()).unwrap();
    let unbound = session.run(&program, &[], &mut []).unwrap_err();
    assert_eq!(unbound.to_string(), "state `cache` is not bound; pass it to `run`");
    let mut other = session.allocate(DType::F32, [3]).unwrap();
    let mismatch = session.run(&program, &[], &mut [("cache", &mut other)]).unwrap_err();
    assert_eq!(
        mismatch.to_string(),
        "state `cache`: the graph declares f32 [2], but it is f32 [3]"
    );
}

#[test]
fn parameters_must_be_there_and_fit() {
    let mut session = session(Counting::new(QKV));
    let mut message = |name: &str, shape: [usize; 2]| {
        let mut graph = Graph::new();
        let parameter = graph.parameter(name, DType::F32, shape);
        graph.output(parameter);
        session.compile(&graph, &CompileOptions::default()).unwrap_err().to_string()
    };
    assert_eq!(message("missing", [1, 1]), "parameter `missing`: is not in the checkpoint");
    assert_eq!(
        message("q", [3, 4]),
        "parameter `q`: the graph declares f32 [3, 4], but it is f32 [4, 3]"
    );
}
