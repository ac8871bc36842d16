//! The member name that is expected next, told without looking for its end.

/// A name as it is mostly written: its text without escapes, and a quote.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The first bytes of it, and which of their bits count.
    head: u128,
    mask: u128,
    /// All of it.
    written: Box<[u8]>,
}

/// Bytes that are compared at once.
const HEAD: usize = 16;

impl Expected {
    /// `None`: the name cannot be written without escapes.
    pub fn new(name: &str) -> Option<Self> {
        if name.bytes().any(|byte| byte < 0x20 || matches!(byte, b'"' | b'\\')) {
            return None;
        }
        let written: Box<[u8]> = name.bytes().chain([b'"']).collect();
        let (mut head, mut mask) = ([0; HEAD], [0; HEAD]);
        for ((head, mask), byte) in head.iter_mut().zip(&mut mask).zip(&written) {
            (*head, *mask) = (*byte, 0xFF);
        }
        Some(Self { head: u128::from_le_bytes(head), mask: u128::from_le_bytes(mask), written })
    }

    /// Bytes of the name and its closing quote.
    #[inline(always)]
    pub(super) fn written(&self) -> usize {
        self.written.len()
    }

    /// `bytes`, which follow an opening quote, are this name and its closing quote. May be false for the last few
    /// bytes of a chunk.
    #[inline(always)]
    pub(super) fn begins(&self, bytes: &[u8]) -> bool {
        let Some(head) = bytes.first_chunk::<HEAD>() else { return false };
        (u128::from_le_bytes(*head) ^ self.head) & self.mask == 0
            && (self.written.len() <= HEAD || bytes.starts_with(&self.written))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_with_escapes_are_never_expected() {
        for name in ["\"", "a\\b", "\n", "a\u{1}"] {
            assert!(Expected::new(name).is_none(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn tells_its_name_from_all_others(name in "[ab€]{0,20}", other in "[ab€]{0,20}", after in "[:ab\"]{16}") {
            let expected = Expected::new(&name).expect("no escapes");
            prop_assert_eq!(expected.written(), name.len() + 1);
            let (own, other) = (format!("{name}\"{after}"), format!("{other}\"{after}"));
            let other_too = other.starts_with(&format!("{name}\""));
            let begins = [&*own, &*other, &*name].map(|text| expected.begins(text.as_bytes()));
            prop_assert_eq!(begins, [true, other_too, false]);
        }
    }
}
