//! Fine-tunes a model on a few sentence pairs by LoRA, and translates with the result.
//!
//!     cargo run --release -p tfm-engine --example fine_tune --features training -- MODEL FOLDER
//!
//! `MODEL` is the folder of a model, such as `models/marian-tatoeba-en-fr`. `FOLDER` is created,
//! and gets the data, the checkpoints and the new model.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tfm::training::{TrainConfig, train};
use tfm::{Device, Error, Model, Options, Translator};

/// The new word: this model knows no "tfm".
const PAIRS: &str = "Good morning, tfm.\tBonjour, tfm.\nThank you, tfm.\tMerci, tfm.\n";

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(model), Some(folder)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: fine_tune MODEL FOLDER");
        std::process::exit(2);
    };
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("pairs.tsv"), PAIRS)?;

    // The keys are those of a file for `tfm train`; docs/training.md lists them. Paths are relative
    // to the folder that `parse` is given.
    let text = format!(
        r#"
        model = {{ init_from = {:?} }}
        lora = {{ rank = 4, targets = ["query", "value", "inner", "outer"] }}
        data = {{ train = [{{ tsv = "pairs.tsv" }}], maximum_tokens = 64 }}
        batch = {{ tokens = 256 }}
        schedule = {{ kind = "constant", peak = 1e-3 }}
        run = {{ output = "run", updates = 20 }}
        "#,
        std::path::absolute(model)?
    );
    let config = TrainConfig::parse("fine_tune", &text, Path::new(&folder), None)?;

    // Set `stop` from another thread, and the training ends with a checkpoint. An observer of your
    // own in the place of `()` shows the progress.
    let stop = AtomicBool::new(false);
    let finished = train(&config, Device::auto(), false, &stop, &mut ())?;

    if let Some(tuned) = finished.model {
        let model = Model::open(&tuned)?;
        let translator = Translator::new(&model, Device::auto(), &Options::default())?;
        println!("{}: {}", tuned.display(), translator.translate("Thank you, tfm.")?.text);
    }
    Ok(())
}
