//! Changes to single tokens of a row.

/// No edit but a ban makes a token's value greater than this, or less than its opposite: a sum over
/// all steps stays finite, and nothing is banned that is only improbable.
const GREATEST: f32 = 1e30;

/// What becomes of a token's logit or log-probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    /// −∞.
    Ban,
    /// So much more.
    Add(f32),
    /// Multiplied by this where it is negative, else divided.
    Penalise(f32),
    /// So many times its absolute value more.
    Stretch(f32),
}

impl Change {
    fn apply(self, value: f32) -> f32 {
        let edited = match self {
            _ if value == f32::NEG_INFINITY => return value,
            Change::Ban => return f32::NEG_INFINITY,
            Change::Add(bias) => value + bias,
            Change::Penalise(penalty) if value < 0.0 => value * penalty,
            Change::Penalise(penalty) => value / penalty,
            Change::Stretch(factor) => value + value.abs() * factor,
        };
        edited.clamp(-GREATEST, GREATEST)
    }

    /// Whether a value may become greater.
    fn raises(self) -> bool {
        match self {
            Change::Ban => false,
            Change::Add(amount) | Change::Stretch(amount) => amount > 0.0,
            Change::Penalise(penalty) => penalty < 1.0,
        }
    }
}

/// The changes to one row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edits {
    /// By token ascending; those of one token in the order in which they are applied.
    changes: Vec<(u32, Change)>,
    raises: bool,
}

impl Edits {
    pub(crate) fn clear(&mut self) {
        self.changes.clear();
        self.raises = false;
    }

    pub(crate) fn push(&mut self, token: u32, change: Change) {
        self.changes.push((token, change));
    }

    /// To be called when all changes are there.
    pub(crate) fn sort(&mut self) {
        self.changes.sort_by_key(|&(token, _)| token);
        self.changes.dedup_by(|a, b| a == b && a.1 == Change::Ban);
        self.raises = self.changes.iter().any(|(_, change)| change.raises());
    }

    /// Whether a token may become greater.
    pub(crate) fn raises(&self) -> bool {
        self.raises
    }

    /// How many candidates the changes can take away from the top of a row.
    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    /// What becomes of a token's value; `None` if it is not changed.
    pub(crate) fn apply(&self, token: u32, value: impl FnOnce() -> f32) -> Option<f32> {
        let first = self.changes.partition_point(|&(other, _)| other < token);
        let own = self.changes[first..].iter().take_while(|&&(other, _)| other == token);
        let mut own = own.map(|&(_, change)| change).peekable();
        own.peek()?;
        Some(own.fold(value(), |value, change| change.apply(value)))
    }
}
