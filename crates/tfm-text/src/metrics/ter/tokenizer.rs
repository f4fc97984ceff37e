//! How TER cuts a line into words: Tercom's tokeniser, with sacreBLEU's character ranges.

use super::Ter;
use crate::metrics::words::{resolve_entities, set_apart, western_with_possessives};

impl Ter {
    /// The line with its words apart.
    pub(super) fn tokenize(&self, line: &str) -> String {
        let mut line = if self.case_sensitive { line.to_owned() } else { line.to_lowercase() };
        if self.normalized && !line.is_empty() {
            line = normalize(&line);
            if self.asian_support {
                line = set_apart(&line, |c| is_ideograph(c) || is_asian_punctuation(c));
            }
        }
        if self.no_punct {
            line.retain(|c| !".,?:;!\"()".contains(c));
            if self.asian_support {
                line.retain(|c| !is_asian_punctuation(c));
            }
        }
        line
    }
}

/// Sets punctuation apart, as `mteval-v13a` does, and the `'s` of English too.
fn normalize(line: &str) -> String {
    let line = resolve_entities(line.replace("\n-", "").replace('\n', " "));
    western_with_possessives(format!(" {line} "))
}

/// Characters that are words of their own. The last range is as wide as sacreBLEU has it.
fn is_ideograph(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' // unified ideographs
        | '\u{31c0}'..='\u{31ef}' | '\u{2e80}'..='\u{2eff}' // strokes and radicals
        | '\u{3300}'..='\u{33ff}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe4f}' // older forms
        | '\u{3200}'..='\u{3f22}' // in circles
    )
}

/// Marks of Chinese, Japanese and Korean, in their own forms and in full width.
fn is_asian_punctuation(c: char) -> bool {
    matches!(c,
        '\u{3001}' | '\u{3002}' | '\u{3008}'..='\u{3011}' | '\u{3014}'..='\u{301f}'
        | '\u{ff61}'..='\u{ff65}' | '\u{30fb}'
        | '\u{ff0e}' | '\u{ff0c}' | '\u{ff1f}' | '\u{ff1a}' | '\u{ff1b}' | '\u{ff01}' | '\u{ff02}'
        | '\u{ff08}' | '\u{ff09}'
    )
}
