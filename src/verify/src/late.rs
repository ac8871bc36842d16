//! Snapshots that came too late for the receipts of their calls (SPEC section 4; step L15 of section 11).

use std::collections::BTreeMap;

use crate::entry::Entry;
use crate::schema::{Kind, Slot};
use crate::view::View;

/// The databases that calls of one run were looked at in and whose snapshot is awaited, by the call's id.
#[derive(Default)]
pub(crate) struct Late(BTreeMap<String, String>);

impl Late {
    /// L15. Says what is wrong with the entry.
    pub(crate) fn take(&mut self, entry: &Entry<'_>) -> Result<(), String> {
        let is_awaited = entry.optional(Slot::PostCode) == Some(b"POST_TIMEOUT");
        if !is_awaited && self.0.is_empty() && entry.kind != Kind::Snapshot {
            return Ok(());
        }
        let view = entry.view();
        match entry.kind {
            Kind::Call => {
                let call = view.text_of("call").into_owned();
                self.0.remove(&call);
                let source = view.member("snapshot").and_then(|snapshot| snapshot.member("source"));
                if let Some(source) = source.and_then(View::text).filter(|_| is_awaited) {
                    self.0.insert(call, source.into_owned());
                }
                Ok(())
            }
            Kind::Snapshot => {
                let (call, source) = (view.text_of("call"), view.text_of("source"));
                match self.0.remove(&*call) {
                    Some(awaited) if awaited == *source => Ok(()),
                    _ => Err(format!("no receipt of call `{call}` awaits a snapshot of `{source}`")),
                }
            }
            _ => Ok(()),
        }
    }
}
