//! What this CPU can do at most: operations of each kind a second, and bytes from memory. Prints
//! one line of JSON.
//!
//! Each figure is the best of many short repeats, for other programs and the clock's ups and downs
//! take away and never add.

mod products;

use clap::Parser;
use serde_json::{Value, json};
use tfm_benches::peaks::{best, kernels, memory};

/// Measures the peaks.
#[derive(Parser)]
struct Arguments {
    /// The most threads to measure with; one is measured always
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Repeats of each measurement, of about a millisecond
    #[arg(long, default_value_t = 400)]
    repeats: usize,
    /// Measure the linear layer of these sizes instead
    #[arg(long)]
    products: bool,
    /// Bytes of the cache that all share, for what is read from within it
    #[arg(long)]
    cache: Option<usize>,
}

fn main() {
    let arguments = Arguments::parse();
    let counts: Vec<usize> =
        if arguments.threads > 1 { vec![1, arguments.threads] } else { vec![1] };
    let measure = |name: &str, kind: &str, figures: Vec<f64>| -> Value {
        eprintln!("{name}: {figures:.1?}");
        json!({ "name": name, "kind": kind, "best": figures })
    };
    if arguments.products {
        return print_products(&counts);
    }
    let mut operations = Vec::new();
    for kernel in kernels::available() {
        let one =
            |threads| best(threads, arguments.repeats, || (), |()| (kernel.run)() as f64) / 1e9;
        operations.push(measure(
            kernel.name,
            kernel.kind,
            counts.iter().map(|&n| one(n)).collect(),
        ));
    }
    let mut bytes = Vec::new();
    let figures = counts.iter().map(|&n| memory::read(n, arguments.repeats) / 1e9).collect();
    bytes.push(measure("read beyond the caches", "read", figures));
    let figures = counts.iter().map(|&n| memory::copy(n, arguments.repeats) / 1e9).collect();
    bytes.push(measure("copy beyond the caches, read and written", "copy", figures));
    if let Some(cache) = arguments.cache {
        let within = |&n: &usize| memory::read_within(n, arguments.repeats, cache / 4) / 1e9;
        let figures = counts.iter().map(within).collect();
        bytes.push(measure("read within the shared cache", "cache", figures));
    }
    println!("{}", json!({ "threads": counts, "giga_operations": operations, "gigabytes": bytes }));
}

/// Prints the linear layer's rates as one line of JSON.
fn print_products(counts: &[usize]) {
    const SECONDS: f64 = 0.25;
    let mut all = Vec::new();
    for kind in products::KINDS {
        for weight in products::WEIGHTS {
            for rows in products::ROWS {
                let rate = |&threads: &usize| {
                    products::rate(kind, weight, rows, threads, SECONDS).unwrap_or(0.0) / 1e9
                };
                let figures: Vec<f64> = counts.iter().map(rate).collect();
                eprintln!("{kind} {}x{} at {rows} rows: {figures:.1?}", weight.0, weight.1);
                all.push(json!({
                    "kind": kind, "inputs": weight.0, "outputs": weight.1, "rows": rows, "best": figures,
                }));
            }
        }
    }
    println!("{}", json!({ "threads": counts, "products": all }));
}
