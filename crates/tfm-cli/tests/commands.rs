//! The command on good input: the bundled model, from arguments, files and pipes.

mod command;

use command::{CAT, THANKS, argument, fixture, golden, run, start, test_data};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

#[test]
fn translates_arguments_with_the_bundled_model_wherever_it_is_started() {
    let expected = format!("{}\n{}\n", golden(CAT, "beam4"), golden(THANKS, "beam4"));
    assert_eq!(run(&["translate", CAT, THANKS], b"").success(), expected);
}

#[test]
fn equals_transformers_on_the_golden_lines_with_any_number_of_threads() {
    let golden: Value =
        serde_json::from_slice(&fs::read(fixture("bundled.json")).unwrap()).unwrap();
    let input = fs::read(fixture("bundled.en")).unwrap();
    for search in ["greedy", "beam4"] {
        let lines = golden["lines"].as_array().expect("the fixture has lines").iter();
        let text = |line: &Value| format!("{}\n", line[format!("{search}_text")].as_str().unwrap());
        let expected: String = lines.map(text).collect();
        for threads in ["1", "2", "3"] {
            let beam = if search == "greedy" { "1" } else { "4" };
            let results = run(&["translate", "--beam", beam, "--threads", threads], &input);
            assert_eq!(results.success(), expected, "{search}, {threads} threads");
        }
    }
}

#[test]
fn line_in_line_out_in_order_with_any_line_ends() {
    let input = format!("\u{feff}{CAT}\r\n\r\n  \n{THANKS}");
    let expected = format!("{}\n\n\n{}\n", golden(CAT, "beam4"), golden(THANKS, "beam4"));
    assert_eq!(run(&["translate"], input.as_bytes()).success(), expected);
    assert_eq!(run(&["translate"], b"").success(), "");
}

#[test]
fn many_lines_keep_their_order_in_a_file() {
    // More lines than may be in flight at a time, and blank ones among them.
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let lines = format!("{CAT}\n\n{THANKS}\n");
    let expected = format!("{}\n\n{}\n", golden(CAT, "greedy"), golden(THANKS, "greedy"));
    fs::write(&input, lines.repeat(1500)).unwrap();
    let from_to = ["-i", argument(&input), "-o", argument(&output)];
    let results = run(&[&["translate", "--beam", "1"][..], &from_to].concat(), b"").success();
    assert_eq!(results, "");
    assert_eq!(fs::read_to_string(&output).unwrap(), expected.repeat(1500));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left behind");
}

#[test]
fn a_line_in_a_pipe_is_answered_before_the_next_is_written() {
    let mut child = start(&["translate", "--threads", "2"]);
    let mut input = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for (line, answer) in
        [(CAT, golden(CAT, "beam4")), ("", String::new()), (THANKS, golden(THANKS, "beam4"))]
    {
        writeln!(input, "{line}").unwrap();
        assert_eq!(answers.next().unwrap().unwrap(), answer);
    }
    drop(input);
    assert!(answers.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_goes_away_ends_the_work_quietly() {
    let mut child = start(&["translate", "--beam", "1"]);
    let mut input = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    writeln!(input, "{CAT}").unwrap();
    let mut answer = String::new();
    answers.read_line(&mut answer).unwrap();
    assert_eq!(answer, golden(CAT, "greedy") + "\n");
    drop(answers);
    // The command notices when it writes, and then leaves its input.
    for _ in 0..600 {
        if writeln!(input, "{CAT}").is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn n_best_scores_and_alignments_stand_in_columns() {
    let text = [CAT, ""];
    let wanted = ["--n-best", "2", "--scores", "--alignments"];
    let results = run(&[&["translate"], &text[..], &wanted].concat(), b"").success();
    let rows: Vec<Vec<&str>> = results.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 3, "two for the first line and one for the blank one: {results}");
    assert_eq!((rows[0][0], rows[0][2]), ("1", &*golden(CAT, "beam4")));
    assert_eq!((rows[1][0], rows[2][0]), ("1", "2"));
    let score = |row: usize| rows[row][1].parse::<f32>().unwrap();
    assert!(score(1) <= score(0) && score(0) < 0.0, "{results}");
    // One pair for each target word, of the alternative too.
    let pairs = rows[0][3].split(' ').map(|pair| pair.split_once('-').unwrap());
    let targets: Vec<usize> = pairs.map(|(_, target)| target.parse().unwrap()).collect();
    assert_eq!(targets, (0..rows[0][2].split(' ').count()).collect::<Vec<_>>());
    assert_eq!(rows[1][3].split(' ').count(), rows[1][2].split(' ').count());
    // Of tokens there are more, the end token among them.
    let tokens = run(&["translate", CAT, "--alignments", "--subwords"], b"").success();
    let pairs = |line: &str| line.trim_end().rsplit('\t').next().unwrap().split(' ').count();
    assert!(pairs(&tokens) > targets.len(), "{tokens}");
}

#[test]
fn alignments_are_shown_as_words_and_as_a_picture() {
    let words = run(&["translate", "--alignments", "words", CAT], b"").success();
    assert_eq!(words.trim_end().rsplit('\t').next().unwrap(), "The→Le cat→chat sleeping.→dort.");
    let picture = run(&["translate", "--alignments", "heatmap", CAT], b"").success();
    let rows: Vec<&str> = picture.lines().collect();
    assert_eq!(rows[0], golden(CAT, "beam4"));
    assert_eq!(rows[1].split_whitespace().collect::<Vec<_>>(), CAT.split(' ').collect::<Vec<_>>());
    assert!(rows[3].starts_with("chat ") && rows[3].contains("███"), "{picture}");
}

#[test]
fn json_has_everything_by_name() {
    let wanted = ["--format", "jsonl", "--n-best", "3", "--alignments"];
    let results = run(&[&["translate", CAT][..], &wanted].concat(), b"").success();
    let records = json_lines(&results);
    let record = &records[0];
    assert_eq!((records.len(), &record["text"]), (1, &Value::from(golden(CAT, "beam4"))));
    assert_eq!(record["alternatives"].as_array().unwrap().len(), 2);
    let subwords = run(&[&["translate", CAT, "--subwords"][..], &wanted].concat(), b"").success();
    for (record, least) in [(record, 0.0), (&json_lines(&subwords)[0], 1.0 - 1e-5)] {
        let others = record["alternatives"].as_array().unwrap();
        for found in std::iter::once(record).chain(others) {
            assert_eq!(found["finished"], "end");
            assert_eq!(found["tokens"].as_array().unwrap().last(), Some(&"</s>".into()));
            let alignment = &found["alignment"];
            let [sources, targets, weights, pairs] = ["source", "target", "weights", "pairs"]
                .map(|name| alignment[name].as_array().expect(name));
            assert_eq!((weights.len(), pairs.len()), (targets.len(), targets.len()));
            for row in weights {
                let row: Vec<f64> =
                    row.as_array().unwrap().iter().map(|w| w.as_f64().unwrap()).collect();
                assert_eq!(row.len(), sources.len());
                let sum = row.iter().sum::<f64>();
                assert!((least..1.0 + 1e-5).contains(&sum), "{row:?}");
            }
        }
    }
    let plain = run(&["translate", CAT, "--format", "jsonl"], b"").success();
    let record = &json_lines(&plain)[0];
    let names: Vec<String> = record.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["id", "text", "score", "tokens", "finished", "truncated"]);
    assert_eq!((&record["id"], &record["truncated"]), (&1.into(), &0.into()));
}

#[test]
fn what_is_cut_or_unfinished_is_said() {
    let cut = ["translate", "--format", "jsonl", "--max-new-tokens", "3", CAT];
    let found = run(&cut, b"");
    assert_eq!(found.status, 0);
    assert_eq!(json_lines(&found.stdout)[0]["finished"], "length");
    assert!(found.stderr.contains("argument 1: the translation is not at its end"), "{found:?}");
    let long = format!("{CAT} ").repeat(400);
    let input = format!("{CAT}\n{long}\n");
    let found = run(&["translate", "--beam", "1", "--format", "jsonl"], input.as_bytes());
    let records = json_lines(&found.stdout);
    assert_eq!(records[0]["truncated"], 0);
    assert!(records[1]["truncated"].as_u64().unwrap() > 0);
    assert!(found.stderr.contains("standard input, line 2: too long"), "{found:?}");
}

#[test]
fn a_translation_scores_what_the_search_said() {
    let found = run(&["translate", "--format", "jsonl", CAT], b"").success();
    let found = &json_lines(&found)[0];
    let pair = format!("{CAT}\t{}\n", found["text"].as_str().unwrap());
    let scored = run(&["score", "--format", "jsonl"], pair.as_bytes()).success();
    let scored = &json_lines(&scored)[0];
    let tokens: Vec<&Value> =
        scored["tokens"].as_array().unwrap().iter().map(|t| &t["token"]).collect();
    assert_eq!(tokens, found["tokens"].as_array().unwrap().iter().collect::<Vec<_>>());
    // The bundled model's length penalty is 1: its score is the mean over the tokens.
    let mean = scored["log_probability"].as_f64().unwrap() / tokens.len() as f64;
    let score = found["score"].as_f64().unwrap();
    assert!((mean - score).abs() < 1e-4, "{mean} and {score}");
}

/// The template of this model's `tokenizer.json` puts `<sos>` before every text, and the decoder
/// begins with `<sos>`.
#[test]
fn a_target_is_framed_once() {
    let Some(model) = test_data("models/annalog-smiles") else { return };
    let reference = fs::read(model.join("reference/reference.json")).unwrap();
    let reference: Value = serde_json::from_slice(&reference).unwrap();
    let aspirin = &reference["cases"][0];
    // The best of a beam search without length penalty: its score is the sum over its tokens.
    let best = &aspirin["beam"][0]["hypotheses"][0];
    let pair = [&aspirin["smiles"], &best["text"]].map(|text| text.as_str().unwrap());
    let score = ["score", "-m", argument(&model), "--format", "jsonl"];
    let scored = run(&score, format!("{}\t{}\n", pair[0], pair[1]).as_bytes()).success();
    let scored = &json_lines(&scored)[0];
    let tokens = scored["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), best["ids"].as_array().unwrap().len(), "{tokens:?}");
    let [found, expected] =
        [&scored["log_probability"], &best["score"]].map(|score| score.as_f64().unwrap());
    assert!((found - expected).abs() < 1e-3, "{found} and {expected}");
}

#[test]
fn score_reads_two_files_or_columns_alike() {
    let folder = tempfile::tempdir().unwrap();
    let (source, target) = (folder.path().join("en"), folder.path().join("fr"));
    // More pairs than are computed together, of different lengths.
    let pairs: Vec<(String, String)> = (0..70)
        .map(|n| {
            (
                format!("{}cats.", "big ".repeat(n % 7)),
                format!("Les chats{}.", " gros".repeat(n % 5)),
            )
        })
        .collect();
    let columns: String = pairs.iter().map(|(s, t)| format!("{s}\t{t}\n")).collect();
    fs::write(&source, pairs.iter().map(|(s, _)| format!("{s}\n")).collect::<String>()).unwrap();
    fs::write(&target, pairs.iter().map(|(_, t)| format!("{t}\n")).collect::<String>()).unwrap();
    let files = ["score", "--source", argument(&source), "--target", argument(&target)];
    let from_files = run(&files, b"").success();
    assert_eq!(from_files.lines().count(), 70);
    assert_eq!(from_files, run(&["score"], columns.as_bytes()).success());
    // A pair has the same score alone.
    let alone = format!("{}\t{}\n", pairs[33].0, pairs[33].1);
    let alone = run(&["score"], alone.as_bytes()).success();
    assert_eq!(from_files.lines().nth(33), alone.lines().next());
}

#[test]
fn evaluate_judges_files_and_the_model_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("en"), format!("{CAT}\n{THANKS}\n")).unwrap();
    fs::write(path("fr"), "Le chat dort.\nMerci pour votre aide.\n").unwrap();
    let (source, reference, saved) = (path("en"), path("fr"), path("out"));
    let files = ["--source", argument(&source), "--reference", argument(&reference)];
    let model =
        run(&[&["evaluate", "--save", argument(&saved)][..], &files].concat(), b"").success();
    let expected = format!("{}\n{}\n", golden(CAT, "beam4"), golden(THANKS, "beam4"));
    assert_eq!(fs::read_to_string(&saved).unwrap(), expected);
    let lines: Vec<&str> = model.lines().collect();
    assert_eq!(lines.len(), 2, "{model}");
    assert!(
        lines[0].starts_with("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:"),
        "{model}"
    );
    assert!(
        lines[1].starts_with("chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:"),
        "{model}"
    );
    let files = ["--hypothesis", argument(&saved), "--reference", argument(&reference)];
    assert_eq!(run(&[&["evaluate"][..], &files].concat(), b"").success(), model);

    let words = run(&[&["evaluate", "--metrics", "chrf++"][..], &files].concat(), b"").success();
    assert!(
        words.starts_with("chrF2++|nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:"),
        "{words}"
    );

    let others = ["evaluate", "--metrics", "ter,bleu", "--tokenize", "zh"];
    let others = run(&[&others[..], &files].concat(), b"").success();
    let expected = "TER|nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:";
    assert!(others.starts_with(expected), "{others}");
    assert!(others.contains("\nBLEU|nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp|"), "{others}");

    fs::write(&saved, "Le chat dort.\nMerci beaucoup pour votre aide.\n").unwrap();
    let json = run(&[&["evaluate", "--format", "jsonl"][..], &files].concat(), b"").success();
    assert_eq!(json_lines(&json)[0]["name"], "BLEU");
    // By hand: one word too many, so no brevity penalty, and 1- to 4-grams matched as follows.
    let bleu = 100.0 * (9.0 / 10.0 * 6.0 / 8.0 * 4.0 / 6.0 * 2.0 / 4.0_f64).powf(0.25);
    let found = json_lines(&json)[0]["score"].as_f64().unwrap();
    assert!((found - bleu).abs() < 1e-9, "{found} and {bleu}");
}

#[test]
fn evaluate_compares_systems() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (reference, good, bad) = (path("ref"), path("good"), path("bad"));
    fs::write(&reference, "one two three four five\n".repeat(20)).unwrap();
    fs::write(&good, "one two three four five\n".repeat(20)).unwrap();
    fs::write(&bad, "one two three four six\n".repeat(20)).unwrap();
    let files = ["evaluate", "--reference", argument(&reference), "--hypothesis", argument(&good)];
    let alone = ["--metrics", "bleu", "--bootstrap", "50"];
    let line = run(&[&files[..], &alone].concat(), b"").success();
    assert!(line.starts_with("BLEU|nrefs:1|bs:50|seed:12345|case:mixed|"), "{line}");
    assert!(line.contains(" = 100.00 (μ = 100.00 ± 0.00) 100.0/"), "{line}");

    let both = ["--hypothesis", argument(&bad), "--metrics", "ter", "--format", "jsonl"];
    for (test, field) in [("--paired-bs=100", "bs:100|seed"), ("--paired-ar=100", "ar:100|seed")] {
        let lines = run(&[&files[..], &both, &[test]].concat(), b"").success();
        let records = json_lines(&lines);
        assert_eq!(records.len(), 2, "{lines}");
        assert_eq!(records[0]["system"], argument(&good));
        assert!(records[0].get("p_value").is_none(), "{lines}");
        assert_eq!(records[1]["score"], 20.0);
        // Every line differs alike: exchanging them never makes the difference larger.
        assert_eq!(records[1]["p_value"], 1.0 / 101.0);
        assert!(records[1]["signature"].as_str().unwrap().contains(field), "{lines}");
    }
    run(&[&files[..], &["--paired-bs", "--paired-ar"]].concat(), b"").failure(2);
}

#[test]
fn inspect_shows_the_model_and_its_parameters() {
    let page = run(&["inspect"], b"").success();
    for fact in ["marian", "3 layers, 4 heads", "4000", "4977664 in BF16"] {
        assert!(page.contains(fact), "{fact}: {page}");
    }
    let json = &json_lines(&run(&["inspect", "--json"], b"").success())[0];
    assert_eq!((&json["model_type"], &json["d_model"]), (&"marian".into(), &256.into()));
    assert_eq!(json["encoder"]["activation"], "swish");
    assert_eq!((&json["eos_token_id"], &json["num_parameters"]), (&[0].into(), &4_981_664.into()));
    let table = run(&["inspect", "--parameters"], b"").success();
    let elements: usize = table
        .lines()
        .skip(1)
        .map(|line| line.split('\t').nth(2).unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(elements, 4_981_664);

    for (part, scope) in
        [("encoder", "encoder.layers.2"), ("decoder", "decoder.layers.2.cross_attention")]
    {
        let graph = run(&["inspect", "--graph", part, "--length", "5"], b"").success();
        assert!(graph.contains(scope) && graph.contains("[5, 256]"), "{graph}");
        let dot = run(&["inspect", "--graph", part, "--dot"], b"").success();
        assert!(dot.starts_with("digraph") && dot.trim_end().ends_with('}'), "{dot}");
    }
}

#[test]
fn tokens_and_back() {
    let tokens = run(&["tokenizer", "encode", CAT], b"").success();
    assert_eq!(tokens, "▁The ▁cat ▁is ▁sleeping . </s>\n");
    let text = "Le chat dort.";
    let ids = run(&["tokenizer", "encode", "--side", "target", "--ids", text], b"").success();
    let back = run(&["tokenizer", "decode"], ids.as_bytes()).success();
    assert_eq!(back, format!("{text}\n"));
    let json = run(&["tokenizer", "encode", "--format", "jsonl", CAT], b"").success();
    let record = &json_lines(&json)[0];
    assert_eq!(record["tokens"].as_array().unwrap().len(), record["ids"].as_array().unwrap().len());
    let (_, message) = run(&["tokenizer", "decode"], b"1 2\n1 x\n").failure(1);
    assert!(message.contains("line 2: `x` is no id"), "{message}");
    let (_, message) = run(&["tokenizer", "decode", "5 4000"], b"").failure(1);
    assert!(message.contains("there is no token 4000; the last is 3999"), "{message}");
}

#[test]
fn shells_and_manuals_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell], b"").success();
        assert!(script.contains("translate") && script.contains("n-best"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    run(&["man", argument(folder.path())], b"").success();
    let page = fs::read_to_string(folder.path().join("tfm-translate.1")).unwrap();
    assert!(page.starts_with(".ie") && page.contains("length\\-penalty"), "{page}");
}

#[test]
fn text_may_begin_with_a_dash_and_a_file_is_not_taken_for_text() {
    let spoken = run(&["translate", "- Hello.", "--beam", "1"], b"").success();
    assert_eq!(spoken.lines().count(), 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.en");
    fs::write(&path, "text").unwrap();
    let found = run(&["translate", argument(&path)], b"");
    assert_eq!(found.status, 0);
    assert!(found.stderr.contains("use --input"), "{found:?}");
}
