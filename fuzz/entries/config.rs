//! Arbitrary bytes as `config.json` and as `generation_config.json`: faults, or a configuration that makes
//! sense and is the same after it was written.
//!
//! Shared by the fuzz target and by the property tests of tfm-model.

use tfm_model::Config;

const CONFIG: &[u8] = include_bytes!("../corpus/config/tiny_marian.json");

pub(crate) fn run(bytes: &[u8]) {
    read(bytes, None);
    read(bytes, Some(bytes));
    read(CONFIG, Some(bytes));
}

fn read(config: &[u8], generation: Option<&[u8]>) {
    match Config::from_json(config, generation) {
        Ok((config, generation)) => {
            config.check().expect("what was read makes sense");
            let [config_json, generation_json] = config.to_json(&generation);
            let again = Config::from_json(config_json.as_bytes(), Some(generation_json.as_bytes()));
            assert_eq!(again, Ok((config, generation)));
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
}
