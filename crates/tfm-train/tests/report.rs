//! What a training tells: measurements that survive a restart, and pictures of them.

use std::fs;
use tfm_train::report::*;

fn train(step: u64, loss: f64) -> Record {
    Record::Train {
        step,
        epoch: 0,
        loss,
        learning_rate: 1e-4,
        gradient_norm: 1.5,
        tokens: step * 1000,
        tokens_per_second: 5000.0,
        seconds: step as f64 / 5.0,
    }
}

fn validation(step: u64, loss: Option<f64>, bleu: Option<f64>, chrf: Option<f64>) -> Record {
    Record::Validation { step, loss, bleu, chrf, accuracy: None, seconds: 1.0 }
}

#[test]
fn a_restart_takes_out_what_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert_eq!(Metrics::read(folder).unwrap(), []);
    let mut metrics = Metrics::open(folder, 0).unwrap();
    let records = [
        train(10, 5.0),
        validation(10, Some(4.5), Some(3.25), None),
        train(20, 4.0),
        validation(20, Some(4.0), None, Some(20.0)),
        train(30, 3.5),
    ];
    records.iter().for_each(|record| metrics.add(record).unwrap());
    assert_eq!(Metrics::read(folder).unwrap(), records);
    drop(metrics);

    // Killed in the middle of a line.
    let path = folder.join("metrics.jsonl");
    let mut text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("{\"kind\":\"train\",\"step\":10,\"epoch\":0,\"loss\":5.0,"),
        "{text}"
    );
    text += "{\"kind\":\"train\",\"st";
    fs::write(&path, text).unwrap();
    let mut metrics = Metrics::open(folder, 20).unwrap();
    metrics.add(&train(30, 3.0)).unwrap();
    let expected = [&records[..4], &[train(30, 3.0)]].concat();
    assert_eq!(Metrics::read(folder).unwrap(), expected);
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);

    // From the beginning.
    drop(Metrics::open(folder, 0).unwrap());
    assert_eq!(Metrics::read(folder).unwrap(), []);
}

#[test]
fn a_loss_that_is_no_number_can_be_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut metrics = Metrics::open(folder.path(), 0).unwrap();
    metrics.add(&train(1, f64::NAN)).unwrap();
    metrics.add(&validation(1, Some(f64::INFINITY), None, None)).unwrap();
    let read = Metrics::read(folder.path()).unwrap();
    assert!(matches!(read[0], Record::Train { loss, .. } if loss.is_nan()));
    assert!(matches!(read[1], Record::Validation { loss: Some(loss), .. } if loss.is_nan()));
}

#[test]
fn foreign_lines_are_told_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let long = format!("{}\n", "x".repeat(1 << 17));
    for (text, says) in
        [("{\"kind\":\"other\"}\n", "metrics.jsonl:1: "), (&long, "more than 65536")]
    {
        fs::write(&path, text).unwrap();
        let error = Metrics::open(folder.path(), 5).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn event_files_hold_whole_records() {
    let folder = tempfile::tempdir().unwrap();
    let mut events = EventFile::create(folder.path(), 300).unwrap();
    events.scalar(301, "loss/train", 2.5).unwrap();
    let path = fs::read_dir(folder.path().join("tensorboard")).unwrap().next().unwrap().unwrap();
    let bytes = fs::read(path.path()).unwrap();
    let (mut rest, mut count) = (&bytes[..], 0);
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        rest = &rest[8 + 4 + length + 4..];
        count += 1;
    }
    assert_eq!(count, 3);
}

fn example() -> Vec<Record> {
    let mut records = Vec::new();
    for step in 1..=60u64 {
        records.push(train(step * 100, 1.2 + 8.0 * (-(step as f64) / 12.0).exp()));
        if step % 10 == 0 {
            let (loss, bleu) =
                (1.6 + 6.0 * (-(step as f64) / 14.0).exp(), 40.0 * step as f64 / 60.0);
            records.push(validation(step * 100, Some(loss), Some(bleu), None));
        }
    }
    records
}

#[test]
fn curves_look_as_they_did() {
    let svg = curves(&example(), LossAxis::Logarithmic);
    let golden = include_str!("golden/curves.svg");
    assert!(svg == golden, "if it may look so, this is the new tests/golden/curves.svg:\n{svg}");
}

#[test]
fn curves_of_little_or_strange_data() {
    let nothing = curves(&[], LossAxis::Linear);
    assert!(nothing.contains("Nothing has been measured yet."));
    let strange = [train(1, f64::NAN), train(2, f64::INFINITY), train(3, 0.0), train(4, 2.0)];
    for axis in [LossAxis::Linear, LossAxis::Logarithmic] {
        let svg = curves(&strange, axis);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(!svg.contains("BLEU"));
    }
    let chrf = curves(&[validation(5, None, None, Some(50.0))], LossAxis::Linear);
    assert!(chrf.contains("chrF on validation data") && !chrf.contains("Loss"));
    let many: Vec<_> = (1..=100_000).map(|step| train(step, 1.0 / step as f64)).collect();
    assert!(curves(&many, LossAxis::Logarithmic).len() < 20_000);
}

#[test]
fn the_picture_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_curves(folder.path(), &example(), LossAxis::Linear).unwrap();
    assert!(fs::read_to_string(path).unwrap().ends_with("</svg>\n"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let missing = folder.path().join("missing");
    let error = write_curves(&missing, &[], LossAxis::Linear).unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("curves.svg"), "{error}");
}
