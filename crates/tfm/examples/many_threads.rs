//! Many threads share one translator, as the threads of a server do. What they ask for at the same
//! time is decoded together, each request with options of its own.
//!
//!     cargo run --release -p tfm-engine --example many_threads

use std::thread;
use tfm::{Device, Model, Options, Translator};

const SENTENCES: [&str; 4] =
    ["Where is the station?", "Thank you.", "See you tomorrow.", "The cat is sleeping."];

fn main() -> Result<(), tfm::Error> {
    let model = Model::bundled()?;
    let careful = Options::new().beams(4);
    let careful = Translator::new(&model, Device::auto(), &careful)?;
    // The same model, the same workers, the same batches: only the options differ.
    let fast = Options::new().beams(1).scores(false);
    let fast = careful.with_options(&fast)?;

    let results = thread::scope(|scope| {
        let threads: Vec<_> = SENTENCES
            .iter()
            .enumerate()
            .map(|(number, sentence)| {
                // A clone is cheap: it shares everything.
                let translator = if number % 2 == 0 { careful.clone() } else { fast.clone() };
                scope.spawn(move || translator.translate(sentence))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    for (sentence, result) in SENTENCES.iter().zip(results) {
        match result {
            Ok(translation) => println!("{sentence} -> {}", translation?.text),
            Err(_) => eprintln!("{sentence}: its thread panicked"),
        }
    }

    // What a server would show among its own numbers.
    println!("{:?}", careful.stats());
    Ok(())
}
