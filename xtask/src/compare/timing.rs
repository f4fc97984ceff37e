//! Times both commands and measures their memory. In each row they run in turns.

use super::command::{Binary, Cost};
use super::{Subject, cases};
use crate::bench::median;
use crate::project::Outcome;

/// The number of lines that are answered one after the other.
const ALONE: usize = 60;

/// What one row runs.
enum Work {
    /// Translates all lines at once.
    Batch { beams: &'static str, dtype: &'static str },
    /// Translates one line after the other.
    Alone { beams: &'static str, dtype: &'static str },
    /// Translates one sentence, timed from the start of the program to its end.
    Cold { dtype: &'static str },
    /// Runs the training.
    Train,
}

const ROWS: [(&str, Work); 9] = [
    ("many lines, greedy, f32", Work::Batch { beams: "1", dtype: "f32" }),
    ("many lines, greedy, int8", Work::Batch { beams: "1", dtype: "int8" }),
    ("many lines, beam 4, f32", Work::Batch { beams: "4", dtype: "f32" }),
    ("many lines, beam 4, int8", Work::Batch { beams: "4", dtype: "int8" }),
    ("line by line, beam 4, f32", Work::Alone { beams: "4", dtype: "f32" }),
    ("line by line, greedy, int8", Work::Alone { beams: "1", dtype: "int8" }),
    ("cold start, f32", Work::Cold { dtype: "f32" }),
    ("cold start, int8", Work::Cold { dtype: "int8" }),
    ("training", Work::Train),
];

/// Measures all rows whose name contains `only`, and prints a table.
pub(super) fn run(
    old: &Binary,
    new: &Binary,
    subjects: &[Subject],
    only: &str,
    pairs: usize,
) -> Outcome {
    let mut table = String::from(
        "| row | old, s | new, s | as fast | old CPU, s | new CPU, s | as fast | old MiB | new MiB | memory |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for subject in subjects {
        for (name, work) in &ROWS {
            let is_first = std::ptr::eq(subject, &subjects[0]);
            let name = match work {
                Work::Train if !is_first => continue,
                Work::Train => (*name).to_owned(),
                _ => format!("{} {name}", subject.name),
            };
            if !name.contains(only) {
                continue;
            }
            let mut costs = [Vec::new(), Vec::new()];
            for pair in 0..pairs {
                // The order alternates, so that a machine that slows down favours neither.
                let order = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
                for side in order {
                    costs[side].push(work.run([old, new][side], subject)?);
                }
            }
            let row = row(&name, &costs);
            print!("{row}");
            table += &row;
        }
    }
    println!(
        "\nMedians of {pairs} pairs. More than 1 is faster; of memory, less than 1 is less.\n"
    );
    println!("{table}");
    Ok(())
}

/// The medians of both commands, and their ratios.
fn row(name: &str, [old, new]: &[Vec<Cost>; 2]) -> String {
    let middle = |costs: &[Cost], of: fn(&Cost) -> f64| median(costs.iter().map(of).collect());
    let [wall, cpu, peak]: [[f64; 2]; 3] = [
        |cost: &Cost| cost.wall,
        |cost: &Cost| cost.cpu,
        |cost: &Cost| cost.peak / (1 << 20) as f64,
    ]
    .map(|of| [middle(old, of), middle(new, of)]);
    format!(
        "| {name} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.3} | {:.1} | {:.1} | {:.3} |\n",
        wall[0],
        wall[1],
        wall[0] / wall[1],
        cpu[0],
        cpu[1],
        cpu[0] / cpu[1],
        peak[0],
        peak[1],
        peak[1] / peak[0],
    )
}

impl Work {
    fn run(&self, binary: &Binary, subject: &Subject) -> Outcome<Cost> {
        let arguments = match self {
            Work::Batch { beams, dtype } => {
                subject.translate(&subject.sources()?, dtype, &["--beam", beams])
            }
            Work::Alone { beams, dtype } => {
                let options = ["translate", "--quiet", "--dtype", dtype, "--beam", beams];
                let lines = &subject.lines[..subject.lines.len().min(ALONE)];
                return binary.answer_lines(&subject.arguments(&options), lines);
            }
            Work::Cold { dtype } => {
                let line = subject.lines.first().map_or("", String::as_str);
                subject.arguments(&["translate", "--quiet", "--dtype", dtype, "--", line])
            }
            Work::Train => cases::training(binary)?,
        };
        Ok(binary.run(&arguments)??.cost)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cost, row};

    #[test]
    fn a_row_has_medians_and_says_who_is_faster() {
        let cost = |wall| Cost { wall, cpu: 2.0 * wall, peak: wall * 1024.0 * 1024.0 };
        let old = vec![cost(9.0), cost(4.0), cost(3.0)];
        let new = vec![cost(2.0), cost(1.0), cost(8.0)];
        let expected =
            "| x | 4.000 | 2.000 | 2.000 | 8.000 | 4.000 | 2.000 | 4.0 | 2.0 | 0.500 |\n";
        assert_eq!(row("x", &[old, new]), expected);
    }
}
