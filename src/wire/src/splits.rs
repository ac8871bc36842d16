//! Every way to cut some bytes that a test can afford. Tests only.

/// Runs `check` on the whole, on every cut into two, and on single bytes. Empty chunks are put in between,
/// because a body may deliver them.
pub(crate) fn every_split(bytes: &[u8], mut check: impl FnMut(&[&[u8]])) {
    check(&[bytes]);
    for at in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(at);
        check(&[head, &[], tail]);
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    check(&single);
}

/// `bytes` cut at the given places, in any order, each taken modulo the length.
pub(crate) fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|at| at % (bytes.len() + 1)).collect();
    places.sort_unstable();
    let mut chunks = Vec::with_capacity(places.len() + 1);
    let mut start = 0;
    for at in places {
        chunks.push(&bytes[start..at]);
        start = at;
    }
    chunks.push(&bytes[start..]);
    chunks
}
