//! The graph as text and as a picture.

use tfm_core::fused::Activation;
use tfm_core::{DType, Graph};

fn graph() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", DType::F32, [5, 8]);
    let y = graph.scoped("feed_forward", |graph| {
        let weight = graph.parameter("fc1.weight", DType::F32, [16, 8]);
        let inner = graph.linear(x, weight, None);
        graph.activate(Activation::Swish, inner)
    });
    let (best, ids) = graph.top_k(y, 2);
    let half = graph.scale(best, 0.5);
    graph.output(half);
    graph.output(ids);
    graph
}

#[test]
fn text() {
    assert_eq!(
        graph().to_string(),
        "\
%0: f32 [5, 8] = input \"x\"()
%1: f32 [16, 8] = parameter \"fc1.weight\"()  # feed_forward
%2: f32 [5, 16] = linear(%0, %1)  # feed_forward
%3: f32 [5, 16] = activate(%2)  # feed_forward
%4: f32 [5, 2], %5: i32 [5, 2] = top_k(%3)
%6: f32 [] = 0.5()
%7: f32 [5, 2] = broadcast(%6)
%8: f32 [5, 2] = mul(%4, %7)
return %8, %5
"
    );
}

#[test]
fn dot() {
    let mut graph = Graph::new();
    let x = graph.input("a \"quoted\" name", DType::F32, [2]);
    graph.neg(x);
    assert_eq!(
        graph.to_dot(),
        "\
digraph tfm {
  node [shape=box, fontname=\"monospace\"];
  n0 [label=\"input \\\"a \\\"quoted\\\" name\\\" [2]\"];
  n1 [label=\"neg [2]\"];
  n0 -> n1;
}
"
    );
}
