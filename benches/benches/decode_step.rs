//! A decoding step of the bundled model with 32 hypotheses: what it costs to build and compile the
//! graph, which is paid once a shape, beside running it. A model too small to matter shows what
//! dispatch alone costs.

use criterion::{Criterion, criterion_group, criterion_main};
use std::path::Path;
use std::sync::Arc;
use tfm_core::{CompileOptions, DType, DeviceTensor, Graph, HostSlice, Program, Session};
use tfm_cpu::CpuBackend;
use tfm_model::transformer::{CacheRows, DecoderKeys, Network, Sequences};
use tfm_model::{Checkpoint, Config, Numerics, Parameters};

const HYPOTHESES: usize = 32;
const WIDTH: usize = 16;
const CANDIDATES: usize = 8;
const CACHE_ROWS: CacheRows = CacheRows { own: 512, cross: 512 };
/// The number of steps decoded so far, and of source tokens of each sentence.
const LENGTH: usize = 8;

fn graph(config: &Config) -> Graph {
    let (n, v) = (HYPOTHESES, config.target.vocabulary);
    let mut net = Network::new(config, Numerics::default());
    let tokens = net.graph.indices("tokens", v, [n]);
    let positions = net.graph.indices("positions", config.target.longest_sequence(), [n]);
    let keys = DecoderKeys::Step {
        cache_rows: CACHE_ROWS,
        new_rows: net.graph.indices("new_rows", CACHE_ROWS.own, [n]),
        row_table: net.graph.indices("row_table", CACHE_ROWS.own, [n, WIDTH]),
        lengths: net.graph.indices("lengths", WIDTH + 1, [n]),
        cross: Sequences::input(&mut net.graph, "cross", n, n, CACHE_ROWS.cross),
    };
    let states = net.decoder(tokens, positions, keys);
    let logits = net.logits(states);
    let bias = net.graph.input("bias", DType::F32, [v]);
    let (values, ids) = net.graph.top_log_probabilities(logits, bias, CANDIDATES);
    net.graph.output(values);
    net.graph.output(ids);
    net.graph
}

/// The step's inputs and states for a session.
struct Step {
    tokens: Vec<i32>,
    rows: Vec<i32>,
    table: Vec<i32>,
    lengths: Vec<i32>,
    offsets: Vec<i32>,
    ranges: Vec<i32>,
    bias: Vec<f32>,
    caches: Vec<(String, DeviceTensor)>,
}

impl Step {
    fn new(session: &Session, config: &Config) -> Self {
        let n = HYPOTHESES as i32;
        let shape = |rows| [rows, config.decoder.attention.count, config.decoder.attention.size];
        let mut caches = Vec::new();
        for (kind, rows) in [("self", CACHE_ROWS.own), ("cross", CACHE_ROWS.cross)] {
            for layer in 0..config.decoder.layers {
                for what in ["key", "value"] {
                    let tensor = session.allocate(DType::F32, shape(rows)).unwrap();
                    caches.push((Network::cache_name(kind, layer, what), tensor));
                }
            }
        }
        let row = |i: i32| (0..WIDTH as i32).map(move |j| (i + j * n) % CACHE_ROWS.own as i32);
        let sentence =
            |i: i32| [(i / 4) * LENGTH as i32, if i < n / 4 { LENGTH as i32 } else { 0 }];
        Step {
            tokens: (0..n).collect(),
            rows: (0..n).collect(),
            table: (0..n).flat_map(row).collect(),
            lengths: vec![LENGTH as i32; HYPOTHESES],
            offsets: (0..=n).map(|i| (i * 4).min(n)).collect(),
            ranges: (0..n).flat_map(sentence).collect(),
            bias: vec![0.0; config.target.vocabulary],
            caches,
        }
    }

    fn run(&mut self, session: &mut Session, program: &Program) {
        let inputs = [
            ("tokens", HostSlice::I32(&self.tokens)),
            ("positions", HostSlice::I32(&self.rows)),
            ("new_rows", HostSlice::I32(&self.rows)),
            ("row_table", HostSlice::I32(&self.table)),
            ("lengths", HostSlice::I32(&self.lengths)),
            ("cross_offsets", HostSlice::I32(&self.offsets)),
            ("cross_ranges", HostSlice::I32(&self.ranges)),
            ("bias", HostSlice::F32(&self.bias)),
        ];
        let mut states: Vec<(&str, &mut DeviceTensor)> =
            self.caches.iter_mut().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        session.run(program, &inputs, &mut states).unwrap();
    }
}

fn decode_step(criterion: &mut Criterion) {
    let model =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/tfm/models/marian-tatoeba-en-fr");
    let checkpoint = Arc::new(Checkpoint::open(model).unwrap());
    let config = checkpoint.config().clone();
    let backend = CpuBackend::new(1).unwrap();
    let mut session = Session::new(backend, Arc::new(Parameters::new(checkpoint)));
    let recorded = graph(&config);
    let options = CompileOptions::default();
    let program = session.compile(&recorded, &options).unwrap();
    let mut step = Step::new(&session, &config);
    println!("{} nodes, {} steps", recorded.len(), program.plan().steps());

    criterion.bench_function("decode_step/build", |bencher| bencher.iter(|| graph(&config)));
    criterion.bench_function("decode_step/compile", |bencher| {
        bencher.iter(|| session.compile(&recorded, &options).unwrap());
    });
    criterion.bench_function("decode_step/run", |bencher| {
        bencher.iter(|| step.run(&mut session, &program));
    });
}

criterion_group!(benches, decode_step);
criterion_main!(benches);
