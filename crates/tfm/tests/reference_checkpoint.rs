//! The trained checkpoint beside what Hugging Face `transformers` answered: encoder outputs,
//! teacher-forced logits, greedy and beam-4 translations of a whole test set.

mod common;

use common::{cpu, largest_difference, open, scheduler, test_data};
use safetensors::SafeTensors;
use serde::Deserialize;
use std::sync::Arc;
use tfm_model::generation::GenerationOptions;
use tfm_model::scheduler::Limits;
use tfm_model::{Numerics, Pair, TeacherForcing};

const MODEL: &str = "models/marian-tatoeba-en-fr";

fn f32s(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap().data();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn ids(file: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    let bytes = file.tensor(name).unwrap().data();
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn encoder_outputs_and_logits_are_those_of_transformers() {
    let Some(directory) = test_data(MODEL) else { return };
    let checkpoint = open(directory.clone());
    let config = Arc::new(checkpoint.config().clone());
    let mut model = TeacherForcing::new(cpu(&checkpoint, 1), config.clone(), Numerics::default());
    let bytes = std::fs::read(directory.join("reference/teacher_forced.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let lines = file.names().iter().filter(|name| name.ends_with(".line")).count();
    assert_eq!(lines, 8);
    for line in 0..lines {
        let source = ids(&file, &format!("{line}.source_ids"));
        let target = ids(&file, &format!("{line}.decoder_ids"));
        let encoded = model.encode(&[&source]).unwrap();
        let expected = f32s(&file, &format!("{line}.encoder_output"));
        let error = largest_difference(encoded.as_f32().unwrap(), &expected);
        assert!(error < 1e-4, "encoder output of line {line}: {error:e}");
        let logits = model.logits(&[Pair { source: &source, target: &target }]).unwrap();
        let expected = f32s(&file, &format!("{line}.logits"));
        let error = largest_difference(logits.as_f32().unwrap(), &expected);
        assert!(error < 1e-4, "logits of line {line}: {error:e}");
    }
}

#[derive(Deserialize)]
struct Line {
    source: Vec<u32>,
    greedy: Vec<u32>,
    beam4: Vec<u32>,
    beam4_score: f32,
}

#[test]
fn translations_of_the_test_set_are_those_of_transformers() {
    let Some(directory) = test_data(MODEL) else { return };
    let checkpoint = open(directory.clone());
    let config = Arc::new(checkpoint.config().clone());
    let text = std::fs::read_to_string(directory.join("reference/ids.jsonl")).unwrap();
    let lines: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 951);
    let sources: Vec<Vec<u32>> = lines.iter().map(|line| line.source.clone()).collect();
    let session = cpu(&checkpoint, 1);
    let (numerics, limits) = (Numerics::default(), Limits::default());
    let scheduler = scheduler(&session, &config, numerics, (2, 1), limits);
    for beams in [1, 4] {
        let options = GenerationOptions { num_beams: beams, ..checkpoint.generation().clone() };
        let results = scheduler.generate(&Arc::new(options), &sources).unwrap();
        let mut different = 0;
        for (line, result) in lines.iter().zip(&results) {
            let expected = if beams == 1 { &line.greedy } else { &line.beam4 };
            if result[0].tokens != *expected {
                different += 1;
                println!("beams {beams}: {:?} instead of {expected:?}", result[0].tokens);
                // A difference is a tie: what we chose scores within 1e-4 of what was expected.
                let margin = (result[0].score - line.beam4_score).abs();
                assert!(
                    beams == 1 || margin < 1e-4,
                    "score {} and {}",
                    result[0].score,
                    line.beam4_score
                );
            }
        }
        println!("beams {beams}: {different} of {} lines differ", lines.len());
        assert!(different * 200 <= lines.len(), "{different} lines differ with {beams} beams");
    }
}
