//! The tokens of all hypotheses of a sentence, as a tree of back-pointers: hypotheses share their
//! past.

/// A hypothesis's last token; its past is behind it.
pub(super) type Node = u32;

/// One token of one or more hypotheses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// What precedes it; itself at the root.
    parent: Node,
    pub(super) token: u32,
    /// The live hypothesis (numbered at that step) that it continued.
    pub(super) beam: u32,
    pub(super) log_probability: f32,
}

/// The tree. Its root is the decoder's start token.
#[derive(Debug, Clone)]
pub(super) struct History {
    entries: Vec<Entry>,
}

impl History {
    pub(super) const ROOT: Node = 0;

    pub(super) fn new(start: u32) -> Self {
        let root = Entry { parent: Self::ROOT, token: start, beam: 0, log_probability: 0.0 };
        History { entries: vec![root] }
    }

    pub(super) fn push(
        &mut self,
        parent: Node,
        token: u32,
        beam: u32,
        log_probability: f32,
    ) -> Node {
        self.entries.push(Entry { parent, token, beam, log_probability });
        (self.entries.len() - 1) as Node
    }

    pub(super) fn token(&self, node: Node) -> u32 {
        self.entries[node as usize].token
    }

    pub(super) fn parent(&self, node: Node) -> Node {
        self.entries[node as usize].parent
    }

    /// The entries from `node` back to the first after the root.
    pub(super) fn back(&self, node: Node) -> impl Iterator<Item = &Entry> {
        let mut node = node;
        std::iter::from_fn(move || {
            let entry = (node != Self::ROOT).then(|| &self.entries[node as usize])?;
            node = entry.parent;
            Some(entry)
        })
    }
}
