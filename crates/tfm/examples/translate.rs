//! Translates: one sentence, several together, and the lines of a file.
//!
//!     cargo run --release -p tfm-engine --example translate -- [FILE]

use std::fs::File;
use std::io::{BufRead, BufReader};
use tfm::{Device, Model, Options, Translator};

fn main() -> Result<(), tfm::Error> {
    // The bundled English-French model. `Model::open("path/to/opus-mt-en-de")` opens any other.
    let model = Model::bundled()?;
    // What is not set here is as the model's `generation_config.json` says.
    let options = Options::new().beams(4).n_best(2);
    let translator = Translator::new(&model, Device::auto(), &options)?;

    let translation = translator.translate("Where is the station?")?;
    println!("{} ({:.4})", translation.text, translation.score);
    for other in &translation.alternatives {
        println!("or: {} ({:.4})", other.text, other.score);
    }

    // Several are decoded together, which is faster. Each has the translation that it has alone.
    for translation in translator.translate_batch(&["Thank you.", "See you tomorrow."])? {
        println!("{}", translation.text);
    }

    // A file of any length is translated in bounded memory, in order.
    if let Some(path) = std::env::args_os().nth(1) {
        for translation in translator.translate_lines(BufReader::new(File::open(path)?).lines()) {
            println!("{}", translation?.text);
        }
    }
    Ok(())
}
