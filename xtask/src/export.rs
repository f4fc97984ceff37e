//! Compares an exported model with the reference implementation of its family. This writes our
//! answers to a file, and a script compares.

use crate::project::{self, Outcome, root};
use crate::python;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use tfm::Model;
use tfm_core::{ParameterSource, Session};
use tfm_cpu::CpuBackend;
use tfm_model::scheduler::{Scheduler, Settings};
use tfm_model::{Numerics, Pair, Parameters, TeacherForcing};

const SCRIPT: &str = "xtask/python/compare_export.py";
const ANSWERS: &str = "target/export.safetensors";
/// The number of tokens that the script generates at most.
const MOST_TOKENS: usize = 64;

/// The sentences to translate if none are given.
const SENTENCES: [&str; 6] = [
    "The cat sleeps.",
    "Where is the station?",
    "I have never seen such a beautiful garden in my life.",
    "She said that she would come tomorrow, but I doubt it.",
    "Hello!",
    "What do you want to do after you have finished your work?",
];

/// What the command line takes.
#[derive(clap::Args)]
pub(crate) struct Export {
    /// The model's folder
    model: PathBuf,
    /// Sentences to answer; without them, a list of our own
    sentences: Vec<String>,
    /// A Python that has xtask/python/requirements.txt; without it, one is made in .venv
    #[arg(long)]
    python: Option<PathBuf>,
}

/// Writes our answers and runs the script on them.
pub(crate) fn run(arguments: &Export) -> Outcome {
    let own = SENTENCES.map(String::from);
    let sentences = if arguments.sentences.is_empty() { &own[..] } else { &arguments.sentences };
    let answers = root().join(ANSWERS);
    write(arguments, sentences, &answers).map_err(|error| error.to_string())?;
    let python = arguments.python.clone().map_or_else(python::environment, Ok)?;
    let model = arguments.model.canonicalize();
    let model = model.map_err(|error| format!("{}: {error}", arguments.model.display()))?;
    let mut script = Command::new(python);
    script.current_dir(root()).arg(SCRIPT).arg(model).arg("--answers").arg(answers);
    project::run(&mut script)
}

fn write(
    arguments: &Export,
    sentences: &[String],
    answers: &std::path::Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let model = Model::open(&arguments.model)?;
    let config = Arc::new(model.config().clone());
    let source: Arc<dyn ParameterSource> = Arc::new(Parameters::new(model.checkpoint().clone()));
    let session = Session::new(CpuBackend::new(1)?, source);
    let mut options = model.generation().clone();
    options.num_beams = 1;
    options.max_new_tokens = Some(MOST_TOKENS);
    options.min_new_tokens = Some(0);
    let sources: Vec<Vec<u32>> = sentences
        .iter()
        .map(|text| model.tokenizer().encode_source(text))
        .collect::<Result<_, _>>()?;
    let scheduler = Scheduler::new(&session, &config, Numerics::default(), &Settings::default())?;
    let found = scheduler.generate(&Arc::new(options), &sources)?;
    let mut teacher_forcing = TeacherForcing::new(session, config.clone(), Numerics::default());

    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut texts = HashMap::new();
    let bytes = |ids: &[u32]| ids.iter().flat_map(|&id| (id as i32).to_le_bytes()).collect();
    for (number, (source, found)) in sources.iter().zip(&found).enumerate() {
        let greedy = found.first().map_or(&[][..], |hypothesis| &hypothesis.tokens);
        let before = greedy.iter().take(greedy.len().saturating_sub(1)).copied();
        let target: Vec<u32> = [config.special.decoder_start].into_iter().chain(before).collect();
        let logits = teacher_forcing.logits(&[Pair { source, target: &target }])?;
        for (name, ids) in [("source", &source[..]), ("target", &target), ("greedy", greedy)] {
            tensors.push((format!("{name}.{number}"), Dtype::I32, vec![ids.len()], bytes(ids)));
        }
        let values = logits.as_f32().unwrap_or_default();
        let values = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensors.push((format!("logits.{number}"), Dtype::F32, logits.shape().to_vec(), values));
        texts.insert(format!("text.{number}"), sentences[number].clone());
    }
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?))
    });
    let views: Vec<_> = views.collect::<Result<_, safetensors::SafeTensorError>>()?;
    safetensors::serialize_to_file(views, Some(texts), answers)?;
    Ok(())
}
