//! Which tokens and words of a source those of a translation come from.

use tfm_text::Word;

/// The cross-attention of the last decoder layer, averaged over its heads.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Alignment {
    /// The source's tokens, as the vocabulary writes them, with the end token.
    pub source: Vec<String>,
    /// For each target token, its weights over the source's tokens; they sum to 1.
    pub weights: Vec<Vec<f32>>,
    source_words: Vec<Word>,
    target_words: Vec<Word>,
}

/// An alignment of words instead of tokens.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct WordAlignment {
    /// The source's words.
    pub source: Vec<String>,
    /// The translation's words.
    pub target: Vec<String>,
    /// For each target word, its weights over the source's words. They sum to less than 1: the
    /// rest is of tokens that are of no word, such as the end token.
    pub weights: Vec<Vec<f32>>,
}

impl Alignment {
    /// Of `weights[target token][source token]`, with the words of both sides.
    pub(crate) fn new(
        source: Vec<String>,
        weights: Vec<Vec<f32>>,
        [source_words, target_words]: [Vec<Word>; 2],
    ) -> Self {
        Alignment { source, weights, source_words, target_words }
    }

    /// For each target token the number of the source token that it attends to most.
    pub fn strongest(&self) -> impl Iterator<Item = usize> {
        self.weights.iter().map(|weights| strongest(weights).unwrap_or(0))
    }

    /// The alignment of words: a source word's weight is the sum over its tokens, a target word's
    /// the mean over its. Words are what tokens are between SentencePiece's marks, or what a
    /// `tokenizer.json` decodes with spaces between. Ends of sequence and languages are no words.
    pub fn words(&self) -> WordAlignment {
        let text = |words: &[Word]| words.iter().map(|word| word.text.clone()).collect();
        let weight = |target: &Word, source: &Word| {
            let of_token = |&token: &usize| {
                let row = self.weights.get(token);
                row.map_or(0.0, |row| source.tokens.iter().filter_map(|&at| row.get(at)).sum())
            };
            target.tokens.iter().map(of_token).sum::<f32>() / target.tokens.len().max(1) as f32
        };
        let row = |target| self.source_words.iter().map(|source| weight(target, source)).collect();
        WordAlignment {
            source: text(&self.source_words),
            target: text(&self.target_words),
            weights: self.target_words.iter().map(row).collect(),
        }
    }
}

impl WordAlignment {
    /// For each target word, in their order, the source word that it attends to most: the numbers
    /// `(source, target)`. None where the source has no words.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let rows = self.weights.iter().enumerate();
        rows.filter_map(|(target, weights)| Some((strongest(weights)?, target)))
    }
}

/// The place of the greatest weight, of equals the first.
fn strongest(weights: &[f32]) -> Option<usize> {
    let places = weights.iter().enumerate().rev();
    places.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(cuts: &[usize]) -> Vec<Word> {
        let mut first = 0;
        let word = |&count: &usize| {
            let tokens: Vec<usize> = (first..first + count).collect();
            first += count;
            Word { text: format!("w{first}"), tokens }
        };
        cuts.iter().map(word).collect()
    }

    #[test]
    fn weights_are_summed_over_source_pieces_and_averaged_over_target_pieces() {
        let weights = vec![vec![0.5, 0.25, 0.125, 0.125], vec![0.0, 0.0, 0.75, 0.25]];
        let words = [words(&[2, 1]), words(&[2])]; // the source's last token is its end
        let found = Alignment::new(vec!["a".into(); 4], weights, words).words();
        assert_eq!(found.weights, [[0.375, 0.4375]]);
        assert_eq!(found.pairs().collect::<Vec<_>>(), [(1, 0)]);
        assert_eq!(
            (found.source, found.target),
            (vec!["w2".into(), "w3".into()], vec!["w2".into()])
        );
    }

    #[test]
    fn nothing_has_no_pairs() {
        let found = Alignment::default().words();
        assert_eq!(found, WordAlignment::default());
        let only_an_end = Alignment::new(
            vec!["</s>".into()],
            vec![vec![1.0], vec![1.0]],
            [Vec::new(), words(&[1])],
        );
        let found = only_an_end.words();
        assert_eq!((found.target.len(), found.pairs().count()), (1, 0));
    }

    proptest! {
        /// Of tokens that all are of words nothing is lost, and a word that is one token has its
        /// weights.
        #[test]
        fn weights_stay_distributions(
            source in prop::collection::vec(1..4usize, 1..6),
            target in prop::collection::vec(1..4usize, 1..6),
            seed in prop::collection::vec(0.01..1.0f32, 15 * 15),
        ) {
            let [n, m] = [&source, &target].map(|cuts| cuts.iter().sum::<usize>());
            let rows = seed.chunks(15).take(m).map(|row| {
                let sum: f32 = row[..n].iter().sum();
                row[..n].iter().map(|weight| weight / sum).collect::<Vec<f32>>()
            });
            let rows: Vec<Vec<f32>> = rows.collect();
            let both = [words(&source), words(&target)];
            let tokens = Alignment::new(vec![String::new(); n], rows, both);
            let found = tokens.words();
            prop_assert_eq!((found.weights.len(), found.source.len()), (target.len(), source.len()));
            for (row, (_, target)) in found.weights.iter().zip(found.pairs()) {
                prop_assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                let (best, _) = found.pairs().nth(target).unwrap();
                prop_assert!(row.iter().all(|&weight| weight <= row[best]));
            }
            if source.iter().chain(&target).all(|&count| count == 1) {
                prop_assert_eq!(&found.weights, &tokens.weights);
                prop_assert!(found.pairs().map(|(source, _)| source).eq(tokens.strongest()));
            }
        }
    }
}
