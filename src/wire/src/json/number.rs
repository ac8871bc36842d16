//! Numbers by their text (RFC 8259 section 6), one byte at a time. Their value is nobody's business here.

/// Which part of a number the last byte was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Minus,
    /// A leading zero, after which no digit may come.
    Zero,
    Whole,
    Point,
    Fraction,
    /// `e` or `E`.
    Mark,
    Sign,
    Power,
}

impl Part {
    /// The part that a number's first byte is.
    pub(super) fn start(byte: u8) -> Option<Self> {
        match byte {
            b'-' => Some(Self::Minus),
            b'0' => Some(Self::Zero),
            b'1'..=b'9' => Some(Self::Whole),
            _ => None,
        }
    }

    /// The part that `byte` is, if the number goes on with it.
    #[inline]
    pub(super) fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Whole, b'0'..=b'9') => Some(Self::Whole),
            (Self::Minus, _) => Self::start(byte).filter(|part| *part != Self::Minus),
            (Self::Zero | Self::Whole, b'.') => Some(Self::Point),
            (Self::Point | Self::Fraction, b'0'..=b'9') => Some(Self::Fraction),
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Some(Self::Mark),
            (Self::Mark, b'+' | b'-') => Some(Self::Sign),
            (Self::Mark | Self::Sign | Self::Power, b'0'..=b'9') => Some(Self::Power),
            _ => None,
        }
    }

    /// The number may end here.
    pub(super) fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Power)
    }
}
