//! What a request's path may be to upstreams that decode, cut, fold and join it in their own ways.

/// Most pieces of a path that are looked at; a longer one may be anything.
const PIECES_MAX: usize = 128;

/// A path as any reader may take it, decoded to the end.
pub(super) struct Reading(Option<Vec<Piece>>);

/// What stands between two slashes.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Piece {
    /// There is something between the slashes that are slashes to all.
    written: bool,
    /// What is read up to what may end it, without what may be left out, in small letters.
    name: String,
    /// The slash before it is one only to some: `%2f`, `\`.
    joined: bool,
    /// It has a `;`, behind which some read nothing up to the next slash.
    parameters: bool,
    /// It has what may end the whole path: `?`, `#`, NUL.
    ends: bool,
}

/// What a piece of a path must be.
pub(super) enum Wanted<'w> {
    Literal(&'w str),
    Anything,
}

impl Reading {
    pub(super) fn of(path: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        for part in path.strip_prefix('/')?.split('/') {
            let text = folded(&decoded(part));
            for (index, text) in text.split(['/', '\\']).enumerate() {
                let piece = Piece::new(text, !part.is_empty(), index > 0);
                if pieces.len() == PIECES_MAX || piece.name == ".." {
                    return Some(Self(None));
                }
                pieces.push(piece);
            }
        }
        Some(Self(Some(pieces)))
    }

    /// Whether some reader finds exactly these segments, at most 63.
    pub(super) fn may_be(&self, wanted: &[Wanted<'_>]) -> bool {
        let Some(pieces) = &self.0 else { return true };
        let whole = 1_u64 << wanted.len();
        // One bit for each number of segments found; those of `open` have a last one that goes on behind a joining slash.
        let (mut found, mut open) = (1_u64, 0_u64);
        for piece in pieces {
            let on = if piece.joined { open } else { 0 };
            let (mut next, mut next_open) = (on, on);
            if piece.name.is_empty() {
                next |= found;
            }
            for (at, wanted) in wanted.iter().enumerate().filter(|(at, _)| found & 1 << at != 0) {
                let (fits, goes_on) = match wanted {
                    Wanted::Literal(literal) => (piece.is_named(literal), piece.parameters),
                    Wanted::Anything => (piece.written, true),
                };
                next |= u64::from(fits) << (at + 1);
                next_open |= u64::from(fits && goes_on) << (at + 1);
            }
            if piece.ends && next & whole != 0 {
                return true;
            }
            (found, open) = (next, next_open);
        }
        found & whole != 0
    }
}

impl Piece {
    fn new(text: &str, written: bool, joined: bool) -> Self {
        let cut = text.split([';', '?', '#', '\0']).next().unwrap_or_default();
        let shown: String = cut.chars().filter(|c| !c.is_control()).flat_map(char::to_lowercase).collect();
        let spaced = shown.trim_matches(' ');
        let name = if spaced == ".." { spaced } else { spaced.trim_end_matches(['.', ' ']) };
        Self {
            written,
            name: name.into(),
            joined,
            parameters: text.contains(';'),
            ends: text.contains(['?', '#', '\0']),
        }
    }

    fn is_named(&self, literal: &str) -> bool {
        self.name.eq_ignore_ascii_case(literal.trim_end_matches('.'))
    }
}

/// Percent-decoded until nothing is left to decode.
fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        out.push(byte);
        while let [.., b'%', high, low] = out[..]
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            out.truncate(out.len() - 3);
            out.push(high << 4 | low);
        }
    }
    out
}

/// UTF-8 as the most lenient read it, overlong forms too, with what looks like ASCII made so.
pub(super) fn folded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let (bits, more) = match first {
            0xc0..=0xdf => (first & 0x1f, 1),
            0xe0..=0xef => (first & 0x0f, 2),
            0xf0..=0xf7 => (first & 0x07, 3),
            _ => (*first, 0),
        };
        let follows = tail.get(..more).filter(|follows| follows.iter().all(|byte| byte & 0xc0 == 0x80));
        let code = follows
            .unwrap_or_default()
            .iter()
            .fold(u32::from(bits), |code, byte| code << 6 | u32::from(byte & 0x3f));
        let read = follows.and_then(|_| char::from_u32(code)).filter(|_| more > 0 || first.is_ascii());
        text.push(plain(read.unwrap_or(char::REPLACEMENT_CHARACTER)));
        rest = &tail[follows.map_or(0, <[u8]>::len)..];
    }
    text
}

/// The ASCII that a character is taken for (NFKC and best-fit mappings).
fn plain(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{2044}' | '\u{2215}' | '\u{29f8}' => '/',
        '\u{2216}' | '\u{29f5}' | '\u{fe68}' => '\\',
        '\u{2024}' | '\u{fe52}' => '.',
        '\u{037e}' | '\u{fe54}' => ';',
        '\u{fe56}' => '?',
        '\u{fe5f}' => '#',
        '\u{fe6a}' => '%',
        '\u{017f}' => 's',
        '\u{00a0}' | '\u{3000}' => ' ',
        c => c,
    }
}

fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_to_the_end_and_folded() {
        for (path, expected) in [
            ("a%252Fb", "a/b"),
            ("%2%35%32f", "/"),
            ("%", "%"),
            ("%zz%4", "%zz%4"),
            ("%c0%af", "/"),
            ("%e0%80%af", "/"),
            ("%f0%80%80%af", "/"),
            ("%ef%bc%8f%ef%bd%81", "/a"),
            ("%ef%bc%852f", "%2f"),
            ("caf%C3%A9", "café"),
            ("%e9a%80", "\u{fffd}a\u{fffd}"),
            ("%f7%bf%bf%bf", "\u{fffd}"),
        ] {
            assert_eq!(folded(&decoded(path)), expected, "{path}");
        }
    }

    #[test]
    fn what_is_too_long_or_goes_up_may_be_anything() {
        let may_be = |path: &str| Reading::of(path).unwrap().may_be(&[Wanted::Literal("z")]);
        assert!(!may_be(&"/a".repeat(PIECES_MAX)) && may_be(&"/a".repeat(PIECES_MAX + 1)));
        for path in ["/a/..%2fb", "/a%5c..", "/a/..;x/b", "/%ef%bc%8e%c0%ae/b", "/.%00./b"] {
            assert_eq!(may_be(path), path != "/.%00./b", "{path}");
        }
        assert!(Reading::of("*").is_none());
    }
}
