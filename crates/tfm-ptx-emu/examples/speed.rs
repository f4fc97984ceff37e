//! How many instructions a second the interpreter executes: `cargo run --release -p tfm-ptx-emu --example speed`.
//!
//! Flash attention of 512 queries and keys, 2 heads of 64, causal: `tests/fixtures/attention.cu`.

use std::time::Instant;

use tfm_ptx_emu::{Device, Launch, Module};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let module = Module::parse(include_str!("../tests/fixtures/attention.ptx"))?;
    let (rows, heads, size) = (512usize, 2usize, 64usize);
    let mut fastest = f64::INFINITY;
    for _ in 0..5 {
        let mut device = Device::new();
        // f16: numbers between 1 and 2.
        let input: Vec<u8> =
            (0..rows * heads * size).flat_map(|i| [(i * 77) as u8, 0x3C]).collect();
        let inputs = [device.upload(&input), device.upload(&input), device.upload(&input)];
        let number = |n: usize| (n as i32).to_le_bytes();
        let offsets = device.upload(&[number(0), number(rows)].concat());
        let ranges = device.upload(&[number(0), number(rows)].concat());
        let outputs = [device.allocate(input.len()), device.allocate(rows * heads * 4)];
        let [query, key, value] = inputs.map(u64::to_le_bytes);
        let stride = (heads * size).to_le_bytes();
        let (offsets, ranges) = (offsets.to_le_bytes(), ranges.to_le_bytes());
        let [context, sums] = outputs.map(u64::to_le_bytes);
        let (causal, scale) = (number(1), 0.125f32.to_le_bytes());
        let arguments: [&[u8]; 12] = [
            &query, &key, &value, &stride, &stride, &stride, &offsets, &ranges, &causal, &scale,
            &context, &sums,
        ];
        let launch = Launch {
            blocks: [rows.div_ceil(64) as u32, heads as u32, 1],
            threads: [128, 1, 1],
            shared: 4 * 64 * (size + 8) * 2,
            ..Launch::default()
        };
        let start = Instant::now();
        let counters = device.launch(&module, "attention_f16_64", &launch, &arguments)?;
        let time = start.elapsed().as_secs_f64();
        if time < fastest {
            fastest = time;
            println!(
                "{:.0} ms, {} thread instructions, {:.1} million a second",
                1e3 * time,
                counters.thread_instructions,
                counters.thread_instructions as f64 / time / 1e6
            );
        }
    }
    Ok(())
}
