//! What is left where the command is killed, interrupted, or has nowhere to write.

#![cfg(unix)]

mod command;

use command::{CAT, argument, bundled, golden, start, tfm};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Moments at which each command is killed.
const MOMENTS: u32 = 10;

fn signal(child: &Child, name: &str) {
    let done = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(done.expect("there is a `kill`").success());
}

fn quiet(arguments: &[&str]) -> Command {
    let mut command = tfm(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// All files below a folder that are complete by their names, with their content.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".partial") || name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let content = fs::read(&path).unwrap();
            found.push((path, content));
        }
    }
    found.sort();
    found
}

/// Kills a command at moments all through its run. Its target's files are then each what they were
/// or what the command makes of them, and a run that is left alone succeeds.
fn whole_or_not_there(target: &Path, old: &[&str], new: &[&str]) {
    let run = |arguments: &[&str]| assert!(quiet(arguments).status().unwrap().success());
    run(new);
    let after = files(target.parent().unwrap());
    run(old);
    let before = files(target.parent().unwrap());
    let clock = Instant::now();
    run(new);
    let whole = clock.elapsed();
    assert_ne!(before, after, "the two runs differ");
    for moment in 0..MOMENTS {
        run(old);
        let mut child = quiet(new).spawn().unwrap();
        thread::sleep(whole * moment / (MOMENTS - 1));
        let _ = child.kill();
        child.wait().unwrap();
        for (path, content) in files(target.parent().unwrap()) {
            let of = |all: &[(PathBuf, Vec<u8>)]| {
                all.iter().any(|(name, whole)| *name == path && *whole == content)
            };
            assert!(of(&before) || of(&after), "{} after {moment}", path.display());
        }
    }
    run(new);
    assert_eq!(files(target.parent().unwrap()), after);
}

#[test]
fn translate_convert_average_and_shortlist_leave_whole_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let lines = format!("{CAT}\n").repeat(400);
    let pairs = format!("{CAT}\tLe chat dort.\n").repeat(3000);
    fs::write(path("lines"), lines).unwrap();
    fs::write(path("pairs"), pairs).unwrap();
    let (lines, pairs, bundled) = (path("lines"), path("pairs"), bundled());
    let [lines, pairs, bundled] = [&lines, &pairs, &bundled].map(|path| argument(path));

    fs::create_dir(path("t")).unwrap();
    let target = path("t/out");
    let to = argument(&target);
    let old = ["translate", CAT, "-o", to];
    whole_or_not_there(&target, &old, &["translate", "--beam", "1", "-i", lines, "-o", to]);

    fs::create_dir(path("s")).unwrap();
    let target = path("s/list");
    let to = argument(&target);
    let learn = ["shortlist", "--tsv", pairs, "-o", to];
    whole_or_not_there(&target, &[&learn[..], &["--best", "1"]].concat(), &learn);

    fs::create_dir(path("c")).unwrap();
    let target = path("c/model");
    let to = argument(&target);
    let convert = ["convert", bundled, "-o", to, "--dtype"];
    let [f32, int8] = ["f32", "int8"].map(|dtype| [&convert[..], &[dtype]].concat());
    whole_or_not_there(&target, &f32, &int8);

    fs::create_dir(path("a")).unwrap();
    let target = path("a/model");
    let to = argument(&target);
    let average = ["average", bundled, bundled, "-o", to, "--dtype"];
    let [f16, f32] = ["f16", "f32"].map(|dtype| [&average[..], &[dtype]].concat());
    whole_or_not_there(&target, &f16, &f32);
}

#[test]
fn an_interrupt_keeps_results_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["-INT", "-TERM"] {
        let output = folder.path().join("out");
        let mut child = start(&["translate", "--beam", "1", "-o", argument(&output)]);
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, format!("{CAT}\n").as_bytes()).unwrap();
        let partial = folder.path().join("out.partial");
        let clock = Instant::now();
        while fs::metadata(&partial).map_or(0, |found| found.len()) == 0 {
            assert!(clock.elapsed() < Duration::from_secs(60), "no result is written");
            thread::sleep(Duration::from_millis(5));
        }
        signal(&child, name);
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(130));
        let message = String::from_utf8(ended.stderr).unwrap();
        assert!(message.contains("what was done is in") && message.contains("out.partial"));
        assert_eq!(fs::read_to_string(&partial).unwrap(), golden(CAT, "greedy") + "\n");
        assert!(!output.exists());
        fs::remove_file(partial).unwrap();
        drop(stdin);
    }
}

#[test]
fn packed_results_are_kept_too() {
    let folder = tempfile::tempdir().unwrap();
    for (end, unpack) in [("gz", "gzip"), ("zst", "zstd")] {
        let output = folder.path().join(format!("out.{end}"));
        let mut child = start(&["translate", "--beam", "1", "-o", argument(&output)]);
        let mut stdin = child.stdin.take().unwrap();
        let partial = folder.path().join(format!("out.{end}.partial"));
        let clock = Instant::now();
        while fs::metadata(&partial).map_or(0, |found| found.len()) < 40 {
            assert!(clock.elapsed() < Duration::from_secs(60), "no result is written");
            std::io::Write::write_all(&mut stdin, format!("{CAT}\n").as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(50));
        }
        signal(&child, "-TERM");
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
        let Ok(text) = Command::new(unpack).arg("-dc").arg(&partial).output() else {
            println!("skipped: no {unpack}");
            continue;
        };
        let text = String::from_utf8(text.stdout).unwrap();
        assert_eq!(text.lines().next(), Some(&*golden(CAT, "greedy")), "{end}");
    }
}

#[test]
fn a_request_that_the_parent_ignores_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let mut command = Command::new("sh");
    let script = "trap '' HUP INT; exec \"$0\" translate --beam 1 -o \"$1\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_tfm"), argument(&output)]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, format!("{CAT}\n").as_bytes()).unwrap();
    let partial = folder.path().join("out.partial");
    let clock = Instant::now();
    while fs::metadata(&partial).map_or(0, |found| found.len()) == 0 {
        assert!(clock.elapsed() < Duration::from_secs(60), "no result is written");
        thread::sleep(Duration::from_millis(5));
    }
    signal(&child, "-HUP");
    signal(&child, "-INT");
    thread::sleep(Duration::from_millis(100));
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(output.exists());
}

#[test]
fn standard_streams_that_are_closed_are_an_error_where_they_are_needed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (script, status, expected) in [
        ("exec \"$0\" translate \"$1\" >&-", 1, "standard output is closed"),
        ("exec \"$0\" translate <&-", 1, "standard input is closed"),
        ("exec \"$0\" translate \"$1\" 1</dev/null", 1, "cannot write the results"),
        ("exec \"$0\" translate \"$1\" -o \"$2\" >&- <&-", 0, ""),
    ] {
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_tfm"), CAT, argument(&out)]);
        let ended = command.output().unwrap();
        let message = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(status), "{script}: {message}");
        assert!(message.contains(expected), "{script}: {message}");
    }
    assert_eq!(fs::read_to_string(&out).unwrap(), golden(CAT, "beam4") + "\n");
}
