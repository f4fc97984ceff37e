//! How the command reads and writes files: the same text by whatever name, packing and line ends is
//! the same text, and no output is ever an input, half-written, or another run's.

mod command;

use command::{CAT, THANKS, argument, bundled, golden, run};
use flate2::{Compression, write::GzEncoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// The same lines in every way that text comes in.
fn packings(lines: &str) -> Vec<Vec<u8>> {
    let crlf = lines.replace('\n', "\r\n");
    let open = lines.strip_suffix('\n').unwrap_or(lines);
    let texts = [lines, &crlf, open, &format!("\u{feff}{lines}"), &format!("\u{feff}{crlf}")];
    let texts = texts.map(str::as_bytes);
    let packed = [texts[0], texts[4]].map(|text| [gzip(text), zstd(text)]);
    texts.map(<[u8]>::to_vec).into_iter().chain(packed.into_iter().flatten()).collect()
}

#[test]
fn every_command_reads_every_packing_by_the_same_rules() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (english, french) = (format!("{CAT}\n\n{THANKS}\n"), "Le chat dort.\n\nMerci.\n");
    let rows = format!("{CAT}\tLe chat dort.\tA third column\n{THANKS}\tMerci.\n");
    fs::write(path("plain.fr"), french).unwrap();
    // Nothing in a name says what is in a file.
    let (text, table, plain) = (path("text.gz"), path("table.txt"), path("plain.fr"));
    let [text, table, plain] = [&text, &table, &plain].map(|path| argument(path));
    let learnt = path("learnt");
    let commands: [&[&str]; 6] = [
        &["translate", "--beam", "1", "-i", text],
        &["score", "--source", text, "--target", plain],
        &["score", "--tsv", table],
        &["evaluate", "--hypothesis", text, "--reference", plain],
        &["evaluate", "--hypothesis", plain, "--reference", text],
        &["shortlist", "--quiet", "--tsv", table, "-o", argument(&learnt)],
    ];
    let mut expected: Option<Vec<String>> = None;
    for (lines, pairs) in packings(&english).iter().zip(packings(&rows)) {
        fs::write(text, lines).unwrap();
        fs::write(table, &pairs).unwrap();
        let mut results: Vec<String> =
            commands.iter().map(|command| run(command, b"").success()).collect();
        results.push(run(&["translate", "--beam", "1"], lines).success());
        results.push(run(&["score"], &pairs).success());
        results.push(format!("{:?}", fs::read(&learnt).unwrap()));
        let expected = expected.get_or_insert(results.clone());
        assert_eq!(&results, expected);
        assert_eq!((&results[0], &results[2]), (&results[6], &results[7]));
    }
}

#[test]
fn a_suffix_says_how_results_are_packed() {
    let folder = tempfile::tempdir().unwrap();
    let expected = format!("{}\n", golden(CAT, "beam4"));
    for (name, magic) in [("out.gz", &[0x1f, 0x8b][..]), ("out.ZST", &[0x28, 0xb5, 0x2f, 0xfd])] {
        let path = folder.path().join(name);
        assert_eq!(run(&["translate", CAT, "-o", argument(&path)], b"").success(), "");
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.starts_with(magic), "{name}");
        // `evaluate` unpacks what `translate` packed.
        let reference = folder.path().join("reference");
        fs::write(&reference, &expected).unwrap();
        let files = ["--hypothesis", argument(&path), "--reference", argument(&reference)];
        let score = run(&[&["evaluate", "--metrics", "chrf"][..], &files].concat(), b"").success();
        assert!(score.contains(" = 100.00"), "{score}");
    }
}

/// Three names of one file.
fn names(folder: &Path, name: &str) -> [PathBuf; 3] {
    let path = folder.join(name);
    let [link, hard] = ["link", "hard"].map(|kind| folder.join(format!("{name}.{kind}")));
    for name in [&link, &hard] {
        let _ = fs::remove_file(name);
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(name, &link).unwrap();
    #[cfg(not(unix))]
    fs::hard_link(&path, &link).unwrap();
    fs::hard_link(&path, &hard).unwrap();
    [path, link, hard]
}

#[test]
fn an_output_that_is_an_input_under_any_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("en"), format!("{CAT}\n")).unwrap();
    fs::write(path("fr"), "Le chat dort.\n").unwrap();
    fs::write(path("tsv"), format!("{CAT}\tLe chat dort.\n")).unwrap();
    let [en, fr, tsv] = ["en", "fr", "tsv"].map(|name| argument(&path(name)).to_owned());
    let pair = ["--source", &en, "--reference", &fr];
    for (command, input) in [
        (&["translate", "-i", &en, "-o"][..], "en"),
        (&["translate", "-i", &fr, "-i", &en, "-o"], "en"),
        (&["score", "--source", &en, "--target", &fr, "-o"], "fr"),
        (&["score", "--tsv", &tsv, "-o"], "tsv"),
        (&[&["evaluate"], &pair[..], &["--save"]].concat(), "fr"),
        (&[&["evaluate"], &pair[..], &["--save"]].concat(), "en"),
        (&["shortlist", "--tsv", &tsv, "-o"], "tsv"),
        (&["shortlist", "--source", &en, "--target", &fr, "-o"], "fr"),
        (&["tokenizer", "encode", "-i", &en, "-o"], "en"),
        (&["tokenizer", "decode", "-i", &en, "-o"], "en"),
    ] {
        let before = fs::read(path(input)).unwrap();
        for name in names(folder.path(), input) {
            let all = [command, &[argument(&name)]].concat();
            let (results, message) = run(&all, b"").failure(2);
            assert_eq!(results, "", "{all:?}");
            assert!(message.contains("is also an input"), "{all:?}: {message}");
            assert_eq!(fs::read(path(input)).unwrap(), before, "{all:?}");
        }
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.iter().all(|path| !path.to_string_lossy().contains("partial")), "{left:?}");
}

/// A copy of the bundled model.
fn model(folder: &Path) -> PathBuf {
    let model = folder.join("model");
    fs::create_dir(&model).unwrap();
    for file in fs::read_dir(bundled()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), model.join(file.file_name())).unwrap();
    }
    model
}

#[test]
fn a_model_is_never_written_over_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (model, link) = (model(folder.path()), folder.path().join("link"));
    #[cfg(unix)]
    std::os::unix::fs::symlink(&model, &link).unwrap();
    let weights = model.join("model.safetensors");
    let before = fs::read(&weights).unwrap();
    let from = argument(&model);
    let dotted = model.join("../model/.");
    for to in [&model, &link, &dotted].map(|path| argument(path)) {
        for command in [
            &["convert", from, "-o", to, "--dtype", "int8"][..],
            &["average", argument(&bundled()), from, "-o", to],
        ] {
            let (_, message) = run(command, b"").failure(2);
            assert!(message.contains("is also an input"), "{command:?}: {message}");
        }
    }
    for output in [&weights, &model.join("vocab.json")] {
        let command = ["translate", "-m", from, CAT, "-o", argument(output)];
        let (_, message) = run(&command, b"").failure(2);
        assert!(message.contains("is also an input"), "{message}");
    }
    assert!(fs::read(&weights).unwrap() == before);
}

#[test]
fn an_aside_file_is_nobody_elses() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let expected = golden(CAT, "beam4") + "\n";
    // It may be this run's input, or kept from another run.
    fs::write(path("x.partial"), format!("{CAT}\n")).unwrap();
    let (input, output) = (path("x.partial"), path("x"));
    run(&["translate", "-i", argument(&input), "-o", argument(&output)], b"").success();
    assert_eq!(fs::read_to_string(&output).unwrap(), expected);
    assert_eq!(fs::read_to_string(&input).unwrap(), format!("{CAT}\n"));
    // Or a link to somebody else's file.
    #[cfg(unix)]
    {
        fs::write(path("precious"), "precious").unwrap();
        std::os::unix::fs::symlink(path("precious"), path("y.partial")).unwrap();
        run(&["translate", CAT, "-o", argument(&path("y"))], b"").success();
        assert_eq!(fs::read_to_string(path("precious")).unwrap(), "precious");
        assert_eq!(fs::read_to_string(path("y")).unwrap(), expected);
    }
}

#[test]
fn of_two_runs_with_one_output_one_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let lines = |line: &str| format!("{line}\n").repeat(200);
    let expected = [CAT, THANKS].map(|line| lines(&golden(line, "greedy")));
    std::thread::scope(|scope| {
        for line in [CAT, THANKS] {
            let (input, output) = (lines(line), &output);
            scope.spawn(move || {
                let command = ["translate", "--beam", "1", "-o", argument(output)];
                run(&command, input.as_bytes()).success();
            });
        }
    });
    assert!(expected.contains(&fs::read_to_string(&output).unwrap()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn json_lines_go_in_and_out() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.jsonl.gz");
    let lines = format!(
        "{{\"id\": \"a/1\", \"text\": \"{CAT}\", \"more\": {{}}}}\n\n{{\"text\": \"\"}}\n\
         {{\"text\": \"{THANKS}\", \"id\": [2]}}\n"
    );
    fs::write(&input, gzip(lines.as_bytes())).unwrap();
    let results = run(&["translate", "--format", "jsonl", "-i", argument(&input)], b"").success();
    let records: Vec<serde_json::Value> =
        results.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&serde_json::Value> = records.iter().map(|record| &record["id"]).collect();
    assert_eq!(ids, [&serde_json::json!("a/1"), &2.into(), &serde_json::json!([2])]);
    let texts: Vec<&serde_json::Value> = records.iter().map(|record| &record["text"]).collect();
    assert_eq!(texts, [&*golden(CAT, "beam4"), "", &*golden(THANKS, "beam4")]);
    let piped = ["translate", "--format", "jsonl", "--input-format", "jsonl"];
    assert_eq!(run(&piped, lines.as_bytes()).success(), results);
    // Several files, and a column of a table.
    let table = folder.path().join("table");
    fs::write(&table, format!("1\t{THANKS}\t\n2\t{CAT}\n")).unwrap();
    let column = ["translate", "--column", "2", "-i", argument(&table)];
    let expected = format!("{}\n{}\n", golden(THANKS, "beam4"), golden(CAT, "beam4"));
    assert_eq!(run(&column, b"").success(), expected);
    let twice = [&column[..], &["-i", argument(&table)]].concat();
    assert_eq!(run(&twice, b"").success(), expected.repeat(2));
}

#[test]
fn a_line_at_fault_ends_the_work_or_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.jsonl");
    let good = |text: &str| format!("{{\"text\": \"{text}\"}}\n").into_bytes();
    let bad: [&[u8]; 4] = [b"no object\n", b"{\"txt\": \"a\"}\n", b"{\"text\": 1}\n", b"\xff\n"];
    for bad in bad {
        fs::write(&input, [&good(CAT), bad, &good(THANKS)].concat()).unwrap();
        let command = ["translate", "-i", argument(&input)];
        let (results, message) = run(&command, b"").failure(1);
        assert_eq!(results, golden(CAT, "beam4") + "\n");
        assert!(message.contains("in.jsonl, line 2: "), "{message}");

        let skip = [&command[..], &["--on-error", "skip"]].concat();
        let (results, message) = run(&skip, b"").failure(3);
        let expected = format!("{}\n\n{}\n", golden(CAT, "beam4"), golden(THANKS, "beam4"));
        assert_eq!(results, expected);
        assert!(message.contains("in.jsonl, line 2: ") && message.contains("1 line"), "{message}");
        let json = [&skip[..], &["--format", "jsonl"]].concat();
        let (results, _) = run(&json, b"").failure(3);
        let record: serde_json::Value =
            serde_json::from_str(results.lines().nth(1).unwrap()).unwrap();
        assert_eq!(record["id"], 2);
        assert!(record["error"].as_str().unwrap().contains("line 2"), "{record}");
        // The file is whole, and has its name.
        let output = folder.path().join("out");
        run(&[&skip[..], &["-o", argument(&output)]].concat(), b"").failure(3);
        assert_eq!(fs::read_to_string(&output).unwrap(), expected);
    }
}

#[test]
fn a_pair_at_fault_is_named_and_those_around_it_have_their_scores() {
    let pair = format!("{CAT}\tLe chat dort.\n");
    let score = run(&["score"], pair.as_bytes()).success();
    let long = format!("{CAT}\t{}\n", "chat ".repeat(2000));
    for (bad, problem) in [(&*long, "tokens"), ("no tab\n", "no column 2")] {
        let input = format!("{}{bad}{pair}", pair.repeat(40));
        let (results, message) = run(&["score"], input.as_bytes()).failure(1);
        assert_eq!(results, score.repeat(40));
        assert!(message.contains("standard input, line 41: "), "{message}");
        assert!(message.contains(problem), "{message}");
        let (results, _) = run(&["score", "--on-error", "skip"], input.as_bytes()).failure(3);
        assert_eq!(results, format!("{}\n{score}", score.repeat(40)));
    }
}

#[test]
fn standard_input_is_read_once() {
    for command in [
        &["evaluate", "--hypothesis", "-", "--reference", "-"][..],
        &["score", "--source", "-", "--target", "-"],
        &["shortlist", "--source", "-", "--target", "-", "-o", "x"],
        &["translate", "-i", "-", "-i", "-"],
    ] {
        let (_, message) = run(command, b"a\n").failure(2);
        assert!(message.contains("only once"), "{command:?}: {message}");
    }
}

#[test]
fn ids_come_back_byte_for_byte() {
    let ids = ["12345678901234567890123", "1.10", "1e400", "\"a\\u00e9\"", "[1, {\"b\": 2}]"];
    let lines: String =
        ids.iter().map(|id| format!("{{\"id\": {id}, \"text\": \"\"}}\n")).collect();
    let command = ["translate", "--input-format", "jsonl", "--format", "jsonl"];
    let results = run(&command, lines.as_bytes()).success();
    for (id, line) in ids.iter().zip(results.lines()) {
        assert!(line.starts_with(&format!("{{\"id\":{id},\"text\":")), "{line}");
    }
    // Also that of a line at fault.
    let skip = [&command[..], &["--on-error", "skip"]].concat();
    let (results, _) = run(&skip, b"{\"id\": \"mine\", \"text\": 5}\n").failure(3);
    assert!(results.starts_with("{\"id\":\"mine\",\"error\":"), "{results}");
}

#[test]
fn json_lines_are_read_by_their_name_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let [json, plain, out] = ["a.jsonl", "a.txt", "out"].map(path);
    let [json, plain, out] = [&json, &plain, &out].map(|path| argument(path));
    fs::write(json, "{\"text\": \"Le chat dort bien.\"}\n").unwrap();
    fs::write(plain, "Le chat dort bien.\n").unwrap();
    let metric = ["evaluate", "--metrics", "chrf"];
    for (a, b) in [(json, plain), (plain, json)] {
        let files = ["--hypothesis", a, "--reference", b];
        let score = run(&[&metric[..], &files].concat(), b"").success();
        assert!(score.contains(" = 100.00"), "{score}");
    }
    for command in [
        &["score", "--source", json, "--target", plain][..],
        &["score", "--tsv", json],
        &["shortlist", "--source", json, "--target", plain, "-o", out],
        &["tokenizer", "train", "-i", json, "-o", out],
    ] {
        let (_, message) = run(command, b"").failure(2);
        assert!(message.contains("JSON lines"), "{command:?}: {message}");
    }
}

#[test]
fn a_tokeniser_is_not_learnt_into_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let (model, text) = (model(folder.path()), folder.path().join("text"));
    fs::write(&text, "a b c\n".repeat(50)).unwrap();
    let before = fs::read(model.join("vocab.json")).unwrap();
    let command = ["tokenizer", "train", "-i", argument(&text), "-o", argument(&model)];
    let (_, message) = run(&[&command[..], &["--vocabulary", "8"]].concat(), b"").failure(2);
    assert!(message.contains("has a model"), "{message}");
    assert!(fs::read(model.join("vocab.json")).unwrap() == before);
}

#[cfg(target_os = "linux")]
#[test]
fn a_descriptor_is_written_and_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let tsv = folder.path().join("tsv");
    fs::write(&tsv, format!("{CAT}\tLe chat dort.\n").repeat(40)).unwrap();
    for (output, script) in [
        ("/dev/stdout", "exec \"$0\" translate \"$1\" -o /dev/stdout >> \"$2\""),
        ("/dev/fd/3", "exec \"$0\" translate \"$1\" -o /dev/fd/3 3>> \"$2\""),
    ] {
        fs::write(&log, "precious\n").unwrap();
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_tfm"), CAT]).arg(&log);
        assert!(command.status().unwrap().success());
        let expected = format!("precious\n{}\n", golden(CAT, "beam4"));
        assert_eq!(fs::read_to_string(&log).unwrap(), expected, "{output}");
    }
    // A link to a device is not replaced either.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    run(&["shortlist", "-q", "--tsv", argument(&tsv), "-o", argument(&link)], b"").success();
    assert!(link.is_symlink());
    let list = folder.path().join("list");
    std::os::unix::fs::symlink("behind", folder.path().join("to")).unwrap();
    let to = folder.path().join("to");
    for output in [&list, &to] {
        run(&["shortlist", "-q", "--tsv", argument(&tsv), "-o", argument(output)], b"").success();
    }
    assert!(to.is_symlink());
    assert!(fs::read(folder.path().join("behind")).unwrap() == fs::read(&list).unwrap());
}

#[test]
fn the_scores_are_not_written_over_the_translations() {
    let (_, message) =
        run(&["evaluate", "--hypothesis", "h", "--reference", "r", "--save", "s"], b"").failure(2);
    assert!(message.contains("--save"), "{message}");
}
