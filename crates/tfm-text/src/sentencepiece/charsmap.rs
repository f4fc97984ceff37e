//! The compiled normalisation rules of a SentencePiece model: longest match first, replaced by a
//! string.
//!
//! The file holds them as `<u32 size><double array><replacements>`. The double array (the layout of
//! the darts-clone library) is a trie in which the child of the node at `base` along byte `b` is at
//! `base ^ b`; a rule's number is the offset of its NUL-terminated replacement.

use super::utf8::valid_len;

/// The longest replacement accepted. Unicode's own longest compatibility decomposition takes 33
/// bytes; the bound keeps a crafted file from blowing up the text.
const MAX_REPLACEMENT: usize = 255;

/// How far a rule may reach. A crafted array can contain cycles; this bounds the walk.
const MAX_RULE: usize = 255;

#[derive(Debug)]
pub(super) struct CharsMap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl CharsMap {
    /// Reads `precompiled_charsmap`.
    pub(super) fn parse(blob: &[u8]) -> Result<Self, String> {
        let (size, rest) =
            blob.split_first_chunk().ok_or("the normalisation rules are cut short")?;
        let size = u32::from_le_bytes(*size) as usize;
        let (array, replacements) = rest.split_at_checked(size).ok_or_else(|| {
            format!("the normalisation rules announce {size} bytes but only {} follow", rest.len())
        })?;
        let longest = replacements.split(|&byte| byte == 0).map(<[u8]>::len).max().unwrap_or(0);
        if longest > MAX_REPLACEMENT {
            return Err(format!(
                "a normalisation rule writes {longest} bytes where at most {MAX_REPLACEMENT} are accepted"
            ));
        }
        Ok(CharsMap {
            units: array.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect(),
            replacements: replacements.to_vec(),
        })
    }

    /// The longest rule that matches at the start of `text`: the bytes it reads and what it writes.
    pub(super) fn longest_match(&self, text: &[u8]) -> Option<(usize, &[u8])> {
        let mut node = self.root()?;
        let mut longest = None;
        for (i, &byte) in text.iter().take(MAX_RULE).enumerate() {
            let Some(child) = self.child(node, byte) else { break };
            node = child;
            if let Some(offset) = self.rule(node) {
                longest = Some((i + 1, offset));
            }
        }
        longest.map(|(read, offset)| (read, self.replacement(offset)))
    }

    /// Whether `byte`, followed by any ASCII byte or by the end, passes unchanged.
    pub(super) fn keeps_ascii(&self, byte: u8) -> bool {
        match self.root().and_then(|root| self.child(root, byte)) {
            None => valid_len(&[byte]).is_some(),
            Some(node) => {
                self.rule(node).is_none() && (0..0x80).all(|next| self.child(node, next).is_none())
            }
        }
    }

    fn root(&self) -> Option<Node> {
        self.units.first().map(|&unit| Node { unit, base: offset(unit) })
    }

    fn child(&self, node: Node, byte: u8) -> Option<Node> {
        let index = node.base ^ u32::from(byte);
        let unit = *self.units.get(index as usize)?;
        (label(unit) == u32::from(byte)).then(|| Node { unit, base: index ^ offset(unit) })
    }

    /// Where in `replacements` the rule that ends at `node` points.
    fn rule(&self, node: Node) -> Option<usize> {
        if !has_leaf(node.unit) {
            return None;
        }
        self.units.get(node.base as usize).map(|&leaf| (leaf & 0x7fff_ffff) as usize)
    }

    fn replacement(&self, offset: usize) -> &[u8] {
        let tail = self.replacements.get(offset..).unwrap_or_default();
        tail.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

#[derive(Clone, Copy)]
struct Node {
    unit: u32,
    /// Children are at `base ^ byte`, the leaf at `base`.
    base: u32,
}

const fn has_leaf(unit: u32) -> bool {
    unit >> 8 & 1 == 1
}

/// The byte that leads here; a leaf keeps its top bit and so equals no byte.
const fn label(unit: u32) -> u32 {
    unit & 0x8000_00ff
}

const fn offset(unit: u32) -> u32 {
    (unit >> 10) << ((unit & 0x200) >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert!(CharsMap::parse(b"").is_err());
        assert!(CharsMap::parse(&[0xff; 4]).is_err());
        assert!(CharsMap::parse(&[9, 0, 0, 0, 1, 2]).is_err());
        let long = [[4, 0, 0, 0, 0, 0, 0, 0].as_slice(), &[b'x'; 300]].concat();
        assert!(CharsMap::parse(&long).unwrap_err().contains("300 bytes"));
    }

    #[test]
    fn a_hand_made_rule_matches() {
        // Root at 0 with base 256; 'a' at 256^97 has a leaf at base 512, which points to
        // replacement 1.
        let mut units = vec![0u32; 768];
        units[0] = 256 << 10;
        units[256 ^ 97] = ((256 ^ 97 ^ 512) << 10) | 1 << 8 | 97;
        units[512] = 0x8000_0001;
        let mut blob = ((units.len() * 4) as u32).to_le_bytes().to_vec();
        blob.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        blob.extend(b"\0bc\0");
        let map = CharsMap::parse(&blob).unwrap();
        assert_eq!(map.longest_match(b"aa"), Some((1, b"bc".as_slice())));
        assert_eq!(map.longest_match(b"b"), None);
        assert!(!map.keeps_ascii(b'a') && map.keeps_ascii(b'b') && !map.keeps_ascii(0x80));
    }
}
