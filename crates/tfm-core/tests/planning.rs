//! Plans: memory is shared by values that do not live at the same time.

use std::sync::Arc;
use tfm_core::reference::Reference;
use tfm_core::{CompileOptions, DType, Graph, NoParameters, Session};

fn chain(length: usize) -> Graph {
    let mut graph = Graph::new();
    let mut x = graph.input("x", DType::F32, [100]);
    for _ in 0..length {
        x = graph.tanh(x);
    }
    graph.output(x);
    graph
}

#[test]
fn a_chain_takes_two_slots_however_long() {
    let mut session = Session::new(Reference::<f64>::new(), Arc::new(NoParameters));
    let shared = session.compile(&chain(20), &CompileOptions::default()).unwrap();
    assert_eq!((shared.plan().steps(), shared.plan().workspace_bytes()), (20, 2 * 100 * 4));
    let options = CompileOptions { separate_slots: true, ..CompileOptions::default() };
    let separate = session.compile(&chain(20), &options).unwrap();
    assert_eq!(separate.plan().workspace_bytes(), 21 * 100 * 4);
}

#[test]
fn what_no_output_needs_is_left_out() {
    let mut graph = chain(3);
    let unused = graph.input("unused", DType::F32, [7]);
    graph.exp(unused);
    let mut session = Session::new(Reference::<f64>::new(), Arc::new(NoParameters));
    let program = session.compile(&graph, &CompileOptions::default()).unwrap();
    assert_eq!(program.plan().steps(), 3);
    let x = [0.5; 100];
    assert!(session.run(&program, &[("x", x[..].into())], &mut []).is_ok());
}

/// An input that comes late in the graph is uploaded before the first step, so its slot may not be
/// one that an earlier value still uses.
#[test]
fn a_late_input_has_memory_from_the_start() {
    let mut graph = Graph::new();
    let x = graph.input("x", DType::F32, [2]);
    let y = graph.exp(x);
    let y = graph.neg(y);
    let late = graph.input("late", DType::F32, [2]);
    let sum = graph.add(y, late);
    graph.output(sum);
    let mut session = Session::new(Reference::<f64>::new(), Arc::new(NoParameters));
    let program = session.compile(&graph, &CompileOptions::default()).unwrap();
    let inputs = [("x", [0.0, 0.0][..].into()), ("late", [5.0, 6.0][..].into())];
    let outputs = session.run(&program, &inputs, &mut []).unwrap();
    assert_eq!(outputs[0].as_f32().unwrap(), [4.0, 5.0]);
}
