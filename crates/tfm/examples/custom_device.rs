//! Chooses where and how a model is computed.
//!
//!     cargo run --release -p tfm-engine --example custom_device -- cpu int8
//!     cargo run --release -p tfm-engine --example custom_device --features cuda -- cuda:0 f16

use std::num::NonZeroUsize;
use tfm::{Compute, ComputeType, Device, Model, Options, Translator};

fn main() -> Result<(), tfm::Error> {
    let mut arguments = std::env::args().skip(1);
    // `auto`, `cpu`, and in a build with the feature `cuda` also `cuda` and `cuda:N`.
    let device: Device = arguments.next().as_deref().unwrap_or("cpu").parse()?;
    let dtype = match arguments.next().as_deref() {
        None | Some("f32") => ComputeType::F32,
        Some("f16") => ComputeType::F16, // CUDA alone
        Some("bf16") => ComputeType::BF16,
        Some("int8") => ComputeType::Int8,
        Some(other) => {
            eprintln!("{other}: the numeric types are f32, f16, bf16 and int8");
            std::process::exit(2);
        }
    };
    // On the CPU each thread is a worker with sentences of its own. A GPU ignores the number.
    let device = device.with_threads(NonZeroUsize::MIN.saturating_add(1));
    // Keys and values of one worker: more memory means that more is decoded together.
    let compute = Compute::new().dtype(dtype).memory(256 << 20);

    let model = Model::bundled()?;
    let translator = Translator::with_compute(&model, device, &compute, &Options::default())?;
    let translation = translator.translate("The cat is sleeping.")?;
    println!("{} ({device}, {dtype}, {} threads)", translation.text, device.threads());
    Ok(())
}
