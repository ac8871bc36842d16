//! Text from outside, cut to a size that a receipt can hold.

/// Most bytes of a name that is kept. A longer one is cut at a character boundary and ends in `…`, so that it
/// is never equal to a name that was not cut.
pub const NAME_BYTES_MAX: usize = 128;

/// Most entries of a list of names.
pub const LIST_MAX: usize = 1024;

/// A bounded list of names, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// At most [`LIST_MAX`], each at most [`NAME_BYTES_MAX`] bytes, none empty.
    pub items: Vec<String>,
    /// Entries that did not fit.
    pub more: u64,
}

impl Names {
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.more == 0
    }

    pub(super) fn push(&mut self, name: String) {
        if name.is_empty() {
            return;
        }
        if self.items.len() < LIST_MAX {
            self.items.push(name);
        } else {
            self.more += 1;
        }
    }

    /// Adds a name unless it is there.
    pub(super) fn push_new(&mut self, name: &Clip) {
        if !self.items.iter().any(|item| name.is(item)) {
            self.push(name.to_name());
        }
    }
}

/// A name while it arrives in pieces. Its buffer is kept from one name to the next.
#[derive(Debug, Default)]
pub(super) struct Clip {
    bytes: Vec<u8>,
    cut: bool,
}

pub(super) const ELLIPSIS: &str = "…";

impl Clip {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.cut = false;
    }

    /// Takes what fits of the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let room = NAME_BYTES_MAX - self.bytes.len(); // INVARIANT: never longer
        let fits = piece.get(..room).unwrap_or(piece);
        self.cut |= fits.len() < piece.len();
        self.bytes.extend_from_slice(fits);
    }

    pub(super) fn set(&mut self, text: &[u8]) {
        self.clear();
        self.push(text);
    }

    /// What was kept, whether or not it is all.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether every reader takes the same name from it: no NUL, and no white space at an end.
    pub(super) fn is_plain(&self) -> bool {
        let text = valid_prefix(&self.bytes);
        text.trim() == text && !self.bytes.contains(&0)
    }

    /// Whether [`Self::to_name`] would give `name`.
    pub(super) fn is(&self, name: &str) -> bool {
        if self.cut { self.to_name() == name } else { self.bytes == name.as_bytes() }
    }

    pub(super) fn to_name(&self) -> String {
        if !self.cut {
            return valid_prefix(&self.bytes).to_owned();
        }
        let room = NAME_BYTES_MAX - ELLIPSIS.len();
        let mut name = valid_prefix(self.bytes.get(..room).unwrap_or(&self.bytes)).to_owned();
        name.push_str(ELLIPSIS);
        name
    }

    /// `None` if nothing came: an empty name says nothing.
    pub(super) fn to_some_name(&self) -> Option<String> {
        (!self.is_empty()).then(|| self.to_name())
    }
}

/// The characters that are whole. The tokenizer has checked UTF-8, so only a cut can have left a part of one.
fn valid_prefix(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pieces: &[&str]) -> String {
        let mut clip = Clip::default();
        pieces.iter().for_each(|piece| clip.push(piece.as_bytes()));
        clip.to_name()
    }

    #[test]
    fn a_name_that_fits_is_kept_whole() {
        assert_eq!(name(&["get_", "weather"]), "get_weather");
        assert_eq!(name(&[&"é".repeat(64)]), "é".repeat(64));
    }

    #[test]
    fn a_longer_name_is_cut_between_characters_and_shows_it() {
        assert_eq!(name(&[&"a".repeat(129)]), "a".repeat(125) + "…");
        assert_eq!(name(&["a", &"é".repeat(64)]), "a".to_owned() + &"é".repeat(62) + "…");
        assert_eq!(name(&[&"a".repeat(100), &"b".repeat(28), "c"]), "a".repeat(100) + &"b".repeat(25) + "…");
    }

    #[test]
    fn a_full_list_counts_the_rest() {
        let mut names = Names::default();
        (0..LIST_MAX + 8).for_each(|n| names.push(n.to_string()));
        names.push(String::new());
        assert_eq!((names.items.len(), names.more), (LIST_MAX, 8));
    }

    #[test]
    fn a_cut_name_is_found_again() {
        let mut names = Names::default();
        let mut clip = Clip::default();
        clip.set("x".repeat(200).as_bytes());
        names.push_new(&clip);
        names.push_new(&clip);
        assert_eq!(names.items.len(), 1);
    }
}
