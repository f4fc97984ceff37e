//! A forked process has none of its parent's threads. A test binary of its own, since nothing else
//! may run beside a fork.
#![cfg(unix)]

use std::thread;
use std::time::Duration;
use tfm::{Device, Model, Options, Translator};

/// Whether everything that computes says that the process was forked.
fn is_told(translator: &Translator) -> bool {
    let lines = ["Thank you."].map(|line| Ok(line.to_owned()));
    let errors = [
        translator.translate("Thank you.").map(|_| ()),
        translator.translate_lines(lines).collect::<Result<Vec<_>, _>>().map(|_| ()),
        translator.stream("Thank you.").map(|_| ()),
        translator.score("Thank you.", "Merci.").map(|_| ()),
        translator.logits("Thank you.", "Merci.").map(|_| ()),
        translator.encode(&["Thank you."]).map(|_| ()),
    ];
    errors.into_iter().all(|told| told.is_err_and(|error| error.to_string().contains("forked")))
}

#[test]
fn a_forked_process_is_told() {
    let model = Model::bundled().unwrap();
    let translator = Translator::new(&model, Device::cpu(), &Options::new()).unwrap();
    translator.translate("Thank you.").unwrap();
    translator.score("Thank you.", "Merci.").unwrap();
    // SAFETY: the child asks for work, which fails before it takes a lock, and ends at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let told = is_told(&translator);
        drop(translator);
        // SAFETY: the child ends without running what the parent has registered for its own end.
        unsafe { libc::_exit(i32::from(!told)) };
    }
    let mut status = 0;
    for _ in 0..600 {
        // SAFETY: `status` is there to be written.
        if unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == child {
            assert_eq!(status, 0, "the child was not told, or crashed");
            assert_eq!(translator.translate("Thank you.").unwrap().text, "Merci.");
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    // SAFETY: it is this process's own child.
    unsafe { libc::kill(child, libc::SIGKILL) };
    panic!("the child hangs");
}
