//! Entry points for fuzz targets: plain functions over bytes. They panic only on a broken promise.

use crate::bundle::{NoExternals, Options, verify_bundle};
use crate::container::{DirectoryFile, Input};
use crate::disclosure::Disclosure;
use crate::entry::Entry;
use crate::envelope::Envelope;
use crate::explain::explain;
use crate::journal::{JournalFiles, verify_journal};
use crate::json::{admit, is_strict};
use crate::keys::{ENTRY_TYPE, STATEMENT_TYPE};
use crate::note::{Checkpoint, Proof};
use crate::report::Report;
use crate::schema::{Schemas, Slots};
use crate::units::{Before, Units};
use crate::view::{View, push_string, unescape};

fn settle(report: Report) {
    assert_eq!(report.passed(), report.exit_code() == 0);
    assert!(!explain(&report).is_empty());
}

/// A ZIP; and the same bytes as the entries of an otherwise plain directory.
#[doc(hidden)]
pub fn fuzz_bundle(bytes: &[u8]) {
    let options = Options::default();
    if let Ok(report) = verify_bundle(Input::Zip(bytes), &mut NoExternals, &options) {
        settle(report);
    }
    let files = [DirectoryFile { path: b"receipts.ndjson", bytes: Some(bytes) }];
    if let Ok(report) = verify_bundle(Input::Directory(&files), &mut NoExternals, &options) {
        settle(report);
    }
    // A manifest and envelopes are judged before anything else of a bundle.
    for schema in [&Schemas::get().manifest, &Schemas::get().trust] {
        if schema.check(bytes, &mut Slots::default()).is_ok() {
            assert!(admit(bytes).is_ok() && is_strict(bytes).is_ok());
        }
    }
    _ = Envelope::read(bytes, STATEMENT_TYPE);
    _ = Envelope::read(bytes, ENTRY_TYPE);
}

/// A journal of one segment. The first 256 bytes are taken as they are, so a target keeps a good header there.
#[doc(hidden)]
pub fn fuzz_journal(bytes: &[u8]) {
    const TRUST: &[u8] = include_bytes!("fuzz_trust.json");
    let mut segments = vec![("00000000000000000000.seg".to_owned(), bytes.to_vec())];
    let files = JournalFiles { trust: Some(TRUST), ..JournalFiles::default() };
    if let Ok(report) = verify_journal(&mut segments, files, &Options::default()) {
        settle(report);
    }
}

/// Indexes of archives and chains of custody.
#[doc(hidden)]
pub fn fuzz_lists(bytes: &[u8]) {
    if let Ok(entries) = crate::archive::read_index(bytes) {
        assert!((0..).zip(&entries).all(|(seq, entry)| entry.seq == seq));
        assert!(entries.iter().all(|entry| !entry.name.starts_with(['/', '.'])), "a name leads nowhere else");
    }
    if let Ok(entries) = crate::custody::verify_custody(bytes, &Default::default()) {
        assert!(!entries.is_empty());
    }
}

/// Replay Certificates.
#[doc(hidden)]
pub fn fuzz_certificate(bytes: &[u8]) {
    crate::certificate::fuzz(bytes);
}

/// Admission, canonical form and entry schemas.
#[doc(hidden)]
pub fn fuzz_canonical(bytes: &[u8]) {
    let admitted = admit(bytes).is_ok();
    let strict = is_strict(bytes).is_ok();
    assert!(admitted || !strict, "canonical but not admitted");
    if admitted {
        let again = canonical(View::of(bytes));
        assert_eq!(strict, again.as_bytes() == bytes, "canonical form differs from a serialization");
        assert!(is_strict(again.as_bytes()).is_ok(), "a serialization is not canonical");
    }
    if let Ok(entry) = Entry::read(bytes) {
        assert!(strict, "an entry that is not canonical was read");
        _ = (entry.seq(), entry.view().members().count());
    }
}

/// Serializes an admitted value; the plain counterpart of the one-pass check.
fn canonical(view: View<'_>) -> String {
    let mut out = String::new();
    match view.raw().first() {
        Some(b'{') => {
            let mut members: Vec<_> = view.members().collect();
            members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
            out.push('{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                push_string(&mut out, &name);
                out.push(':');
                out.push_str(&canonical(value));
            }
            out.push('}');
        }
        Some(b'[') => {
            out.push('[');
            for (at, item) in view.items().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                out.push_str(&canonical(item));
            }
            out.push(']');
        }
        Some(b'"') => push_string(&mut out, &view.text().unwrap_or_default()),
        _ => out.push_str(&unescape(view.raw())),
    }
    out
}

/// Checkpoints and proofs.
#[doc(hidden)]
pub fn fuzz_note(bytes: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::read(bytes) {
        assert!(Checkpoint::read_of(bytes, checkpoint.origin).is_ok());
    }
    if let Ok(proof) = Proof::read(bytes) {
        assert!(proof.path.len() <= 63);
    }
}

/// Disclosures, and where event streams are cut: gives the end of each unit that a blank line ends.
#[doc(hidden)]
pub fn fuzz_units(bytes: &[u8]) -> Vec<usize> {
    if Disclosure::read(bytes).is_ok() {
        assert!(is_strict(bytes).is_ok(), "a disclosure that is not canonical was read");
    }
    for before in [Before::Start, Before::CarriageReturn, Before::LineFeed] {
        assert_eq!(Units::of(bytes, before).collect::<Vec<_>>().concat(), bytes);
    }
    let begun = [bytes, b"x"].concat();
    let ends = Units::of(&begun, Before::Start).scan(0, |at, unit| {
        *at += unit.len();
        Some(*at)
    });
    ends.take_while(|end| *end <= bytes.len()).collect()
}
