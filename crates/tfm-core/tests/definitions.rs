//! The decompositions define the fused ops. Here they are compared with the equations, written as
//! plain loops over one element after the other.

use std::sync::Arc;
use tfm_core::fused::{Activate, Activation};
use tfm_core::reference::Reference;
use tfm_core::{CompileOptions, DType, Graph, HostSlice, NoParameters, Session, Tensor, Value};

/// Numbers that are the same at every run and look like none in particular.
fn numbers(n: usize, phase: f32) -> Vec<f32> {
    (0..n).map(|i| ((i as f32 + phase) * 12.9898).sin() * 1.5).collect()
}

fn run(
    inputs: &[(&str, &[usize], HostSlice<'_>)],
    build: impl FnOnce(&mut Graph, &[Value]) -> Value,
) -> Tensor {
    let mut graph = Graph::new();
    let values: Vec<Value> =
        inputs.iter().map(|(name, shape, data)| graph.input(name, data.dtype(), *shape)).collect();
    let y = build(&mut graph, &values);
    graph.output(y);
    let mut session = Session::new(Reference::<f64>::new(), Arc::new(NoParameters));
    let program = session.compile(&graph, &CompileOptions::default()).unwrap();
    let bindings: Vec<(&str, HostSlice<'_>)> =
        inputs.iter().map(|(name, _, data)| (*name, *data)).collect();
    session.run(&program, &bindings, &mut []).unwrap().remove(0)
}

fn assert_close(found: &Tensor, expected: &[f64]) {
    let found = found.to_f64();
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() < 1e-6 * expected.abs().max(1.0),
            "{i}: {found} {expected}"
        );
    }
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let sum: f64 = x.iter().map(|x| x.exp()).sum();
    x.iter().map(|x| x.exp() / sum).collect()
}

#[test]
fn rms_norm() {
    let (x, weight) = (numbers(10, 0.0), numbers(5, 0.4));
    let inputs: [(&str, &[usize], HostSlice<'_>); 2] =
        [("x", &[2, 5], x[..].into()), ("weight", &[5], weight[..].into())];
    let found = run(&inputs, |graph, v| graph.rms_norm(v[0], v[1], 0.1));
    let mut expected = Vec::new();
    for row in x.chunks(5) {
        let mean_square = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 5.0;
        let pairs = row.iter().zip(&weight);
        expected
            .extend(pairs.map(|(x, w)| f64::from(*x) / (mean_square + 0.1).sqrt() * f64::from(*w)));
    }
    assert_close(&found, &expected);
}

#[test]
fn layer_norm() {
    let [x, weight, bias] = [(12, 0.0), (6, 0.2), (6, 0.4)].map(|(n, phase)| numbers(n, phase));
    let inputs: [(&str, &[usize], HostSlice<'_>); 3] = [
        ("x", &[2, 6], x[..].into()),
        ("weight", &[6], weight[..].into()),
        ("bias", &[6], bias[..].into()),
    ];
    let found = run(&inputs, |graph, v| graph.layer_norm(v[0], v[1], v[2], 0.1));
    let mut expected = Vec::new();
    for row in x.chunks(6) {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / 6.0;
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / 6.0;
        for (i, &x) in row.iter().enumerate() {
            let normal = (f64::from(x) - mean) / (variance + 0.1).sqrt();
            expected.push(normal * f64::from(weight[i]) + f64::from(bias[i]));
        }
    }
    assert_close(&found, &expected);
}

#[test]
fn softmax_and_its_logarithm() {
    let x = numbers(10, 0.0);
    let expected: Vec<f64> = x
        .chunks(5)
        .flat_map(|row| softmax(&row.iter().map(|&x| x.into()).collect::<Vec<_>>()))
        .collect();
    let inputs: [(&str, &[usize], HostSlice<'_>); 1] = [("x", &[2, 5], x[..].into())];
    assert_close(&run(&inputs, |graph, v| graph.softmax(v[0])), &expected);
    let logarithms: Vec<f64> = expected.iter().map(|p| p.ln()).collect();
    assert_close(&run(&inputs, |graph, v| graph.log_softmax(v[0])), &logarithms);
}

#[test]
fn activations() {
    // Values at −2, −1, 0, 1, 2; those of Φ and σ from tables.
    let x = [-2.0, -1.0, 0.0, 1.0, 2.0];
    let known: [(Activation, [f64; 5]); 5] = [
        (Activation::Relu, [0.0, 0.0, 0.0, 1.0, 2.0]),
        (Activation::Gelu, [-0.045500264, -0.158655254, 0.0, 0.841344746, 1.954499736]),
        (Activation::GeluTanh, [-0.045402306, -0.158808009, 0.0, 0.841191991, 1.954597694]),
        (Activation::Swish, [-0.238405844, -0.268941421, 0.0, 0.731058579, 1.761594156]),
        (Activation::Tanh, [-0.964027580, -0.761594156, 0.0, 0.761594156, 0.964027580]),
    ];
    for (activation, expected) in known {
        let inputs: [(&str, &[usize], HostSlice<'_>); 1] = [("x", &[5], x[..].into())];
        assert_close(
            &run(&inputs, |graph, v| graph.fused(Activate(activation), &[v[0]])),
            &expected,
        );
    }
}

#[test]
fn embedding_and_linear() {
    let table = numbers(12, 0.0);
    let positions = numbers(9, 0.5);
    let inputs: [(&str, &[usize], HostSlice<'_>); 4] = [
        ("ids", &[2], [3, 1][..].into()),
        ("table", &[4, 3], table[..].into()),
        ("positions", &[2], [0, 2][..].into()),
        ("position_table", &[3, 3], positions[..].into()),
    ];
    let found = run(&inputs, |graph, v| graph.embedding(v[0], v[1], 2.0, Some((v[2], v[3]))));
    let expected: Vec<f64> = [(3, 0), (1, 2)]
        .into_iter()
        .flat_map(|(id, position)| (0..3).map(move |i| (id * 3 + i, position * 3 + i)))
        .map(|(e, p)| 2.0 * f64::from(table[e]) + f64::from(positions[p]))
        .collect();
    assert_close(&found, &expected);

    let weight = numbers(6, 0.1);
    let x = numbers(3, 0.9);
    let inputs: [(&str, &[usize], HostSlice<'_>); 3] = [
        ("x", &[3], x[..].into()),
        ("weight", &[2, 3], weight[..].into()),
        ("bias", &[2], [10.0, 20.0][..].into()),
    ];
    let found = run(&inputs, |graph, v| graph.linear(v[0], v[1], Some(v[2])));
    let dot = |row: usize| -> f64 {
        (0..3).map(|i| f64::from(x[i]) * f64::from(weight[row * 3 + i])).sum()
    };
    assert_close(&found, &[dot(0) + 10.0, dot(1) + 20.0]);
}

#[test]
fn top_log_probabilities() {
    let mut graph = Graph::new();
    let logits = graph.input("logits", DType::F32, [1, 4]);
    let bias = graph.input("bias", DType::F32, [4]);
    let (values, ids) = graph.top_log_probabilities(logits, bias, 3);
    graph.output(values);
    graph.output(ids);
    let mut session = Session::new(Reference::<f64>::new(), Arc::new(NoParameters));
    let program = session.compile(&graph, &CompileOptions::default()).unwrap();
    // Token 1 is banned, but counts in the sum; 0 and 2 are equal.
    let (x, bias) = ([1.0, 5.0, 1.0, 2.0], [0.0, f32::NEG_INFINITY, 0.0, 0.0]);
    let inputs = [("logits", x[..].into()), ("bias", bias[..].into())];
    let outputs = session.run(&program, &inputs, &mut []).unwrap();
    let sum = x.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
    assert_close(&outputs[0], &[2.0 - sum, 1.0 - sum, 1.0 - sum]);
    assert_eq!(outputs[1].as_i32().unwrap(), [3, 0, 2]);
}
