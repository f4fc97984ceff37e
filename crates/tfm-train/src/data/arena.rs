//! Many short sequences in few allocations.

/// Sequences of token ids, concatenated. A token takes two bytes while all ids fit.
#[derive(Debug)]
pub(super) struct Ids {
    tokens: Tokens,
    /// Where each sequence ends.
    ends: Vec<usize>,
}

#[derive(Debug)]
enum Tokens {
    Short(Vec<u16>),
    Long(Vec<u32>),
}

impl Ids {
    pub(super) fn new() -> Self {
        Ids { tokens: Tokens::Short(Vec::new()), ends: Vec::new() }
    }

    pub(super) fn push(&mut self, sequence: &[u32]) {
        if let Tokens::Short(short) = &mut self.tokens {
            if sequence.iter().all(|&id| id <= u32::from(u16::MAX)) {
                short.extend(sequence.iter().map(|&id| id as u16));
            } else {
                let mut long: Vec<u32> = short.iter().map(|&id| id.into()).collect();
                long.extend(sequence);
                self.tokens = Tokens::Long(long);
            }
        } else if let Tokens::Long(long) = &mut self.tokens {
            long.extend(sequence);
        }
        let end = match &self.tokens {
            Tokens::Short(short) => short.len(),
            Tokens::Long(long) => long.len(),
        };
        self.ends.push(end);
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    fn range(&self, index: usize) -> std::ops::Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start..self.ends[index]
    }

    /// The length of a sequence.
    pub(super) fn tokens(&self, index: usize) -> usize {
        self.range(index).len()
    }

    /// Appends a sequence to a list.
    pub(super) fn append(&self, index: usize, to: &mut Vec<i32>) {
        let range = self.range(index);
        // Vocabularies have at most 2^24 tokens.
        match &self.tokens {
            Tokens::Short(short) => to.extend(short[range].iter().map(|&id| i32::from(id))),
            Tokens::Long(long) => to.extend(long[range].iter().map(|&id| id as i32)),
        }
    }
}

/// Texts, concatenated.
#[derive(Debug, Default)]
pub(super) struct Texts {
    text: String,
    ends: Vec<usize>,
}

impl Texts {
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    pub(super) fn get(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_two_bytes_become_ids_of_four() {
        let mut ids = Ids::new();
        let sequences: [&[u32]; 4] = [&[1, 65_535], &[], &[65_536], &[2, 3]];
        sequences.iter().for_each(|sequence| ids.push(sequence));
        assert_eq!(ids.len(), 4);
        for (index, sequence) in sequences.iter().enumerate() {
            let mut found = Vec::new();
            ids.append(index, &mut found);
            assert_eq!(found, sequence.iter().map(|&id| id as i32).collect::<Vec<_>>());
            assert_eq!(ids.tokens(index), sequence.len());
        }
    }
}
