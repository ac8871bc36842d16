//! Which values of a JSON body are meant: a JSON Pointer (RFC 6901) in which `*` stands for any one member or element
//! and `**` for any number of them, also none.

use std::fmt;
use std::sync::Arc;

/// Most characters of a path.
pub(crate) const PATH_CHARS_MAX: usize = 128;
/// Most tokens of a path; one bit of [`Reach`] each.
const TOKENS_MAX: usize = 32;

/// One path, compiled.
#[derive(Clone)]
pub struct ValuePath {
    text: Arc<str>,
    tokens: Arc<[Token]>,
}

#[derive(Debug)]
enum Token {
    Name(Box<str>),
    Any,
    AnyDepth,
}

/// How far a walk from the root of a document has come along a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reach(u64);

impl ValuePath {
    /// `None` unless it is `/`-led tokens, at most 32, in at most 128 characters, with RFC 6901's `~0` and `~1`.
    pub fn parse(text: &str) -> Option<Self> {
        let tokens = text.strip_prefix('/')?.split('/').map(Token::parse).collect::<Option<Vec<_>>>()?;
        let fits = tokens.len() <= TOKENS_MAX && text.chars().count() <= PATH_CHARS_MAX;
        fits.then(|| Self { text: text.into(), tokens: tokens.into() })
    }

    /// As it was written.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Where a walk begins: at the whole document.
    pub fn root(&self) -> Reach {
        self.close(1)
    }

    /// One step further, to the member or element with this name or index.
    pub fn step(&self, reach: Reach, token: &str) -> Reach {
        let mut next = 0;
        for (at, wanted) in self.tokens.iter().enumerate().filter(|(at, _)| reach.0 & 1 << at != 0) {
            next |= match wanted {
                Token::AnyDepth => 1 << at,
                Token::Any => 1 << (at + 1),
                Token::Name(name) => u64::from(**name == *token) << (at + 1),
            };
        }
        self.close(next)
    }

    /// One step further, to the element with this index.
    pub(crate) fn step_into(&self, reach: Reach, index: usize) -> Reach {
        let mut digits = [0; 20];
        let mut from = digits.len();
        let mut rest = index;
        loop {
            from -= 1;
            digits[from] = b'0' + (rest % 10) as u8; // one digit
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.step(reach, std::str::from_utf8(&digits[from..]).unwrap_or_default())
    }

    /// The one member that leads on, where there is only one.
    pub(crate) fn only_name(&self, reach: Reach) -> Option<&str> {
        let at = reach.0.trailing_zeros() as usize; // at most 64
        match self.tokens.get(at) {
            Some(Token::Name(name)) if reach.0.count_ones() == 1 => Some(name),
            _ => None,
        }
    }

    /// Whether it may mean more than one value.
    pub(crate) fn is_wild(&self) -> bool {
        self.tokens.iter().any(|token| !matches!(token, Token::Name(_)))
    }

    /// Whether it means the whole document, or each member or element of it.
    pub(crate) fn takes_all(&self) -> bool {
        let nameless = |token: &Token| !matches!(token, Token::Name(_));
        let root = self.root();
        self.tokens.iter().all(nameless) && (self.is_met(root) || self.is_met(self.step(root, "*")))
    }

    /// Whether the value that the walk has come to is one that is meant.
    pub fn is_met(&self, reach: Reach) -> bool {
        reach.0 & 1 << self.tokens.len() != 0
    }

    /// Whether a value below the one that the walk has come to can be meant.
    pub(crate) fn goes_on(&self, reach: Reach) -> bool {
        reach.0 & !(1 << self.tokens.len()) != 0
    }

    /// Whether a value is meant only below the one that the walk has come to, and at a known depth.
    pub(crate) fn has_to_go_on(&self, reach: Reach) -> bool {
        let at = |at: usize| reach.0 & 1 << at != 0;
        let loose =
            self.tokens.iter().enumerate().any(|(n, token)| at(n) && matches!(token, Token::AnyDepth));
        self.goes_on(reach) && !self.is_met(reach) && !loose
    }

    /// Whether nothing at or below the value that the walk has come to can be meant.
    pub fn is_over(reach: Reach) -> bool {
        reach.0 == 0
    }

    /// `**` may stand for nothing.
    fn close(&self, mut states: u64) -> Reach {
        for (at, token) in self.tokens.iter().enumerate() {
            if matches!(token, Token::AnyDepth) && states & 1 << at != 0 {
                states |= 1 << (at + 1);
            }
        }
        Reach(states)
    }
}

impl Token {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => return Some(Self::Any),
            "**" => return Some(Self::AnyDepth),
            _ => {}
        }
        let mut name = String::with_capacity(text.len());
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            name.push(match c {
                '~' => match rest.next()? {
                    '0' => '~',
                    '1' => '/',
                    _ => return None,
                },
                c => c,
            });
        }
        Some(Self::Name(name.into()))
    }
}

impl PartialEq for ValuePath {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for ValuePath {}

impl fmt::Debug for ValuePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meets(path: &str, at: &[&str]) -> bool {
        let path = ValuePath::parse(path).unwrap();
        path.is_met(at.iter().fold(path.root(), |reach, token| path.step(reach, token)))
    }

    #[test]
    fn names_stars_and_depths_are_told_apart() {
        assert!(meets("/messages/*/content", &["messages", "0", "content"]));
        assert!(!meets("/messages/*/content", &["messages", "content"]));
        assert!(!meets("/messages/*/content", &["messages", "0", "content", "x"]));
        assert!(!meets("/messages", &[]));
        for at in [&["content"][..], &["a", "content"], &["a", "b", "content"]] {
            assert!(meets("/**/content", at), "{at:?}");
        }
        assert!(!meets("/**/content", &["a", "contents"]));
        assert!(meets("/**", &[]));
        assert!(meets("/a/**/b/**/c", &["a", "x", "b", "b", "c"]));
        assert!(!meets("/a/**/b/**/c", &["a", "x", "c"]));
        assert!(meets("/a~1b/~0", &["a/b", "~"]));
        assert!(meets("/", &[""]));
        assert!(meets("/a*", &["a*"]) && !meets("/a*", &["ab"]));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let long = format!("/{}", "x".repeat(PATH_CHARS_MAX));
        let deep = "/x".repeat(TOKENS_MAX + 1);
        for text in ["", "a", "a/b", "/~", "/~2", "/a~", &long, &deep] {
            assert_eq!(ValuePath::parse(text), None, "{text}");
        }
        assert!(ValuePath::parse(&"/x".repeat(TOKENS_MAX)).is_some());
    }
}
