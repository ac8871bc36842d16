use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment of RFC 3339 in microseconds since 1970; none for other forms, and before 1970.
pub fn moment(text: &str) -> Option<u64> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    u64::try_from(nanos / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_a_zone() {
        for text in
            ["1970-01-01T00:00:02.5Z", "1970-01-01T01:00:02.500+01:00", "1970-01-01t00:00:02.5000004z"]
        {
            assert_eq!(moment(text), Some(2_500_000), "{text}");
        }
        for text in ["1970-01-01T00:00:02", "1970-01-01 00:00:02", "1969-12-31T23:59:58Z", "2", ""] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}
