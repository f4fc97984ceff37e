//! Shows a translation while it is made: what later steps cannot change is printed at once, also
//! under beam search.
//!
//!     cargo run --release -p tfm-engine --example stream

use std::io::{Write, stdout};
use tfm::{Device, Model, Options, Translator};

fn main() -> Result<(), tfm::Error> {
    let model = Model::bundled()?;
    let options = Options::new().beams(4);
    let translator = Translator::new(&model, Device::auto(), &options)?;

    let mut stream = translator.stream("She has been living in Paris for ten years.")?;
    for piece in stream.by_ref() {
        print!("{}", piece.text);
        stdout().flush()?;
    }
    // The whole translation, with its score. The pieces' texts together are its text.
    let translation = stream.finish()?;
    println!("\n{} tokens, score {:.4}", translation.tokens.len(), translation.score);

    // A stream that is dropped, or cancelled, frees its memory at the next step.
    let stream = translator.stream("I don't know what to say.")?;
    stream.cancel();
    match stream.finish() {
        Ok(translation) => println!("done before it was cancelled: {}", translation.text),
        Err(error) => println!("cancelled: {error}"),
    }
    Ok(())
}
