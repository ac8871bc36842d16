//! Widths of the standard fonts Helvetica and Helvetica-Bold, in thousandths of their size, from U+0020 to U+007E.

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Font {
    Plain,
    Bold,
}

#[rustfmt::skip]
const PLAIN: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556,
    1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778,
    667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556,
    333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556,
    556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

#[rustfmt::skip]
const BOLD: [u16; 95] = [
    278, 333, 474, 556, 556, 889, 722, 238, 333, 333, 389, 584, 278, 333, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 333, 333, 584, 584, 584, 611,
    975, 722, 722, 722, 722, 667, 611, 778, 722, 278, 556, 722, 611, 833, 722, 778,
    667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 333, 278, 333, 584, 556,
    333, 556, 611, 556, 611, 556, 333, 611, 611, 278, 278, 556, 278, 889, 611, 611,
    611, 611, 389, 556, 333, 611, 556, 778, 556, 556, 500, 389, 280, 389, 584,
];

impl Font {
    /// How wide a text is at that size. What the fonts cannot show counts as a question mark, as it is written.
    pub fn width(self, text: &str, size: f32) -> f32 {
        let widths = if self == Self::Bold { &BOLD } else { &PLAIN };
        let of = |byte: u8| widths.get(usize::from(byte.saturating_sub(b' '))).copied().unwrap_or(556);
        let sum: u32 = shown(text).iter().map(|byte| u32::from(of(*byte))).sum();
        sum as f32 * size / 1000.0 // texts are short
    }
}

/// The bytes by which the fonts show a text.
pub(crate) fn shown(text: &str) -> Vec<u8> {
    text.chars().map(|char| if matches!(char, ' '..='~') { char as u8 } else { b'?' }).collect() // ASCII fits
}
