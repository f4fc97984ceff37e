//! Computes from this CPU's peaks and a model's equations the time below which no program can get.

mod count;
mod page;
mod peaks;

use super::peers::{BASE_SHAPE, TRAINED};
use crate::project::{self, Outcome};
use peaks::Peaks;
use tfm_model::{Config, Description};

/// A model whose floor is computed.
struct Shape {
    name: String,
    config: Config,
    /// The average numbers of tokens of a source and of an output.
    source: f64,
    target: usize,
}

/// Measures the peaks, computes the floors and writes the page.
pub(super) fn run() -> Outcome {
    let peaks = Peaks::measure()?;
    let mut shapes = vec![Shape {
        name: "The base shape".into(),
        config: config(&project::read(BASE_SHAPE)?)?,
        source: 24.0,
        target: 32,
    }];
    match project::test_data() {
        Ok(data) if data.join(TRAINED).join("config.json").is_file() => shapes.push(Shape {
            name: format!("The reference checkpoint, `{TRAINED}` of the test data"),
            config: config(&project::read(data.join(TRAINED).join("config.json"))?)?,
            source: 10.0,
            target: 11,
        }),
        Ok(data) => println!("skipped: no {}", data.join(TRAINED).display()),
        Err(why) => println!("skipped: {why}"),
    }
    let tables = page::tables(&peaks, &shapes);
    println!("{tables}");
    super::page::write("docs/roofline.md", "roofline", &tables)
}

fn config(json: &str) -> Outcome<Config> {
    Description::from_json(json.as_bytes(), None)
        .map(|description| description.config)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}
