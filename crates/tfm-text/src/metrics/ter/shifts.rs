//! The search for shifts: which run of words to move where, so that fewest edits remain.
//!
//! The search is greedy, as in the paper: the shift that saves most edits is made, and the search
//! begins again, until no shift saves any. Limits and the choice among equals are Tercom's.

use std::{cmp::Reverse, collections::HashMap};

use super::edits::{Band, Matrix};

/// The longest run of words that is shifted.
const MAX_SIZE: usize = 10;

/// How far a run may be from where the reference has it.
const MAX_DISTANCE: usize = 50;

/// After so many tried shifts the search ends.
const MAX_TRIED: usize = 1000;

/// A run of words and where it goes.
#[derive(Debug, Clone, Copy)]
struct Shift {
    start: usize,
    length: usize,
    /// Before which word of the hypothesis.
    target: usize,
}

/// Shifts and edits that make the reference out of the hypothesis.
pub(super) fn edits<'w>(hypothesis: &[&'w str], reference: &[&'w str]) -> u64 {
    if reference.is_empty() {
        return hypothesis.len() as u64;
    }
    let mut numbers = HashMap::new();
    let mut hypothesis = number(hypothesis, &mut numbers);
    let reference = number(reference, &mut numbers);
    let band = Band::new(&reference, hypothesis.len());
    let (mut shifts, mut tried) = (0, 0);
    loop {
        let matrix = band.matrix(&hypothesis);
        match best_shift(&hypothesis, &reference, &band, &matrix, &mut tried) {
            Some(shift) if tried < MAX_TRIED => {
                shift.apply(&mut hypothesis);
                shifts += 1;
            }
            _ => return shifts + u64::from(matrix.distance()),
        }
    }
}

/// A number for each word, the same for the same word.
fn number<'w>(words: &[&'w str], numbers: &mut HashMap<&'w str, u32>) -> Vec<u32> {
    let mut number = |word| {
        let next = numbers.len() as u32;
        *numbers.entry(word).or_insert(next)
    };
    words.iter().map(|&word| number(word)).collect()
}

/// The shift that saves most edits, if any does.
fn best_shift(
    hypothesis: &[u32],
    reference: &[u32],
    band: &Band<'_>,
    matrix: &Matrix,
    tried: &mut usize,
) -> Option<Shift> {
    let alignment = band.align(matrix);
    let before = i64::from(matrix.distance());
    let mut best = None;
    let mut shifted = Vec::with_capacity(hypothesis.len());
    for (start, place, length) in runs(hypothesis, reference) {
        // A run is shifted only if it is wrong where it is, and missing where it goes.
        let right = |wrong: &[bool]| wrong.iter().all(|&wrong| !wrong);
        if right(&alignment.hypothesis_wrong[start..start + length])
            || right(&alignment.reference_wrong[place..place + length])
        {
            continue;
        }
        // A run does not go into itself.
        if (start + 1..=start + length).contains(&alignment.ends[place + 1]) {
            continue;
        }
        let mut previous = None;
        for &target in &alignment.ends[place..=place + length] {
            if previous.replace(target) == Some(target) {
                continue;
            }
            let shift = Shift { start, length, target };
            shifted.clear();
            shifted.extend_from_slice(hypothesis);
            shift.apply(&mut shifted);
            let after = band.distance(matrix, start.min(target), &shifted);
            let saved = before - i64::from(after);
            // Of shifts that save as much: the longest, of these the first, to the first place.
            let rank = (saved, length, Reverse(start), Reverse(target));
            if best.as_ref().is_none_or(|(highest, _)| rank > *highest) {
                best = Some((rank, shift));
            }
            *tried += 1;
        }
        if *tried >= MAX_TRIED {
            break;
        }
    }
    best.filter(|((saved, ..), _)| *saved > 0).map(|(_, shift)| shift)
}

/// The runs of words that both lines have: start in the hypothesis, start in the reference, length.
fn runs<'w>(
    hypothesis: &'w [u32],
    reference: &'w [u32],
) -> impl Iterator<Item = (usize, usize, usize)> + 'w {
    (0..hypothesis.len()).flat_map(move |start| {
        let end = reference.len().min(start + MAX_DISTANCE + 1);
        (start.saturating_sub(MAX_DISTANCE)..end).flat_map(move |place| {
            let pairs = hypothesis[start..].iter().zip(&reference[place..]);
            let same = pairs.take(MAX_SIZE).take_while(|(ours, theirs)| ours == theirs).count();
            (1..=same).map(move |length| (start, place, length))
        })
    })
}

impl Shift {
    fn apply(self, words: &mut [u32]) {
        let Shift { start, length, target } = self;
        let end = start + length;
        if target < start {
            words[target..end].rotate_right(length);
        } else if target > end {
            words[start..target].rotate_left(length);
        } else {
            // A target within the run: the run moves on by as many words.
            let end = words.len().min(target + length);
            words[start..end].rotate_left(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::edits;

    fn count(hypothesis: &str, reference: &str) -> u64 {
        let (hypothesis, reference) = (hypothesis.split(' '), reference.split(' '));
        edits(&hypothesis.collect::<Vec<_>>(), &reference.collect::<Vec<_>>())
    }

    #[test]
    fn a_shift_is_one_edit_whatever_it_moves() {
        assert_eq!(count("d e f a b c", "a b c d e f"), 1);
        assert_eq!(count("a b c d e f", "a b c d e f"), 0);
        // One shift, one word replaced.
        assert_eq!(count("d e x a b c", "a b c d e f"), 2);
    }

    #[test]
    fn empty_lines() {
        assert_eq!(edits(&[], &[]), 0);
        assert_eq!(edits(&["a", "b"], &[]), 2);
        assert_eq!(edits(&[], &["a", "b", "c"]), 3);
    }

    #[test]
    fn lines_of_very_different_length() {
        let many: Vec<&str> = ["a", "b", "c"].into_iter().cycle().take(5000).collect();
        assert_eq!(edits(&["a"], &many), 4999);
        assert_eq!(edits(&many, &["a"]), 4999);
    }
}
