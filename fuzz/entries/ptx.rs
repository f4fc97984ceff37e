//! Arbitrary bytes as a PTX module give an error with a line of the text, or kernels that end or
//! are at fault.
//!
//! Shared by the fuzz target and by the property tests of tfm-ptx-emu.

use tfm_ptx_emu::{Device, Launch, Module};

pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let module = match Module::parse(&text) {
        Ok(module) => module,
        Err(error) => {
            assert!((1..=text.lines().count().max(1) as u32).contains(&error.line), "{error}");
            return;
        }
    };
    for kernel in module.kernels() {
        let mut device = Device::new();
        let memory = device.upload(&[1; 1024]).to_le_bytes();
        // Arguments of 8 bytes are pointers to the memory, others are small numbers.
        let argument = |size: usize| match size {
            8 => memory.to_vec(),
            size => [5].into_iter().chain([0; 64]).cycle().take(size).collect(),
        };
        let arguments: Vec<Vec<u8>> =
            kernel.parameters.iter().map(|(_, size)| argument(*size)).collect();
        let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        for lazy in [false, true] {
            let launch =
                Launch { threads: [48, 1, 1], shared: 64, steps: 2000, lazy, ..Launch::default() };
            if let Err(fault) = device.launch(&module, &kernel.name, &launch, &arguments) {
                assert!(!fault.to_string().is_empty());
            }
        }
    }
}
