//! How probable a given translation is, and which source token each target token attends to.
//!
//!     cargo run --release -p tfm-engine --example scores_and_alignments

use tfm::{Device, Model, Options, Translator};

fn main() -> Result<(), tfm::Error> {
    let model = Model::bundled()?;
    let options = Options::new().alignments(true);
    let translator = Translator::new(&model, Device::auto(), &options)?;

    // The log-probability of a translation is the sum of those of its tokens.
    let source = "The cat is sleeping.";
    for target in ["Le chat dort.", "Le chien dort."] {
        let score = translator.score(source, target)?;
        println!("{target} {:.4}", score.log_probability);
        for (token, log_probability) in &score.tokens {
            println!("    {token} {log_probability:.4}");
        }
    }

    // The weights of the last decoder layer's cross-attention, averaged over its heads: one row a
    // target token, one column a source token.
    let translation = translator.translate(source)?;
    if let Some(alignment) = &translation.alignment {
        for (token, source) in translation.tokens.iter().zip(alignment.strongest()) {
            println!("{token} <- {}", alignment.source[source]);
        }
    }
    Ok(())
}
