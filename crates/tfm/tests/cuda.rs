//! `--device cuda`: the command as it is shipped, over a driver that interprets its kernels; and what it says where there
//! is no such device.
#![cfg(feature = "cuda")]

mod command;
mod common;

use command::{Outcome, tfm};
use std::process::Command;
use tfm_fake_driver::Installed;

/// Runs the command with the fake driver.
fn emulated(driver: &Installed, environment: &[(&str, &str)], arguments: &[&str]) -> Outcome {
    let mut command: Command = tfm(arguments);
    command.envs(environment.iter().copied());
    Outcome::from(driver.apply(&mut command).output().expect("the command starts"))
}

#[test]
fn translations_on_cuda_are_those_on_the_cpu() {
    let Some(model) = common::test_data("models/marian-tatoeba-en-fr") else { return };
    let model = model.to_str().unwrap();
    let driver = Installed::new().unwrap();
    let sentences = ["Hi.", "The cat is asleep.", "I like it."];
    let arguments = |device| {
        let mut all = vec!["translate", "-m", model, "--device", device, "--beam", "2"];
        all.extend(sentences);
        all
    };
    let on_cpu = command::run(&arguments("cpu"), b"").success();
    assert_eq!(on_cpu.lines().count(), sentences.len());
    let on_cuda = emulated(&driver, &[("TFM_FAKE_LAZY", "1")], &arguments("cuda")).success();
    assert_eq!(on_cuda, on_cpu);
}

#[test]
fn auto_says_what_it_took() {
    let driver = Installed::new().unwrap();
    let arguments =
        ["translate", "--device", "auto", "--max-new-tokens", "1", "--beam", "1", "Hi."];
    let with = emulated(&driver, &[], &arguments);
    assert_eq!(with.status, 0, "{with:?}");
    assert_eq!(with.stderr, "note: computing on cuda:0 (PTX interpreter)\n");
    let without = emulated(&driver, &[("TFM_FAKE_VERSION", "10020")], &arguments);
    assert_eq!(without.status, 0, "{without:?}");
    assert_eq!(
        without.stderr,
        "note: computing on the cpu (cuda: the driver is for CUDA 10.2, and 11.4 or newer is needed; update NVIDIA's \
         driver)\n"
    );
    assert_eq!(with.stdout, without.stdout);
}

/// Each trouble is one line, and exit status 1.
#[test]
fn a_device_that_cannot_be_used_is_one_line() {
    let driver = Installed::new().unwrap();
    let troubles = [
        (("TFM_FAKE_VERSION", "11020"), "cuda", "update NVIDIA's driver"),
        (("TFM_FAKE_MEMORY", "1000000"), "cuda:0", "out of memory"),
        (("TFM_FAKE_LAZY", "0"), "cuda:3", "there is no device 3; 1 found"),
    ];
    for (environment, device, expected) in troubles {
        let outcome = emulated(&driver, &[environment], &["translate", "--device", device, "Hi."]);
        let (stdout, stderr) = outcome.failure(1);
        assert_eq!(stdout, "");
        assert!(stderr.contains(expected) && stderr.lines().count() == 1, "{stderr}");
    }
    let outcome =
        Outcome::from(tfm(&["translate", "--device", "cuda:99", "Hi."]).output().unwrap());
    let (_, stderr) = outcome.failure(1);
    assert!(stderr.contains("no CUDA driver found") || stderr.contains("no device 99"), "{stderr}");
}
