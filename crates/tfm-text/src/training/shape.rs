//! Which strings may be a piece: short, inside a word, and of one script.

use unicode_script::{Script, UnicodeScript};

/// The longest piece, in characters.
pub(super) const LONGEST: usize = 16;

/// What decides whether strings may be joined to a piece. That two shapes join depends on them
/// alone, so a search never looks at the strings themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    characters: u8,
    has_space: bool,
    /// `None` for what goes with any script: spaces and combining marks.
    script: Option<Script>,
}

impl Shape {
    /// The shape of one character.
    pub(super) fn of(character: char) -> Self {
        let has_space = character == '▁';
        let script = match character.script() {
            _ if has_space => None,
            Script::Inherited => None,
            // Japanese writes a word in all three; the mark of long vowels is shared by two.
            Script::Hiragana | Script::Katakana => Some(Script::Han),
            _ if character == 'ー' => Some(Script::Han),
            script => Some(script),
        };
        Shape { characters: 1, has_space, script }
    }

    /// The shape of this string with `next` behind it, if that may be a piece: a space stands at
    /// the beginning only, and letters, digits and signs of different scripts stay apart.
    pub(super) fn join(self, next: Shape) -> Option<Shape> {
        let characters = self.characters + next.characters;
        let script = match (self.script, next.script) {
            (Some(a), Some(b)) if a != b => return None,
            (a, b) => a.or(b),
        };
        (usize::from(characters) <= LONGEST && !next.has_space).then_some(Shape {
            characters,
            has_space: self.has_space,
            script,
        })
    }

    /// Number of characters.
    pub(super) const fn len(self) -> u8 {
        self.characters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_piece(text: &str) -> bool {
        let mut shapes = text.chars().map(Shape::of);
        let first = shapes.next().unwrap();
        shapes.try_fold(first, Shape::join).is_some()
    }

    #[test]
    fn pieces_are_short_and_of_one_script() {
        for piece in ["▁the", "e\u{301}t", "▁...", "2024", "ひらカタ漢ー", "▁", "aaaaaaaaaaaaaaaa"]
        {
            assert!(is_piece(piece), "{piece}");
        }
        for other in ["a▁", "▁▁", "a1", "it's", "aя", "aaaaaaaaaaaaaaaaa"] {
            assert!(!is_piece(other), "{other}");
        }
    }
}
