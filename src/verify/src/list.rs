//! Lists of entries that are chained by the hash of the line before (`spec/archive.md`, `spec/custody.md`).

use crate::hash::Hash;
use crate::view::View;

/// Longest line without its LF.
pub(crate) const LINE_BYTES_MAX: usize = 16_384;

/// The lines of a list; none if it does not end with LF, or a line is empty or too long.
pub(crate) fn lines(list: &[u8]) -> Option<Vec<&[u8]>> {
    if list.is_empty() {
        return Some(Vec::new());
    }
    let lines: Vec<&[u8]> = list.strip_suffix(b"\n")?.split(|byte| *byte == b'\n').collect();
    lines.iter().all(|line| (1..=LINE_BYTES_MAX).contains(&line.len())).then_some(lines)
}

/// Whether `entry` says that it is number `seq`, after a line with the hash `before`.
pub(crate) fn is_next(entry: View<'_>, seq: u64, before: Option<Hash>) -> bool {
    let prev = entry.member("prev").and_then(View::text);
    let prev = prev.map(|text| Hash::of_text("leaf:", text.as_bytes()));
    entry.member("seq").and_then(View::count) == Some(seq) && prev == before.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_ends_with_a_line_feed_and_has_no_empty_line() {
        assert_eq!(lines(b"").unwrap().len(), 0);
        assert_eq!(lines(b"a\nb\n").unwrap(), [b"a", b"b"]);
        for list in [&b"a"[..], b"a\nb", b"\n", b"a\n\n", b"\na\n", &[b'a'; LINE_BYTES_MAX + 1]] {
            assert_eq!(lines(list), None);
        }
        let mut longest = vec![b'a'; LINE_BYTES_MAX];
        longest.push(b'\n');
        assert!(lines(&longest).is_some());
        longest.insert(0, b'a');
        assert!(lines(&longest).is_none());
    }

    #[test]
    fn the_first_has_no_entry_before_it_and_the_others_name_theirs() {
        let hash = Hash::of(b"x");
        let next = format!(r#"{{"prev":"leaf:{}","seq":1}}"#, hash.hex());
        assert!(is_next(View::of(next.as_bytes()), 1, Some(hash)));
        assert!(is_next(View::of(br#"{"seq":0}"#), 0, None));
        for (entry, seq, before) in [
            (next.as_str(), 2, Some(hash)),
            (&next, 1, Some(Hash::of(b"y"))),
            (&next, 1, None),
            (r#"{"seq":1}"#, 1, Some(hash)),
            (r#"{"prev":"x","seq":1}"#, 1, Some(hash)),
            (r#"{"prev":"x","seq":0}"#, 0, None),
        ] {
            assert!(!is_next(View::of(entry.as_bytes()), seq, before), "{entry}");
        }
    }
}
