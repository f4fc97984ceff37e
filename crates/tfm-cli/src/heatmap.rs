//! Draws the weights of an alignment with characters.

use unicode_width::UnicodeWidthStr;

/// The darker, the more weight.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];

/// A row for each target word, a column for each source word, as wide as the word, and an empty
/// line. `weights[target][source]` are between 0 and 1.
pub(crate) fn heatmap(source: &[String], target: &[String], weights: &[Vec<f32>]) -> String {
    let margin = target.iter().map(|word| word.width()).max().unwrap_or(0);
    let padded = |word: &str, width: usize| {
        let missing = width.saturating_sub(word.width());
        format!("{word}{}", " ".repeat(missing))
    };
    let mut picture = padded("", margin);
    for word in source {
        picture += "  ";
        picture += word;
    }
    picture.push('\n');
    for (word, row) in target.iter().zip(weights) {
        picture += &padded(word, margin);
        for (source, &weight) in source.iter().zip(row) {
            picture += "  ";
            picture.extend(std::iter::repeat_n(shade(weight), source.width()));
        }
        picture.truncate(picture.trim_end_matches(' ').len());
        picture.push('\n');
    }
    picture.push('\n');
    picture
}

/// Weights of an eighth and more are seen.
fn shade(weight: f32) -> char {
    let most = (SHADES.len() - 1) as f32;
    SHADES[(weight.clamp(0.0, 1.0) * most).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::heatmap;

    #[test]
    fn words_head_rows_and_columns() {
        let words =
            |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let weights = [vec![1.0, 0.0], vec![0.26, 0.7]];
        let picture = heatmap(&words(&["the", "世"]), &words(&["le", "monde"]), &weights);
        let expected = "       the  世\nle     ███\nmonde  ░░░  ▓▓\n\n";
        assert_eq!(picture, expected);
        assert_eq!(heatmap(&[], &[], &[]), "\n\n");
    }
}
