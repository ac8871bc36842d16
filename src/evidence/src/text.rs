//! Text from outside, made fit for an entry (SPEC section 1: no noncharacters; bounded lengths).

use std::borrow::Cow;

/// Most code points of a name in an entry; longer text is cut.
pub const NAME_CHARS_MAX: usize = 128;
/// Most code points of a free text in an entry; longer text is cut.
pub const TEXT_CHARS_MAX: usize = 512;

/// `text` cut to [`NAME_CHARS_MAX`] code points with noncharacters and control characters replaced by U+FFFD.
pub fn name(text: &str) -> Cow<'_, str> {
    fit(text, NAME_CHARS_MAX)
}

/// `text` cut to [`TEXT_CHARS_MAX`] code points with noncharacters and control characters replaced by U+FFFD.
pub fn text(text: &str) -> Cow<'_, str> {
    fit(text, TEXT_CHARS_MAX)
}

fn fit(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max && text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Cow::Borrowed(text);
    }
    let cut = text.char_indices().nth(max).map_or(text, |(at, _)| &text[..at]);
    if cut.chars().any(is_unfit) {
        Cow::Owned(cut.chars().map(|c| if is_unfit(c) { '\u{fffd}' } else { c }).collect())
    } else {
        Cow::Borrowed(cut)
    }
}

/// Whether an entry can hold `text` as it is, its length aside.
pub fn is_fit(text: &str) -> bool {
    !text.chars().any(is_unfit)
}

/// Noncharacters are not admitted; control characters would take six bytes each in a line and mislead terminals.
fn is_unfit(c: char) -> bool {
    let n = u32::from(c);
    c.is_control() || (0xfdd0..=0xfdef).contains(&n) || n & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_at_a_character() {
        assert_eq!(name(&"é".repeat(200)).chars().count(), NAME_CHARS_MAX);
        assert_eq!(name("plain"), "plain");
    }

    #[test]
    fn noncharacters_are_replaced() {
        assert_eq!(name("a\u{fdd0}\u{ffff}\u{10fffe}b"), "a\u{fffd}\u{fffd}\u{fffd}b");
        assert_eq!(name("a\nb\u{7f}"), "a\u{fffd}b\u{fffd}");
    }
}
