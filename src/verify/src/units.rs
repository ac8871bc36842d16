//! The units of an event stream: where its bytes are cut (SPEC section 7).

/// What stands before the bytes that are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing: the stream begins here.
    Start,
    /// A unit whose last byte is CR.
    CarriageReturn,
    /// A unit whose last byte is LF.
    LineFeed,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The units of `rest`, in their order.
#[derive(Clone, Copy)]
pub(crate) struct Units<'a> {
    rest: &'a [u8],
    before: Before,
}

impl<'a> Units<'a> {
    pub(crate) fn of(bytes: &'a [u8], before: Before) -> Self {
        Units { rest: bytes, before }
    }

    /// Where the first line of the next unit begins.
    fn line(&self) -> usize {
        match self.before {
            Before::Start if self.rest.starts_with(BYTE_ORDER_MARK) => BYTE_ORDER_MARK.len(),
            Before::CarriageReturn if self.rest.first() == Some(&b'\n') => 1,
            _ => 0,
        }
    }
}

impl<'a> Iterator for Units<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut line = self.line();
        let mut at = line;
        while let Some(byte) = self.rest.get(at) {
            at += 1;
            match byte {
                b'\r' | b'\n' if at - 1 == line => {
                    self.before = if *byte == b'\r' { Before::CarriageReturn } else { Before::LineFeed };
                    break;
                }
                b'\r' => {
                    at += usize::from(self.rest.get(at) == Some(&b'\n'));
                    line = at;
                }
                b'\n' => line = at,
                _ => {}
            }
        }
        let (unit, rest) = self.rest.split_at_checked(at)?;
        self.rest = rest;
        (!unit.is_empty()).then_some(unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bytes: &[u8], before: Before, expected: &[&[u8]]) {
        let found: Vec<&[u8]> = Units::of(bytes, before).collect();
        assert_eq!(found, expected, "{}", bytes.escape_ascii());
    }

    #[test]
    fn a_unit_ends_after_the_line_end_of_a_blank_line() {
        check(b"", Before::Start, &[]);
        check(b"data: 1\n\ndata: 2\n\n", Before::Start, &[b"data: 1\n\n", b"data: 2\n\n"]);
        check(b"data: 1\r\rdata: 2\r\r", Before::Start, &[b"data: 1\r\r", b"data: 2\r\r"]);
        check(b"id: 1\ndata: 1\n\n\n", Before::Start, &[b"id: 1\ndata: 1\n\n", b"\n"]);
        check(b"data: cut", Before::Start, &[b"data: cut"]);
    }

    #[test]
    fn the_line_feed_after_a_carriage_return_begins_the_next_unit() {
        check(
            b"data: 1\r\n\r\ndata: 2\r\n\r\n",
            Before::Start,
            &[b"data: 1\r\n\r", b"\ndata: 2\r\n\r", b"\n"],
        );
        check(b"data: 3\n\r\n\n", Before::Start, &[b"data: 3\n\r", b"\n\n"]);
        check(b"\r\n\r\n", Before::Start, &[b"\r", b"\n\r", b"\n"]);
    }

    #[test]
    fn a_byte_order_mark_is_one_at_the_start_of_the_stream_only() {
        check(b"\xef\xbb\xbf\ndata: 1\n\n", Before::Start, &[b"\xef\xbb\xbf\n", b"data: 1\n\n"]);
        check(b"\xef\xbb\xbf\ndata: 1\n\n", Before::LineFeed, &[b"\xef\xbb\xbf\ndata: 1\n\n"]);
        check(b"\n\xef\xbb\xbf\r\r", Before::Start, &[b"\n", b"\xef\xbb\xbf\r\r"]);
    }

    #[test]
    fn what_came_before_decides_what_a_line_feed_is() {
        check(b"\ndata: 2\n\n", Before::CarriageReturn, &[b"\ndata: 2\n\n"]);
        check(b"\ndata: 2\n\n", Before::LineFeed, &[b"\n", b"data: 2\n\n"]);
        check(b"data: 2\n\n", Before::CarriageReturn, &[b"data: 2\n\n"]);
    }

    proptest! {
        #[test]
        fn units_put_together_are_the_bytes_and_going_on_from_any_of_them_cuts_the_same(
            bytes in proptest::collection::vec(proptest::sample::select(b"\r\na:\xef\xbb\xbf".to_vec()), 0..60),
            pick in 0usize..60,
        ) {
            let units: Vec<&[u8]> = Units::of(&bytes, Before::Start).collect();
            prop_assert_eq!(units.concat(), bytes.clone());
            let from = pick.min(units.len());
            let before = match units[..from].last().and_then(|unit| unit.last()) {
                None => Before::Start,
                Some(b'\r') => Before::CarriageReturn,
                Some(_) => Before::LineFeed,
            };
            let rest = units[from..].concat();
            prop_assert_eq!(Units::of(&rest, before).collect::<Vec<_>>(), &units[from..]);
        }
    }
}
