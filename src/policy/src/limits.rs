//! Bounds of a call: how much of it there may be, and how long each part may take.

use std::ops::RangeInclusive;
use std::time::Duration;

/// One key of `limits`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// The key. Its ending is the unit.
    pub key: &'static str,
    /// Used where the document says nothing. Part of version 1: it never changes.
    pub default: u64,
    /// Least value.
    pub min: u64,
    /// Greatest value.
    pub max: u64,
}

impl Limit {
    pub(crate) fn range(&self) -> RangeInclusive<u64> {
        self.min..=self.max
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

const fn limit(key: &'static str, default: u64, min: u64, max: u64) -> Limit {
    Limit { key, default, min, max }
}

/// Every key of `limits`, in the order of [`Limits`].
pub const LIMITS: [Limit; LIMIT_COUNT] = [
    limit("request_bytes_max", 16 * MIB, KIB, GIB),
    limit("response_bytes_max", 64 * MIB, KIB, GIB),
    limit("held_bytes_max", 4 * MIB, KIB, 64 * MIB),
    limit("event_bytes_max", 256 * KIB, KIB, 64 * MIB),
    limit("header_bytes_max", 64 * KIB, KIB, MIB),
    limit("connect_ms", 5 * SECOND, 1, 5 * MINUTE),
    limit("headers_ms", 5 * MINUTE, 1, HOUR),
    limit("first_event_ms", 2 * MINUTE, 1, HOUR),
    limit("between_events_ms", MINUTE, 1, HOUR),
    limit("total_ms", 15 * MINUTE, 1, 24 * HOUR),
    limit("keepalive_ms", 15 * SECOND, 1, HOUR),
];

const LIMIT_COUNT: usize = 11;

/// Values as written: one place for each key of [`LIMITS`].
pub(crate) type LimitValues = [Option<u64>; LIMIT_COUNT];

/// The bounds in force for a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most bytes of a request body.
    pub request_bytes_max: u64,
    /// Most bytes of a response body.
    pub response_bytes_max: u64,
    /// Most bytes of one response that may be held back while a unit is judged.
    pub held_bytes_max: u64,
    /// Most bytes of one event of a stream.
    pub event_bytes_max: u64,
    /// Most bytes of a request's or a response's headers.
    pub header_bytes_max: u64,
    /// Until the upstream accepts a connection.
    pub connect: Duration,
    /// From the end of the request to the response's headers.
    pub headers: Duration,
    /// From the response's headers to the first bytes of its body.
    pub first_event: Duration,
    /// Of silence inside a body.
    pub between_events: Duration,
    /// Of the whole call.
    pub total: Duration,
    /// Of a client that gets nothing because what came is held back, until it is told that the stream lives.
    pub keepalive: Duration,
}

impl Limits {
    /// The first value written for each key, from the narrowest scope to the widest, or the default.
    pub(crate) fn resolve(scopes: &[&LimitValues]) -> Self {
        let mut values = LIMITS.map(|limit| limit.default);
        for (index, value) in values.iter_mut().enumerate() {
            if let Some(written) = scopes.iter().find_map(|scope| scope[index]) {
                *value = written;
            }
        }
        let [
            request,
            response,
            held,
            event,
            header,
            connect,
            headers,
            first_event,
            between_events,
            total,
            keepalive,
        ] = values;
        Self {
            request_bytes_max: request,
            response_bytes_max: response,
            held_bytes_max: held,
            event_bytes_max: event,
            header_bytes_max: header,
            connect: Duration::from_millis(connect),
            headers: Duration::from_millis(headers),
            first_event: Duration::from_millis(first_event),
            between_events: Duration::from_millis(between_events),
            total: Duration::from_millis(total),
            keepalive: Duration::from_millis(keepalive),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::resolve(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_lie_inside_their_ranges() {
        for limit in LIMITS {
            assert!(limit.range().contains(&limit.default), "{}", limit.key);
        }
    }

    #[test]
    fn the_narrowest_scope_wins_for_each_key_by_itself() {
        let (mut route, mut all) = (LimitValues::default(), LimitValues::default());
        route[0] = Some(5000);
        all[0] = Some(6000);
        all[9] = Some(7);
        let limits = Limits::resolve(&[&route, &all]);
        assert_eq!(limits.request_bytes_max, 5000);
        assert_eq!(limits.total, Duration::from_millis(7));
        assert_eq!(limits.connect, Limits::default().connect);
    }

    #[test]
    fn the_defaults_of_version_1_never_change() {
        let expected =
            [16777216, 67108864, 4194304, 262144, 65536, 5000, 300000, 120000, 60000, 900000, 15000];
        assert_eq!(LIMITS.map(|limit| limit.default), expected);
    }
}
