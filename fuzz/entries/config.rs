//! Arbitrary bytes as `config.json` and as `generation_config.json` give faults, or a valid
//! configuration that is the same after it was written and read.
//!
//! Shared by the fuzz target and by the property tests of tfm-model.

use tfm_model::Description;

const CONFIG: &[u8] = include_bytes!("../corpus/config/tiny_marian.json");

pub(crate) fn run(bytes: &[u8]) {
    read(bytes, None);
    read(bytes, Some(bytes));
    read(CONFIG, Some(bytes));
}

fn read(config: &[u8], generation: Option<&[u8]>) {
    match Description::from_json(config, generation) {
        Ok(description) => {
            description.config.check().expect("what was read makes sense");
            let [config, generation] = description.to_json();
            let again = Description::from_json(config.as_bytes(), Some(generation.as_bytes()));
            assert_eq!(again, Ok(description));
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
}
