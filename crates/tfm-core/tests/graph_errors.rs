//! A graph's first fault says what, where and with which shapes.

use tfm_core::fused::{
    Attention, AttentionOperands, KeyLookup, KeyOperands, KeyRows, KeySet, RelativeBias,
};
use tfm_core::{DType, Graph, Shape, Value};

fn floats(graph: &mut Graph, name: &str, shape: impl Into<Shape>) -> Value {
    graph.input(name, DType::F32, shape)
}

fn message(graph: &Graph) -> String {
    graph.check().expect_err("the graph has a fault").to_string()
}

#[test]
fn the_op_the_scope_and_both_shapes_are_named() {
    let mut graph = Graph::new();
    let x = floats(&mut graph, "x", [5, 8]);
    let weight = graph.parameter("weight", DType::F32, [4, 6]);
    graph.scoped("decoder", |graph| {
        graph.scoped("layers.3", |graph| graph.linear(x, weight, None));
    });
    assert_eq!(
        message(&graph),
        "linear in decoder.layers.3: x [5, 8] does not end in the 6 columns of weight [4, 6]"
    );
}

#[test]
fn the_first_fault_is_kept_and_the_rest_ignored() {
    let mut graph = Graph::new();
    let a = floats(&mut graph, "a", [2, 3]);
    let b = floats(&mut graph, "b", [4, 3]);
    let sum = graph.add(a, b);
    let more = graph.softmax(sum);
    graph.label(more, "more");
    graph.output(more);
    assert_eq!(message(&graph), "add: shapes [2, 3] and [4, 3] do not broadcast");
}

/// Adds a faulty node on `f32 [3, 4]` and `i32 [3, 4]`.
type Fault = fn(&mut Graph, Value, Value);

#[test]
fn types_axes_and_ranges_are_checked() {
    let faults: [(&str, Fault); 12] = [
        ("add: operands of types f32 and i32", |g, x, i| _ = g.add(x, i)),
        ("exp: of i32", |g, _, i| _ = g.exp(i)),
        ("reduce_sum: axis 2 of [3, 4]", |g, x, _| {
            _ = g.reduce(tfm_core::op::ReduceOp::Sum, x, 2);
        }),
        ("slice: 3.. of length 2 of axis 1 of [3, 4]", |g, x, _| _ = g.slice(x, 1, 3, 2)),
        ("reshape: 12 elements of [3, 4] as [5]", |g, x, _| _ = g.reshape(x, [5])),
        ("permute: [0, 0] does not order the axes of [3, 4]", |g, x, _| _ = g.permute(x, &[0, 0])),
        ("broadcast: [3, 4] to [4, 3]", |g, x, _| _ = g.broadcast(x, [4, 3])),
        ("matmul: [3, 4] × [3, 4]", |g, x, _| _ = g.matmul(x, x)),
        ("top_k: the 5 largest of each row of f32 [3, 4]", |g, x, _| _ = g.top_k(x, 5)),
        ("gather: ids must be i32, are f32", |g, x, _| _ = g.gather(x, x)),
        ("concat: takes 1 operands, got 0", |g, _, _| _ = g.concat(0, &[])),
        ("random: the key must be i32 [3], is i32 [3, 4]", |g, _, i| _ = g.random(i, 0, [2])),
    ];
    for (expected, build) in faults {
        let mut graph = Graph::new();
        let x = floats(&mut graph, "x", [3, 4]);
        let i = graph.input("i", DType::I32, [3, 4]);
        build(&mut graph, x, i);
        assert_eq!(message(&graph), expected);
    }
}

#[test]
fn fused_ops_name_the_operand() {
    let mut graph = Graph::new();
    let query = floats(&mut graph, "query", [6, 2, 8]);
    let key = floats(&mut graph, "key", [9, 2, 4]);
    let offsets = graph.input("offsets", DType::I32, [3]);
    let ranges = graph.input("ranges", DType::I32, [2, 2]);
    let rows = KeyRows::Ranges { query_offsets: offsets, key_ranges: ranges };
    let operands = AttentionOperands::new(query, [key, key], rows);
    graph.attention(Attention { scale: 1.0, ..Attention::default() }, operands);
    assert_eq!(message(&graph), "attention: key must be [9, 2, 8], is [9, 2, 4]");
}

const BY_TABLE: KeySet =
    KeySet { lookup: KeyLookup::Table, causal: false, window: None, bias: None };

#[test]
fn attention_says_what_is_wrong_with_its_attributes_and_key_heads() {
    let windowed = KeySet { window: Some(0), ..KeySet::default() };
    let faults = [
        (None, None, KeySet::default(), 4, "key must be [9, 6, 8], is [9, 4, 8]"),
        (None, None, KeySet::default(), 12, "key must be [9, 6, 8], is [9, 12, 8]"),
        (None, None, windowed, 3, "a window must hold at least the query's own position"),
        (Some(0.0), None, BY_TABLE, 3, "the cap of the scores must be finite and above 0"),
        (
            Some(f64::INFINITY),
            None,
            BY_TABLE,
            3,
            "the cap of the scores must be finite and above 0",
        ),
        (
            None,
            Some(windowed),
            BY_TABLE,
            2,
            "second set of keys: a window must hold at least the query's own position",
        ),
    ];
    for (soft_cap, more_keys, keys, kv_heads, problem) in faults {
        let mut graph = Graph::new();
        let query = floats(&mut graph, "query", [6, 6, 8]);
        let key = floats(&mut graph, "key", [9, kv_heads, 8]);
        let mut set = |number: usize, lookup| {
            let mut input = |name: &str, shape: &[usize]| {
                graph.input(&format!("{name} {number}"), DType::I32, shape)
            };
            let rows = match lookup {
                KeyLookup::Ranges => KeyRows::Ranges {
                    query_offsets: input("offsets", &[3]),
                    key_ranges: input("ranges", &[2, 2]),
                },
                KeyLookup::Table => KeyRows::Table {
                    row_table: input("table", &[6, 5]),
                    lengths: input("lengths", &[6]),
                },
            };
            KeyOperands::new([key, key], rows)
        };
        let first = set(1, keys.lookup);
        let second = more_keys.map(|keys: KeySet| set(2, keys.lookup));
        let operands =
            AttentionOperands { query, keys: first, more_keys: second, random_key: None };
        graph.attention(
            Attention { scale: 1.0, soft_cap, dropout: None, keys, more_keys },
            operands,
        );
        assert_eq!(message(&graph), format!("attention: {problem}"));
    }
}

#[test]
fn relative_biases_say_what_is_wrong() {
    let bias = RelativeBias { buckets: 32, max_distance: 128, bidirectional: true };
    let faults = [
        (bias, DType::F32, [32, 3], "bias must be [32, 2], is [32, 3]"),
        (bias, DType::BF16, [32, 2], "bias must be f32, is bf16"),
        (
            RelativeBias { buckets: 3, ..bias },
            DType::F32,
            [3, 2],
            "there must be 2 to 1024 buckets a direction",
        ),
        (
            RelativeBias { max_distance: 8, ..bias },
            DType::F32,
            [32, 2],
            "the maximal distance must be in 9 to 65536",
        ),
    ];
    for (bias, dtype, shape, problem) in faults {
        let mut graph = Graph::new();
        let cache = floats(&mut graph, "cache", [9, 2, 4]);
        let table = graph.input("table", DType::I32, [9, 5]);
        let lengths = graph.input("lengths", DType::I32, [9]);
        let biases = graph.input("bias", dtype, shape);
        let keys = KeySet { bias: Some(bias), ..BY_TABLE };
        let rows = KeyRows::Table { row_table: table, lengths };
        let mut operands = AttentionOperands::new(cache, [cache, cache], rows);
        operands.keys.bias = Some(biases);
        graph.attention(Attention { scale: 1.0, keys, ..Attention::default() }, operands);
        assert_eq!(message(&graph), format!("attention: {problem}"));
    }
}

#[test]
fn sizes_beyond_memory_are_refused() {
    let mut graph = Graph::new();
    let x = floats(&mut graph, "x", [1, 1]);
    graph.broadcast(x, [1 << 40, 1 << 40]);
    assert_eq!(
        message(&graph),
        "broadcast: the result [1099511627776, 1099511627776] has too many elements"
    );
    // No elements, but strides that do not fit.
    let mut graph = Graph::new();
    floats(&mut graph, "x", [0, 1 << 40, 1 << 40]);
    assert!(message(&graph).contains("too many elements"));
}

#[test]
fn values_of_another_graph_are_refused() {
    let mut other = Graph::new();
    let foreign = (0..5).map(|i| floats(&mut other, &i.to_string(), [1])).last().expect("five");
    let uses: [fn(&mut Graph, Value); 3] =
        [|g, v| _ = g.neg(v), |g, v| g.output(v), |g, v| g.label(v, "name")];
    for use_it in uses {
        let mut graph = Graph::new();
        use_it(&mut graph, foreign);
        assert!(message(&graph).ends_with("is not of this graph"), "{}", message(&graph));
    }
}

/// A graph with a state, something to write to it, and the rows to write.
fn with_state() -> (Graph, Value, Value, Value) {
    let mut graph = Graph::new();
    let state = graph.state("cache", DType::F32, [4, 2]);
    let x = floats(&mut graph, "x", [1, 2]);
    let ids = graph.indices("ids", 4, [1]);
    (graph, state, x, ids)
}

#[test]
fn a_state_is_not_read_after_it_was_replaced() {
    let replaced = "state `cache` is used after write_rows replaced it; use its result";
    let (mut graph, state, x, ids) = with_state();
    graph.write_rows(state, x, ids);
    graph.neg(state);
    assert_eq!(message(&graph), format!("neg: {replaced}"));

    // Views lie in the same memory.
    let (mut graph, state, x, ids) = with_state();
    let view = graph.slice(state, 0, 1, 2);
    graph.write_rows(state, x, ids);
    graph.output(view);
    assert_eq!(message(&graph), format!("output: {replaced}"));

    // The result of the write may be read, and written again.
    let (mut graph, state, x, ids) = with_state();
    let once = graph.write_rows(state, x, ids);
    let twice = graph.write_rows(once, x, ids);
    graph.output(twice);
    assert_eq!(graph.check(), Ok(()));
    graph.neg(once);
    assert_eq!(message(&graph), format!("neg: {replaced}"));
}

#[test]
fn only_states_are_written_and_not_with_themselves() {
    let (mut graph, _, x, ids) = with_state();
    graph.write_rows(x, x, ids);
    let expected = "only a state, or the result of writing to one, can be written to";
    assert_eq!(message(&graph), format!("write_rows: {expected}"));

    let (mut graph, state, _, ids) = with_state();
    let row = graph.slice(state, 0, 0, 1);
    graph.write_rows(state, row, ids);
    assert!(message(&graph).contains("`cache` is written with a view of itself"));

    let (mut graph, ..) = with_state();
    graph.state("cache", DType::F32, [1]);
    assert_eq!(message(&graph), "state: `cache` is declared twice");
}

#[test]
fn declared_indices_fit_what_they_index() {
    let faults: [Fault; 5] = [
        |g, table, ids| _ = g.gather(table, ids),
        |g, table, ids| _ = g.embedding(ids, table, 1.0, None),
        |g, table, ids| _ = g.scatter_add(table, ids, 3),
        |g, table, ids| {
            let state = g.state("state", DType::F32, [3, 2]);
            g.write_rows(state, table, ids);
        },
        |g, table, ids| {
            let cache = g.reshape(table, [3, 1, 2]);
            let rows = g.reshape(ids, [3, 1]);
            let lengths = g.indices("lengths", 2, [3]);
            let rows = KeyRows::Table { row_table: rows, lengths };
            let operands = AttentionOperands::new(cache, [cache, cache], rows);
            let op = Attention { scale: 1.0, keys: BY_TABLE, ..Attention::default() };
            g.attention(op, operands);
        },
    ];
    for (bound, fits) in [(3, true), (4, false)] {
        for build in faults {
            let mut graph = Graph::new();
            let table = floats(&mut graph, "table", [3, 2]);
            let ids = graph.indices("ids", bound, [3]);
            build(&mut graph, table, ids);
            assert_eq!(graph.check().is_ok(), fits, "{:?}", graph.check());
        }
    }
}
