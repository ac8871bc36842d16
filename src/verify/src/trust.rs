//! The trust document (SPEC section 10; steps K1 and K2 of section 11).

use crate::hash::Hash;
use crate::keys::{Key, Keys, Usage};
use crate::reason::Reason;
use crate::report::{Finding, Step};
use crate::schema::{Schemas, Slots};
use crate::view::View;

/// Reads a trust document; says in words why it is unusable.
pub(crate) fn read_trust(document: &[u8]) -> Result<Keys, String> {
    Schemas::get()
        .trust
        .check(document, &mut Slots::default())
        .map_err(|fault| format!("the trust document: {}", fault.describe(document)))?;
    let rows = View::of(document).member("keys").ok_or("the trust document lists no keys")?;
    Keys::read(rows).map_err(|fault| format!("the trust document: {}", fault.into_text()))
}

pub(crate) fn unusable(detail: String) -> Finding {
    Finding::new(Reason::TrustInvalid, detail)
}

/// The key of that id, use and instance.
pub(crate) fn find_trusted<'k>(trust: &'k Keys, id: Hash, usage: Usage, iss: &str) -> Option<&'k Key> {
    trust.find(id, usage).filter(|key| key.iss.as_deref() == Some(iss))
}

/// K2 for one key. `index` is the place in the instance log, if it is known.
pub(crate) fn check_revocation(key: &Key, index: Option<u64>) -> Step {
    let Some(from) = key.revoked_from_index else { return Ok(()) };
    let what = format!("{} key `{}` is revoked from log index {from} on", key.usage.name(), key.id.hex());
    match index {
        Some(index) if index < from => Ok(()),
        Some(index) => Err(Finding::new(Reason::KeyRevoked, format!("{what}, and this is at index {index}"))),
        None => Err(Finding::new(
            Reason::KeyRevoked,
            format!("{what}, and no anchor proves that this was recorded before"),
        )),
    }
}
