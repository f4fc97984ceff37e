//! What a model expects around a text.

/// The tokens that stand around a source, and around a target.
///
/// ```text
/// the encoder reads    source.before  source text  source.after
/// the decoder writes   target.before  target text  target.after
/// ```
///
/// The token that the decoder begins with is read and not written: it is no part of the target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Framing {
    /// Around a source.
    pub source: Affixes,
    /// Around a target.
    pub target: Affixes,
}

/// The tokens before and after a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affixes {
    /// Before the text.
    pub before: Vec<u32>,
    /// After the text.
    pub after: Vec<u32>,
}

impl Framing {
    /// The same tokens around sources and targets.
    pub(super) fn alike(affixes: Affixes) -> Self {
        Framing { source: affixes.clone(), target: affixes }
    }
}

impl Affixes {
    /// `text` between these tokens.
    pub(super) fn around(&self, mut text: Vec<u32>) -> Vec<u32> {
        text.splice(0..0, self.before.iter().copied());
        text.extend(&self.after);
        text
    }
}
