//! A trie over bytes, for finding every key that starts at a place in a text.
//!
//! Nodes are laid out breadth-first, so the children of a node are neighbours: a node stores where
//! they begin and how many there are. A node with many children (the first character of a word)
//! gets a table with one entry a byte.

/// Nodes with more children than this are looked up in a table rather than searched.
const NARROW: usize = 8;
const NO_VALUE: u32 = u32::MAX;
const NO_CHILD: u32 = u32::MAX;

/// The number of a node, which stands for the bytes read so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

#[derive(Debug)]
struct Node {
    value: u32,
    /// The first child, or for a wide node its index in `tables`.
    children: u32,
    count: u16,
}

/// Maps byte strings to numbers below `u32::MAX`.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    /// The byte that leads to each node.
    labels: Vec<u8>,
    tables: Vec<[u32; 256]>,
}

impl Trie {
    /// Builds the trie. Of equal keys the last one given stays.
    pub(crate) fn new<'k>(keys: impl IntoIterator<Item = (&'k [u8], u32)>) -> Self {
        let mut keys: Vec<(&[u8], u32)> = keys.into_iter().collect();
        keys.sort_by_key(|&(key, _)| key);

        let mut trie = Trie { nodes: Vec::new(), labels: Vec::new(), tables: Vec::new() };
        // What each node still has to place: its range of sorted keys, and how many bytes of them
        // lie above it.
        let mut pending = vec![(0, keys.len(), 0)];
        trie.push_node(0);
        for node in 0.. {
            let Some(&(mut begin, end, depth)) = pending.get(node) else { break };
            while begin < end && keys[begin].0.len() == depth {
                trie.nodes[node].value = keys[begin].1;
                begin += 1;
            }
            let first_child = trie.nodes.len();
            while begin < end {
                let label = keys[begin].0[depth];
                let same = keys[begin..end].partition_point(|(key, _)| key[depth] == label);
                trie.push_node(label);
                pending.push((begin, begin + same, depth + 1));
                begin += same;
            }
            trie.link(node, first_child);
        }
        trie
    }

    fn push_node(&mut self, label: u8) {
        self.nodes.push(Node { value: NO_VALUE, children: 0, count: 0 });
        self.labels.push(label);
    }

    /// Makes the nodes from `first` to the last one the children of `parent`.
    fn link(&mut self, parent: usize, first: usize) {
        let count = self.nodes.len() - first;
        let children = if count > NARROW {
            let mut table = [NO_CHILD; 256];
            for child in first..self.nodes.len() {
                table[usize::from(self.labels[child])] = child as u32;
            }
            self.tables.push(table);
            self.tables.len() - 1
        } else {
            first
        };
        self.nodes[parent].children = children as u32;
        self.nodes[parent].count = count as u16;
    }

    /// The node before any byte is read.
    pub(crate) const fn root(&self) -> NodeId {
        NodeId(0)
    }

    /// Reads one more byte; `None` if no key goes on like this.
    #[inline]
    pub(crate) fn step(&self, from: NodeId, byte: u8) -> Option<NodeId> {
        let node = &self.nodes[from.0 as usize];
        let children = node.children as usize;
        let count = usize::from(node.count);
        if count > NARROW {
            let child = self.tables[children][usize::from(byte)];
            (child != NO_CHILD).then_some(NodeId(child))
        } else {
            let labels = &self.labels[children..children + count];
            labels.iter().position(|&label| label == byte).map(|i| NodeId((children + i) as u32))
        }
    }

    /// Reads all of `bytes` from a node.
    pub(crate) fn walk(&self, from: NodeId, bytes: &[u8]) -> Option<NodeId> {
        bytes.iter().try_fold(from, |node, &byte| self.step(node, byte))
    }

    /// The number of the key that ends at this node.
    #[inline]
    pub(crate) fn value(&self, node: NodeId) -> Option<u32> {
        let value = self.nodes[node.0 as usize].value;
        (value != NO_VALUE).then_some(value)
    }

    /// The number of exactly this key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<u32> {
        self.value(self.walk(self.root(), key)?)
    }

    /// Length and number of the longest key that `text` starts with.
    pub(crate) fn longest_prefix(&self, text: &[u8]) -> Option<(usize, u32)> {
        let mut node = self.root();
        let mut longest = None;
        for (i, &byte) in text.iter().enumerate() {
            let Some(next) = self.step(node, byte) else { break };
            node = next;
            if let Some(value) = self.value(node) {
                longest = Some((i + 1, value));
            }
        }
        longest
    }

    /// Whether some key begins with `byte`.
    pub(crate) fn starts_with(&self, byte: u8) -> bool {
        self.step(self.root(), byte).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_exactly_its_keys() {
        let keys: Vec<String> = (0..300).map(|i| format!("{i:b}x{i}")).collect();
        let trie = Trie::new(keys.iter().zip(0..).map(|(key, i)| (key.as_bytes(), i)));
        for (key, i) in keys.iter().zip(0..) {
            assert_eq!(trie.get(key.as_bytes()), Some(i));
            assert_eq!(
                trie.get(&key.as_bytes()[1..]),
                keys.iter().position(|k| k == &key[1..]).map(|i| i as u32)
            );
        }
    }

    #[test]
    fn longest_prefix_wins_in_narrow_and_wide_nodes() {
        let bytes: Vec<[u8; 1]> = (0..=255).map(|b| [b]).collect();
        let wide = bytes.iter().map(|b| (b.as_slice(), u32::from(b[0])));
        let trie = Trie::new(wide.chain([(b"ab".as_slice(), 1000), (b"abcd", 1001)]));
        assert_eq!(trie.longest_prefix(b"abcx"), Some((2, 1000)));
        assert_eq!(trie.longest_prefix(b"abcd"), Some((4, 1001)));
        assert_eq!(trie.longest_prefix(&[0xff, 0]), Some((1, 255)));
        assert_eq!(trie.longest_prefix(b""), None);
    }

    #[test]
    fn empty_trie_has_no_keys() {
        let trie = Trie::new([]);
        assert_eq!(trie.get(b""), None);
        assert!(!trie.starts_with(b'a'));
    }
}
