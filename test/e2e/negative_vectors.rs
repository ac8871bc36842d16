//! What must be refused, is, by the program as it is built, and for the published reason.

use crate::published::{check, vectors};

#[test]
fn every_negative_vector_of_every_minor_is_refused_for_its_reason() {
    check(|vector| !vector.passes());
}

#[test]
fn a_dropped_swapped_repeated_or_torn_line_is_refused_at_its_sequence_number() {
    let first = vectors("v0.0");
    for class in ["reordered-deleted", "reordered-swap", "reordered-duplicate", "truncated-mid-line"] {
        let vector = first.iter().find(|vector| vector.name == class).unwrap();
        assert_eq!(vector.expect["exit"], 2, "{class}");
        assert!(vector.expect["seq"].is_u64(), "{class}");
        assert_eq!(vector.differences(), [""; 0]);
    }
}
