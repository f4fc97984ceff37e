//! Translates as `xtask/python/peers.py` has others do: the same options, the same files, the same
//! line of JSON.

use clap::{Parser, ValueEnum};
use serde_json::json;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tfm::Model;
use tfm_core::fused::Precision;
use tfm_core::{DType, Session};
use tfm_cpu::CpuBackend;
use tfm_cuda::CudaBackend;
use tfm_model::generation::GenerationOptions;
use tfm_model::scheduler::{Limits, Scheduler, Settings};
use tfm_model::{Numerics, Parameters};
use tfm_train::report::peak_memory;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The limit where neither the model nor `--length` gives one.
const MAX_NEW_TOKENS: usize = 127;
/// The number of lines translated before the clock starts, as in the peers.
const WARM_BATCH: usize = 64;
const WARM_SINGLE: usize = 5;
/// The limits that the library chooses for a GPU.
const CUDA_LIMITS: Limits =
    Limits { hypotheses: 1024, sentences: 1024, source_tokens: 16_384, memory: 8 << 30 };
/// Ticks a second in `/proc`, the same on every Linux of today.
const TICKS: f64 = 100.0;

/// What is timed.
#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// All lines together.
    Batch,
    /// Each line alone.
    Latency,
    /// Threads that share the model, each with one line after the other.
    Callers,
}

/// In what numbers the model is computed.
#[derive(Clone, Copy, ValueEnum)]
enum Numbers {
    F32,
    F16,
    Bf16,
    Int8,
}

/// Where the model is computed.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Device {
    Cpu,
    /// The first CUDA device, which the workers share; f32 between the layers of an int8 model.
    Cuda,
}

impl Numbers {
    fn on(self, device: Device) -> Outcome<Numerics> {
        let dtype = match (device, self) {
            (Device::Cuda, Numbers::F16) => DType::F16,
            (Device::Cuda, Numbers::Bf16) => DType::BF16,
            (Device::Cpu, Numbers::F16) => return Err("the cpu does not compute in f16".into()),
            _ => DType::F32,
        };
        let precision = match (device, self) {
            (_, Numbers::Int8) => Precision::Int8,
            (Device::Cpu, Numbers::Bf16) => Precision::BFloat16,
            _ => Precision::Full,
        };
        let key_dtype = match device {
            Device::Cpu => tfm_cpu::key_dtype(precision),
            Device::Cuda => dtype,
        };
        Ok(Numerics { dtype, precision, key_dtype })
    }
}

/// Translates a file of sources and prints how fast that went.
#[derive(Parser)]
struct Arguments {
    /// The checkpoint
    #[arg(long)]
    model: PathBuf,
    /// A source a line: its token ids, the end token the last
    #[arg(long)]
    input: PathBuf,
    /// A target a line
    #[arg(long)]
    output: PathBuf,
    /// Lines are text, not token ids
    #[arg(long)]
    text: bool,
    #[arg(long, value_enum, default_value_t = Mode::Batch)]
    mode: Mode,
    #[arg(long, value_enum, default_value_t = Numbers::F32)]
    dtype: Numbers,
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    #[arg(long, default_value_t = 4)]
    beam: usize,
    /// Tokens of every output; the end token is banned before
    #[arg(long)]
    length: Option<usize>,
    /// Translate the first so many lines alone
    #[arg(long)]
    limit: Option<usize>,
    /// Workers that share the model, each with sentences of its own
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Threads of a worker
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Threads of `--mode callers`
    #[arg(long, default_value_t = 32)]
    callers: usize,
    /// Hypotheses that a worker decodes together; the library's own choice where it is not said
    #[arg(long)]
    batch: Option<usize>,
}

/// A loaded model, and how it is to translate.
struct Program {
    model: Model,
    scheduler: Scheduler,
    options: Arc<GenerationOptions>,
    text: bool,
}

impl Program {
    fn load(arguments: &Arguments) -> Outcome<Program> {
        let numerics = arguments.dtype.on(arguments.device)?;
        let model = Model::open(&arguments.model)?;
        let config = Arc::new(model.config().clone());
        let mut options = model.generation().clone();
        options.num_beams = arguments.beam;
        options.scores = false; // nor do the peers return any
        // The peers ignore the token that a model's makers force at the limit.
        options.forced_eos_token_id.clear();
        options.max_new_tokens = Some(arguments.length.unwrap_or(MAX_NEW_TOKENS));
        options.min_new_tokens = Some(arguments.length.unwrap_or(0));
        let mut limits = match arguments.device {
            Device::Cpu => Limits::default(),
            Device::Cuda => CUDA_LIMITS,
        };
        if let Some(hypotheses) = arguments.batch {
            limits.hypotheses = hypotheses;
            limits.sentences = hypotheses;
        }
        let parameters = Parameters::of_type(model.checkpoint().clone(), numerics.dtype);
        let parameters = Arc::new(parameters);
        let threads = arguments.workers * arguments.threads;
        let session = match arguments.device {
            Device::Cpu => Session::new(CpuBackend::new(threads)?, parameters),
            Device::Cuda => Session::new(CudaBackend::new(0)?, parameters),
        };
        let (workers, threads) = (arguments.workers, arguments.threads);
        let settings = Settings { workers, threads, limits, ..Settings::default() };
        let scheduler = Scheduler::new(&session, &config, numerics, &settings)?;
        Ok(Program { model, scheduler, options: Arc::new(options), text: arguments.text })
    }

    /// Returns the best output of each line, and the number of tokens in all of them, without the
    /// end tokens.
    fn translate(&self, lines: &[&str]) -> Outcome<(Vec<String>, usize)> {
        let sources =
            lines.iter().map(|line| self.source(line)).collect::<Outcome<Vec<Vec<u32>>>>()?;
        let found = self.scheduler.generate(&self.options, &sources)?;
        let mut count = 0;
        let mut outputs = Vec::with_capacity(lines.len());
        for hypotheses in &found {
            let mut tokens = hypotheses.first().map_or(&[][..], |best| &best.tokens);
            if let [before @ .., last] = tokens
                && self.options.eos_token_id.contains(last)
            {
                tokens = before;
            }
            count += tokens.len();
            outputs.push(self.target(tokens)?);
        }
        Ok((outputs, count))
    }

    /// As [`Program::translate`], by threads that take one line after the other.
    fn translate_by_threads(
        &self,
        lines: &[&str],
        callers: usize,
    ) -> Outcome<(Vec<String>, usize)> {
        let next = AtomicUsize::new(0);
        let caller = || {
            let mut found = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(&line) = lines.get(number) else { return Ok(found) };
                let (mut output, count) =
                    self.translate(&[line]).map_err(|error| error.to_string())?;
                found.push((number, output.remove(0), count));
            }
        };
        let mut all = Vec::new();
        std::thread::scope(|scope| -> Outcome<()> {
            let threads: Vec<_> = (0..callers.max(1)).map(|_| scope.spawn(caller)).collect();
            for thread in threads {
                let found: Result<_, String> = thread.join().map_err(|_| "a thread panicked")?;
                all.extend(found?);
            }
            Ok(())
        })?;
        all.sort_by_key(|&(number, ..)| number);
        let count = all.iter().map(|&(.., count)| count).sum();
        Ok((all.into_iter().map(|(_, output, _)| output).collect(), count))
    }

    fn source(&self, line: &str) -> Outcome<Vec<u32>> {
        if self.text {
            return Ok(self.model.tokenizer().encode_source(line)?);
        }
        Ok(line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    }

    fn target(&self, tokens: &[u32]) -> Outcome<String> {
        if self.text {
            return Ok(self.model.tokenizer().decode_target(tokens)?);
        }
        Ok(tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))
    }
}

/// Seconds that all threads of this process have run; `None` if the system does not tell.
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name may contain anything, so count from its end: user and system time are the
    // 12th and the 13th word behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

fn main() -> Outcome {
    let start = Instant::now();
    let arguments = Arguments::parse();
    let input = std::fs::read_to_string(&arguments.input)?;
    let mut lines: Vec<&str> = input.lines().collect();
    lines.truncate(arguments.limit.unwrap_or(lines.len()));
    let program = Program::load(&arguments)?;
    let load_seconds = start.elapsed().as_secs_f64();

    let mut latencies = Vec::new();
    let (outputs, tokens, seconds, processor);
    match arguments.mode {
        Mode::Batch | Mode::Callers => {
            program.translate(&lines[..lines.len().min(WARM_BATCH)])?;
            let (clock, used) = (Instant::now(), processor_seconds());
            (outputs, tokens) = match arguments.mode {
                Mode::Callers => program.translate_by_threads(&lines, arguments.callers)?,
                _ => program.translate(&lines)?,
            };
            seconds = clock.elapsed().as_secs_f64();
            processor = used.zip(processor_seconds());
        }
        Mode::Latency => {
            for line in &lines[..lines.len().min(WARM_SINGLE)] {
                program.translate(&[line])?;
            }
            let (mut all, mut count, used) = (Vec::new(), 0, processor_seconds());
            for line in &lines {
                let clock = Instant::now();
                let (mut output, generated) = program.translate(&[line])?;
                latencies.push(1e3 * clock.elapsed().as_secs_f64());
                all.append(&mut output);
                count += generated;
            }
            (outputs, tokens) = (all, count);
            seconds = latencies.iter().sum::<f64>() / 1e3;
            processor = used.zip(processor_seconds());
        }
    }
    std::fs::write(
        &arguments.output,
        outputs.iter().map(|line| format!("{line}\n")).collect::<String>(),
    )?;
    let report = json!({
        "seconds": seconds,
        "processor_seconds": processor.map(|(before, after)| after - before),
        "load_seconds": load_seconds,
        "sentences": lines.len(),
        "tokens": tokens,
        "latencies_ms": latencies,
        "peak_bytes": peak_memory(),
        "versions": { "tfm": env!("CARGO_PKG_VERSION") },
    });
    println!("{report}");
    Ok(())
}
