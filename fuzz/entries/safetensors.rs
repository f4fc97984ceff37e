//! Arbitrary bytes as a file of weights give faults, or tensors that fill the file.
//!
//! Shared by the fuzz target and by the property tests of tfm-model.

use tfm_core::ParameterSource;
use tfm_core::fused::quantized;
use tfm_model::Checkpoint;
use tfm_model::checkpoint::Header;

pub(crate) const CONFIG: &[u8] = include_bytes!("../corpus/config/tiny_marian.json");

pub(crate) fn run(bytes: &[u8]) {
    read(bytes);
    // The bytes as the header of a file whose length field is right.
    let length = (bytes.len() as u64).to_le_bytes();
    read(&[&length[..], bytes, &[0; 64]].concat());
}

fn read(bytes: &[u8]) {
    match Header::read("fuzz.safetensors", bytes) {
        Ok(header) => {
            let mut end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            for tensor in &header.tensors {
                assert_eq!(tensor.bytes.start, end, "no gap and no overlap");
                let bits = tensor.shape.elements() * tensor.dtype.bitsize();
                assert_eq!(tensor.bytes.len() * 8, bits, "a size that fits the shape");
                end = tensor.bytes.end;
            }
            assert_eq!(end, bytes.len(), "nothing after the last tensor");
            safetensors::SafeTensors::deserialize(bytes).expect("the format's own crate agrees");
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
    if let Ok(checkpoint) = Checkpoint::from_files("fuzz", CONFIG, None, bytes.to_vec()) {
        for parameter in checkpoint.parameters() {
            let tensor = checkpoint.tensor(parameter.name).expect("a listed parameter");
            let elements = tensor.as_f32().expect("parameters are f32");
            assert!(elements.iter().all(|element| element.is_finite()));
            if let Some(rows) = checkpoint.rows(parameter.name).expect("a listed parameter") {
                let [n, k] = rows.extents();
                let (mut integers, mut scales) = (vec![0; n * k], vec![0.0; n]);
                rows.read_quantized(0, &mut integers, &mut scales);
                assert!(scales.iter().all(|&scale| scale >= 0.0 && scale.is_finite()));
                assert!(integers.chunks(k.max(1)).all(quantized::is_row));
            }
        }
    }
}
