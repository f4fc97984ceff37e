//! The decomposition of attention is its definition. Here it is compared with the equation, written
//! as plain loops over one query and key after the other, for all attributes together.

use std::sync::Arc;
use tfm_core::fused::{
    Attention, AttentionOperands, KeyLookup, KeyOperands, KeyRows, KeySet, RelativeBias,
};
use tfm_core::reference::Reference;
use tfm_core::{CompileOptions, Graph, HostSlice, NoParameters, Session, Value};

const HEADS: usize = 4;
const D: usize = 3;
const QUERIES: usize = 6;
const ROWS: usize = 9;

/// Buckets 0 to 2 for the query's key and those one and two or more before it, 3 to 5 for keys
/// after it.
const BIAS: RelativeBias = RelativeBias { buckets: 6, max_distance: 2, bidirectional: true };

/// Three sequences: the second has more queries than keys, the third has no keys. No sequence
/// has rows 0 and 8.
const OFFSETS: [i32; 4] = [0, 2, 5, 6];
const RANGES: [[i32; 2]; 3] = [[1, 5], [6, 2], [0, 0]];
const LENGTHS: [i32; QUERIES] = [3, 1, 0, 4, 4, 2];
const WIDTH: usize = 4;

/// Numbers that are the same at every run and look like none in particular.
fn numbers(n: usize, phase: f32) -> Vec<f32> {
    (0..n).map(|i| ((i as f32 + phase) * 12.9898).sin() * 1.5).collect()
}

/// The row that a query's list has in a column.
fn row_of(query: usize, column: usize) -> usize {
    (query * 5 + column * 7) % ROWS
}

/// What a set of keys holds.
struct KeyData {
    set: KeySet,
    key: Vec<f32>,
    value: Vec<f32>,
    biases: Vec<f32>,
}

impl KeyData {
    fn new(set: KeySet, kv_heads: usize, phase: f32) -> KeyData {
        KeyData {
            set,
            key: numbers(ROWS * kv_heads * D, phase),
            value: numbers(ROWS * kv_heads * D, phase + 0.4),
            biases: numbers(6 * HEADS, phase + 0.8),
        }
    }

    /// The rows that a query sees, each with its distance.
    fn seen(&self, query: usize) -> Vec<(usize, i64)> {
        let all: Vec<(usize, i64)> = match self.set.lookup {
            KeyLookup::Table => {
                let length = LENGTHS[query] as usize;
                (0..length).map(|j| (row_of(query, j), j as i64 - length as i64 + 1)).collect()
            }
            KeyLookup::Ranges => {
                let s = (0..3).find(|&s| (query as i32) < OFFSETS[s + 1]).unwrap();
                let [start, length] = RANGES[s].map(i64::from);
                let to_the_last = i64::from(OFFSETS[s + 1]) - 1 - query as i64;
                let position = length - 1 - to_the_last;
                (0..length).map(|j| ((start + j) as usize, j - position)).collect()
            }
        };
        let inside = |distance: i64| match self.set.window {
            Some(window) => distance.abs() < window as i64,
            None => true,
        };
        let seen = all.into_iter();
        seen.filter(|&(_, d)| (!self.set.causal || d <= 0) && inside(d)).collect()
    }

    fn bias(&self, distance: i64, head: usize) -> f64 {
        let bucket = if distance > 0 { 3 + distance.min(2) } else { (-distance).min(2) };
        let bias = self.set.bias.map(|_| f64::from(self.biases[bucket as usize * HEADS + head]));
        bias.unwrap_or(0.0)
    }
}

/// The context of all queries and heads, and log Σ exp of their scores, by the equation.
fn expected(op: &Attention, query: &[f32], sets: &[KeyData], kv_heads: usize) -> [Vec<f64>; 2] {
    let (mut contexts, mut sums) = (Vec::new(), Vec::new());
    for (i, head) in (0..QUERIES).flat_map(|i| (0..HEADS).map(move |head| (i, head))) {
        let kv_head = head * kv_heads / HEADS;
        let at = |row: usize| (row * kv_heads + kv_head) * D;
        let mut total = 0.0;
        let mut context = [0.0; D];
        for data in sets {
            for (row, distance) in data.seen(i) {
                let mut score = 0.0;
                for c in 0..D {
                    let q = f64::from(query[(i * HEADS + head) * D + c]);
                    score += q * f64::from(data.key[at(row) + c]);
                }
                score *= op.scale;
                if let Some(cap) = op.soft_cap {
                    score = cap * (score / cap).tanh();
                }
                let weight = (score + data.bias(distance, head)).exp();
                total += weight;
                for (context, &value) in context.iter_mut().zip(&data.value[at(row)..]) {
                    *context += weight * f64::from(value);
                }
            }
        }
        let some = total > 0.0;
        contexts.extend(context.map(|x| if some { x / total } else { 0.0 }));
        sums.push(if some { total.ln() } else { 0.0 });
    }
    [contexts, sums]
}

/// An input of a graph, and what it holds.
struct Inputs<'a> {
    graph: Graph,
    bindings: Vec<(String, HostSlice<'a>)>,
}

impl<'a> Inputs<'a> {
    fn add(&mut self, data: impl Into<HostSlice<'a>>, shape: &[usize]) -> Value {
        let (name, data) = (format!("input {}", self.bindings.len()), data.into());
        let value = self.graph.input(&name, data.dtype(), shape);
        self.bindings.push((name, data));
        value
    }
}

fn assert_close(found: &[f64], expected: &[f64], about: &Attention) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let bound = 1e-6 * expected.abs().max(1.0);
        assert!((found - expected).abs() < bound, "{about:?}: {i}: {found} {expected}");
    }
}

fn check(op: Attention, kv_heads: usize) {
    let query = numbers(QUERIES * HEADS * D, 0.0);
    let sets = [Some(op.keys), op.more_keys].into_iter().flatten().zip([0.3, 0.7]);
    let sets: Vec<KeyData> = sets.map(|(set, phase)| KeyData::new(set, kv_heads, phase)).collect();
    let ranges = RANGES.as_flattened();
    let table: Vec<i32> =
        (0..QUERIES * WIDTH).map(|at| row_of(at / WIDTH, at % WIDTH) as i32).collect();

    let mut inputs = Inputs { graph: Graph::new(), bindings: Vec::new() };
    let q = inputs.add(&query[..], &[QUERIES, HEADS, D]);
    let mut operands = sets.iter().map(|data| {
        let shape = [ROWS, kv_heads, D];
        let (key, value) = (inputs.add(&data.key[..], &shape), inputs.add(&data.value[..], &shape));
        let rows = match data.set.lookup {
            KeyLookup::Ranges => KeyRows::Ranges {
                query_offsets: inputs.add(&OFFSETS[..], &[4]),
                key_ranges: inputs.add(ranges, &[3, 2]),
            },
            KeyLookup::Table => KeyRows::Table {
                row_table: inputs.add(&table[..], &[QUERIES, WIDTH]),
                lengths: inputs.add(&LENGTHS[..], &[QUERIES]),
            },
        };
        let bias = data.set.bias.map(|_| inputs.add(&data.biases[..], &[6, HEADS]));
        KeyOperands { key, value, rows, bias }
    });
    let (keys, more_keys) = (operands.next().unwrap(), operands.next());
    drop(operands);
    let operands = AttentionOperands { query: q, keys, more_keys, random_key: None };
    let Inputs { mut graph, bindings } = inputs;
    let found = graph.fused_all(op, &operands.list());
    found.iter().for_each(|value| graph.output(*value));

    let mut session = Session::new(Reference::<f64>::new(), Arc::new(NoParameters));
    let program = session.compile(&graph, &CompileOptions::default()).unwrap();
    let bindings: Vec<_> = bindings.iter().map(|(name, data)| (name.as_str(), *data)).collect();
    let found = session.run(&program, &bindings, &mut []).unwrap();
    let expected = expected(&op, &query, &sets, kv_heads);
    assert_eq!(found.len(), if op.gives_sums() { 2 } else { 1 });
    for (found, expected) in found.iter().zip(&expected) {
        assert_close(&found.to_f64(), expected, &op);
    }
}

/// All ways to see a set of keys.
fn key_sets() -> impl Iterator<Item = KeySet> {
    let each = |all: [bool; 2]| all.into_iter();
    let lookups = [KeyLookup::Ranges, KeyLookup::Table].into_iter();
    let flags = each([false, true]).flat_map(move |causal| {
        each([false, true]).map(move |biased| (causal, biased.then_some(BIAS)))
    });
    lookups.flat_map(move |lookup| {
        flags.clone().flat_map(move |(causal, bias)| {
            let windows = [None, Some(1), Some(2), Some(3), Some(100)];
            windows.map(|window| KeySet { lookup, causal, window, bias })
        })
    })
}

#[test]
fn one_set_of_keys() {
    for keys in key_sets() {
        for soft_cap in [None, Some(0.8)] {
            for kv_heads in [1, 2, 4] {
                check(Attention { scale: 0.6, soft_cap, keys, ..Attention::default() }, kv_heads);
            }
        }
    }
}

#[test]
fn two_sets_of_keys_share_one_softmax() {
    for keys in key_sets() {
        for more_keys in key_sets().step_by(3) {
            let op = Attention { scale: 0.6, keys, ..Attention::default() };
            check(Attention { more_keys: Some(more_keys), ..op }, 2);
            check(Attention { more_keys: Some(more_keys), soft_cap: Some(0.8), ..op }, 4);
        }
    }
}
