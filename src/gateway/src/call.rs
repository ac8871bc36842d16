//! One call's stages. Each layer takes the type that the layer before it made, so that a layer in the wrong place
//! does not compile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use estoppel_evidence::CallId;
use estoppel_evidence::entry::Identity;
use estoppel_journal::Slot;
use http::request::Parts;
use hyper::body::Incoming;

use crate::body::UpstreamBody;
use crate::exchange::Exchange;
use crate::respond::Refusal;
use crate::serve::Peer;
use crate::snapshot::RouteEntry;

/// Made by `serve.rs`: the head has been read.
pub(crate) struct Accepted {
    pub(crate) call: CallId,
    /// Monotonic microseconds when the head had been read.
    pub(crate) started_us: u64,
    pub(crate) head: Box<Parts>,
    pub(crate) body: Incoming,
    pub(crate) peer: Arc<Peer>,
}

/// Made by `layer/identity.rs`: who calls is known, as far as the connection proves it.
pub(crate) struct Identified {
    pub(crate) accepted: Accepted,
    pub(crate) identity: Identity,
}

/// Made by `layer/admission.rs`: there is room for the call and for its receipt.
pub(crate) struct Admitted {
    pub(crate) identified: Identified,
    pub(crate) slot: Slot,
    pub(crate) in_flight: InFlight,
}

/// Made by `layer/route.rs`: from here on every way out leaves a receipt, because [`Exchange`] does.
pub(crate) struct Routed {
    pub(crate) exchange: Box<Exchange>,
    pub(crate) head: Box<Parts>,
    pub(crate) body: Incoming,
    pub(crate) route: Arc<RouteEntry>,
    /// What callers are told, once they are known, who ask for no operation that the policy lists.
    pub(crate) unlisted: Option<Refusal>,
}

/// Made by `layer/authentication.rs`: who calls is in the exchange's record, and may use the route.
pub(crate) struct Authenticated {
    pub(crate) exchange: Box<Exchange>,
    pub(crate) head: Box<Parts>,
    pub(crate) body: Incoming,
    pub(crate) route: Arc<RouteEntry>,
}

/// Made by `layer/firewall.rs`: the policy lets the call go upstream.
pub(crate) struct Permitted {
    pub(crate) exchange: Box<Exchange>,
    pub(crate) head: Box<Parts>,
    pub(crate) body: UpstreamBody,
    pub(crate) route: Arc<RouteEntry>,
}

/// Counts a call as in flight for as long as it lives.
pub(crate) struct InFlight {
    count: Arc<AtomicUsize>,
}

impl InFlight {
    /// `None` when `max` calls are in flight already.
    pub(crate) fn enter(count: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        if count.fetch_add(1, Ordering::Relaxed) >= max {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self { count: count.clone() })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
