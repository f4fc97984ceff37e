//! What lies in a model's folder in place of its files.
#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use tfm::Model;

const FILES: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "source.spm",
    "target.spm",
    "tokenizer_config.json",
    "vocab.json",
];

/// A copy of the bundled model, for one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tfm-files-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/marian-tatoeba-en-fr");
        for name in FILES {
            fs::copy(bundled.join(name), folder.join(name)).unwrap();
        }
        Folder(folder)
    }

    /// What opening the model says with something else in place of a file.
    fn fault(&self, name: &str, put: impl FnOnce(&Path)) -> String {
        let (path, aside) = (self.0.join(name), self.0.join("aside"));
        fs::rename(&path, &aside).unwrap();
        put(&path);
        let (send, opened) = channel();
        let folder = self.0.clone();
        thread::spawn(move || send.send(Model::open(folder).map(|_| ())));
        let opened = opened.recv_timeout(Duration::from_secs(30)).expect("it does not wait");
        if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) }.unwrap();
        fs::rename(aside, path).unwrap();
        opened.unwrap_err().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let folder = Folder::new("irregular");
    let pipe = |path: &Path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    for name in FILES {
        for put in [&pipe as &dyn Fn(&Path), &|path| fs::create_dir(path).unwrap(), &|path| {
            std::os::unix::fs::symlink("/dev/zero", path).unwrap()
        }] {
            let fault = folder.fault(name, put);
            assert!(fault.contains(name) && fault.contains("not a regular file"), "{fault}");
        }
    }
    Model::open(&folder.0).unwrap();
}

#[test]
fn pointers_of_git_lfs_are_named_with_the_command_that_helps() {
    let folder = Folder::new("lfs");
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    for name in FILES {
        let fault = folder.fault(name, |path| fs::write(path, POINTER).unwrap());
        assert!(fault.contains(name) && fault.contains("`git lfs pull`"), "{fault}");
    }
}
