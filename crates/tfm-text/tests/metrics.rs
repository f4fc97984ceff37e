//! BLEU and chrF equal to sacreBLEU's, digit for digit as it prints them.

mod support;

use serde_json::Value;
use support::{json, shared, strings};
use tfm_text::significance::{
    Metric, SEED, approximate_randomization, bootstrap, paired_bootstrap,
};
use tfm_text::{Bleu, BleuTokenizer, Chrf, Error, Smoothing, Ter};

/// Far below the last digit that is printed, far above the rounding of sums.
const TOLERANCE: f64 = 1e-9;

fn bleu(options: &Value) -> Bleu {
    let value = options["smooth_value"].as_f64();
    Bleu {
        tokenizer: BleuTokenizer::from_name(options["tokenize"].as_str().unwrap()).unwrap(),
        smoothing: match options["smooth_method"].as_str().unwrap() {
            "exp" => Smoothing::Exp,
            "floor" => Smoothing::Floor(value.unwrap()),
            "add-k" => Smoothing::AddK(value.unwrap()),
            _ => Smoothing::None,
        },
        lowercase: options["lowercase"].as_bool().unwrap(),
        effective_order: options["effective_order"].as_bool().unwrap(),
    }
}

fn chrf(options: &Value) -> Chrf {
    Chrf {
        char_order: options["char_order"].as_u64().unwrap() as usize,
        word_order: options["word_order"].as_u64().unwrap() as usize,
        lowercase: options["lowercase"].as_bool().unwrap(),
    }
}

fn ter(options: &Value) -> Ter {
    let option = |name: &str| options[name].as_bool().unwrap();
    Ter {
        normalized: option("normalized"),
        no_punct: option("no_punct"),
        asian_support: option("asian_support"),
        case_sensitive: option("case_sensitive"),
    }
}

/// sacreBLEU's signature, but with our name where its version is.
fn signature(expected: &Value) -> String {
    let (fields, _) = expected["signature"].as_str().unwrap().split_once("version:").unwrap();
    format!("{fields}version:tfm-{}", env!("CARGO_PKG_VERSION"))
}

/// Scores every sentence and compares.
fn check_sentences(expected: &Value, place: &str, score: impl Fn(usize) -> f64) {
    for (line, expected) in expected["sentences"].as_array().unwrap().iter().enumerate() {
        let (score, expected) = (score(line), expected.as_f64().unwrap());
        assert!(
            (score - expected).abs() < TOLERANCE,
            "{place}: sentence {line}: {score}, not {expected}"
        );
    }
}

#[test]
fn equal_to_sacrebleu() {
    let fixture = json("metrics.json");
    let corpora = fixture["corpora"].as_object().unwrap();
    assert_eq!(corpora.len(), 11);
    for (name, corpus) in corpora {
        let hypotheses = strings(&corpus["hypotheses"]);
        let references: Vec<Vec<String>> =
            corpus["references"].as_array().unwrap().iter().map(strings).collect();
        let line_references =
            |line: usize| -> Vec<&String> { references.iter().map(|r| &r[line]).collect() };

        for expected in corpus["bleu"].as_array().unwrap() {
            let place = format!("{name}: {}", expected["options"]);
            let metric = bleu(&expected["options"]);
            let score = metric.corpus(&hypotheses, &references).unwrap();
            assert!(
                (score.score - expected["score"].as_f64().unwrap()).abs() < TOLERANCE,
                "{place}: {score}"
            );
            assert_eq!(score.to_string(), expected["line"].as_str().unwrap(), "{place}");
            assert_eq!(metric.signature(references.len()), signature(expected), "{place}");
            check_sentences(expected, &place, |line| {
                metric.sentence(&hypotheses[line], &line_references(line)).unwrap().score
            });
        }
        for expected in corpus["chrf"].as_array().unwrap() {
            let place = format!("{name}: {}", expected["options"]);
            let metric = chrf(&expected["options"]);
            let score = metric.corpus(&hypotheses, &references).unwrap();
            assert!(
                (score.score - expected["score"].as_f64().unwrap()).abs() < TOLERANCE,
                "{place}: {score}"
            );
            assert_eq!(score.to_string(), expected["line"].as_str().unwrap(), "{place}");
            assert_eq!(metric.signature(references.len()), signature(expected), "{place}");
            check_sentences(expected, &place, |line| {
                metric.sentence(&hypotheses[line], &line_references(line)).unwrap().score
            });
        }
        for expected in corpus["ter"].as_array().unwrap() {
            let place = format!("{name}: {}", expected["options"]);
            let metric = ter(&expected["options"]);
            let score = metric.corpus(&hypotheses, &references).unwrap();
            assert!(
                (score.score - expected["score"].as_f64().unwrap()).abs() < TOLERANCE,
                "{place}: {score}"
            );
            assert_eq!(score.to_string(), expected["line"].as_str().unwrap(), "{place}");
            assert_eq!(metric.signature(references.len()), signature(expected), "{place}");
            check_sentences(expected, &place, |line| {
                metric.sentence(&hypotheses[line], &line_references(line)).unwrap().score
            });
        }
    }
}

#[test]
fn chrf_plus_plus_counts_word_pairs() {
    let metric = Chrf::plus_plus();
    let score = metric.sentence("a b c", &["a b c"]).unwrap();
    assert_eq!(score.to_string(), "chrF2++ = 100.00");
    let expected = "nrefs:3|case:mixed|eff:yes|nc:6|nw:2|space:no|version:tfm-";
    assert!(metric.signature(3).starts_with(expected));
    // The characters are the same in this order; only the words differ.
    assert!(metric.sentence("ab c", &["a b c"]).unwrap().score < 100.0);
    assert_eq!(Chrf::default().sentence("ab c", &["a b c"]).unwrap().score, 100.0);
}

#[test]
fn ter_counts_a_shift_as_one_edit() {
    let metric = Ter::default();
    let score = metric.sentence("c d a b", &["A b C d", "x"]).unwrap();
    assert_eq!((score.edits, score.reference_len), (1, 2.5));
    assert_eq!(score.to_string(), "TER = 40.00");
    // Without a word in the references, anything is wholly wrong and nothing is right.
    assert_eq!(metric.sentence("a b c", &[""]).unwrap().score, 100.0);
    assert_eq!(metric.sentence("", &["", ""]).unwrap().score, 0.0);
}

#[test]
fn reference_translations_score_as_recorded() {
    let Some(folder) = shared("models/marian-tatoeba-en-fr/reference") else { return };
    let lines = |name: &str| -> Vec<String> {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        text.trim_end_matches('\n').split('\n').map(str::to_owned).collect()
    };
    let scores = lines("scores.txt");
    let references = [lines("target.fr")];
    for name in ["greedy", "beam4"] {
        let hypotheses = lines(&format!("{name}.fr"));
        let found = format!(
            "{name} {} {}",
            Bleu::default().corpus(&hypotheses, &references).unwrap(),
            Chrf::default().corpus(&hypotheses, &references).unwrap()
        );
        assert!(scores.contains(&found), "{found} is not in scores.txt");
    }
}

#[test]
fn what_cannot_be_scored_is_an_error() {
    let metric = Bleu::default();
    let none: [Vec<&str>; 0] = [];
    assert!(matches!(metric.corpus(&["a"], &none), Err(Error::NothingToScore)));
    assert!(matches!(metric.corpus::<&str, &str>(&[], &[vec![]]), Err(Error::NothingToScore)));
    assert!(matches!(metric.sentence::<&str>("a", &[]), Err(Error::NothingToScore)));
    let error = Chrf::plus_plus().corpus(&["a", "b"], &[vec!["a", "b"], vec!["a"]]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "2 hypotheses against 1 lines in reference 2: every reference must have one line for each hypothesis"
    );
}

#[test]
fn of_equally_close_references_the_shorter_counts() {
    let score = Bleu::default().sentence("a b c", &["a b c d", "a b"]).unwrap();
    assert_eq!((score.hypothesis_len, score.reference_len), (3, 2));
}

/// sacreBLEU's bootstrap adds in f32: its means are as exact as that.
#[test]
fn chance_is_judged_as_by_sacrebleu() {
    let fixture = json("metrics.json");
    let fixture = &fixture["significance"];
    let lists = |value: &Value| -> Vec<Vec<String>> {
        value.as_array().unwrap().iter().map(strings).collect()
    };
    let (systems, references) = (lists(&fixture["systems"]), lists(&fixture["references"]));
    let metrics: [(&str, &dyn Metric); 3] =
        [("bleu", &Bleu::default()), ("chrf", &Chrf::default()), ("ter", &Ter::default())];
    let near = |found: f64, expected: &Value, tolerance: f64, place: &str| {
        let expected = expected.as_f64().unwrap();
        assert!((found - expected).abs() <= tolerance, "{place}: {found}, not {expected}");
    };
    for (name, metric) in metrics {
        let lines: Vec<Vec<Vec<f64>>> = systems
            .iter()
            .map(|system| {
                let line = |(line, text): (usize, &String)| {
                    metric.counts(text, &[references[0][line].as_str(), &references[1][line]])
                };
                system.iter().enumerate().map(line).collect()
            })
            .collect();
        for (number, system) in lines.iter().enumerate() {
            let place = format!("{name}, system {number}");
            let bs = &fixture["bs"];
            let samples = bs["samples"].as_u64().unwrap() as usize;
            let expected = &bs[name][number];
            let interval = bootstrap(metric, system, samples, SEED).unwrap();
            near(interval.mean, &expected[2], 1e-4, &place);
            near(interval.half_width, &expected[3], 1e-4, &place);
            if number == 0 {
                continue;
            }
            let found = paired_bootstrap(metric, &lines[0], system, samples, SEED);
            near(found.p_value, &expected[1], 1e-12, &place);
            assert_eq!(found.interval, Some(interval), "{place}");
            let ar = &fixture["ar"];
            let trials = ar["samples"].as_u64().unwrap() as usize;
            let found = approximate_randomization(metric, &lines[0], system, trials, SEED);
            near(found.p_value, &ar[name][number][1], 1e-12, &place);
        }
    }
}
