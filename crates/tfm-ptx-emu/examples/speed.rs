//! Measures how many instructions a second the interpreter executes:
//! `cargo run --release -p tfm-ptx-emu --example speed`.
//!
//! The kernel is tfm-cuda's flash attention, causal, of 512 queries and keys with 2 heads of 64.

use std::time::Instant;

use tfm_ptx_emu::{Device, Launch, Module};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ptx = include_str!("../../tfm-cuda/kernels/attention_forward.ptx");
    let module = Module::parse(ptx)?;
    let (rows, heads, size) = (512usize, 2usize, 64usize);
    let mut fastest = f64::INFINITY;
    for _ in 0..5 {
        let mut device = Device::new();
        // Numbers of f16 between 1 and 2.
        let input: Vec<u8> =
            (0..rows * heads * size).flat_map(|i| [(i * 77) as u8, 0x3C]).collect();
        let inputs = [device.upload(&input), device.upload(&input), device.upload(&input)];
        let number = |n: usize| (n as i32).to_le_bytes();
        let offsets = device.upload(&[number(0), number(rows)].concat());
        let ranges = device.upload(&[number(0), number(rows)].concat());
        let outputs = [device.allocate(input.len()), device.allocate(rows * heads * 4)];
        let long = |n: usize| (n as u64).to_le_bytes().to_vec();
        let short = |n: usize| number(n).to_vec();
        let mut arguments: Vec<Vec<u8>> = Vec::new();
        for operand in inputs {
            // The distances of rows and of heads.
            let strides = [long(heads * size), long(size)];
            arguments.push(operand.to_le_bytes().to_vec());
            arguments.extend(strides);
        }
        arguments.extend([offsets, ranges].map(|x| x.to_le_bytes().to_vec()));
        // Sequences, queries, rows of keys, size, causal.
        arguments.extend([1, rows, rows, size, 1].map(short));
        arguments.push(0.125f32.to_le_bytes().to_vec());
        // No dropout, so key, stream and threshold are 0 and the factor is 1.
        arguments.extend([long(0), short(0), short(0), 1f32.to_le_bytes().to_vec()]);
        arguments.extend(outputs.map(|x| x.to_le_bytes().to_vec()));
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        let launch = Launch {
            blocks: [(rows / 64 + 1) as u32, heads as u32, 1],
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
