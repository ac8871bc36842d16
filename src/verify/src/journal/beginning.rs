//! What a journal says of segments that were deleted: `beginning.json` (SPEC sections 12 and 13, G1 to G6).

use crate::entry::Entry;
use crate::envelope::Envelope;
use crate::hash::Hash;
use crate::keys::{Key, Keys, STATEMENT_TYPE, Usage};
use crate::reason::Reason;
use crate::report::{Begins, Copies, Counters, Finding, Step};
use crate::run::{Run, Signing};
use crate::schema::{Kind, Schemas, Slots};
use crate::tree::Tree;
use crate::trust::check_revocation;
use crate::view::View;

/// Most bytes of the file.
const BYTES_MAX: usize = 64 << 20;

/// What was verified of the file, but for G6.
pub(super) struct Beginning {
    payload: Vec<u8>,
    key: Hash,
    /// Log index of the first entry that names its plan.
    recorded: Option<u64>,
    plan: String,
    pub size: u64,
}

impl Beginning {
    /// G1 to G5.
    pub fn read(bytes: &[u8], iss: &str, keys: &Keys) -> Step<Self> {
        let malformed = |detail: String| {
            Finding::new(Reason::EnvelopeMalformed, format!("the file `beginning.json`: {detail}"))
        };
        if bytes.len() > BYTES_MAX {
            return Err(malformed(format!("expected at most {BYTES_MAX} bytes, found {}", bytes.len())));
        }
        let envelope = Envelope::read(bytes, STATEMENT_TYPE).map_err(malformed)?; // G1
        let id = envelope.key_id.hex();
        let unknown = || {
            let detail =
                format!("`beginning.json` is signed by `{id}`, which is not listed as a manifest key");
            Finding::new(Reason::KeyUnknown, detail)
        };
        let key = keys.find(envelope.key_id, Usage::Manifest).ok_or_else(unknown)?; // G2
        if !envelope.is_signed_by(&key.public) {
            let detail = format!("the signature of `beginning.json` does not verify with `{id}`");
            return Err(Finding::new(Reason::EnvelopeSignature, detail)); // G3
        }
        let payload = envelope.payload;
        let checked = Schemas::get().beginning.check(&payload, &mut Slots::default());
        checked.map_err(|fault| malformed(fault.describe(&payload)))?; // G4
        let of = predicate(&payload);
        let (size, plan) = (count(of, "size"), of.text_of("plan").into_owned());
        check(&payload, iss).map_err(|detail| {
            Finding::new(Reason::StatementMismatch, format!("the file `beginning.json`: {detail}"))
        })?; // G5
        Ok(Self { key: envelope.key_id, recorded: None, plan, size, payload })
    }

    /// The tree over the entries before, and the hash of the last.
    pub fn log(&self) -> (Tree, Hash) {
        let of = predicate(&self.payload);
        (tree(of), hash(of, "head", "leaf:"))
    }

    /// The runs with entries on both sides, by their ids.
    pub fn runs(&self) -> impl Iterator<Item = (String, Run)> {
        items(predicate(&self.payload), "runs").map(|run| {
            let signing = match &*run.text_of("sign") {
                "each" => Signing::Each,
                _ => Signing::Checkpoint,
            };
            let (kid, head) = (hash(run, "kid", ""), hash(run, "head", "leaf:"));
            let run_of = Run::carried(tree(run), signing, (kid, head), count(run, "mono_us"), counters(run));
            (run.text_of("run").into_owned(), run_of)
        })
    }

    /// Takes note of an entry.
    pub fn see(&mut self, entry: &Entry<'_>, index: u64) {
        let names = || {
            let entry = entry.view();
            entry.text_of("act") == "retention_planned" && entry.text_of("on") == self.plan
        };
        if self.recorded.is_none() && entry.kind == Kind::Act && names() {
            self.recorded = Some(index);
        }
    }

    /// G6. Gives the key.
    pub fn check_recorded<'k>(&self, keys: &'k Keys, entries: u64) -> Step<Option<&'k Key>> {
        let Some(index) = self.recorded else {
            let detail = format!("expected an entry that says that `{}` was begun, found none", self.plan);
            return Err(Finding::new(Reason::BeginningUnrecorded, detail).at_index(entries));
        };
        let key = keys.find(self.key, Usage::Manifest);
        if let Some(key) = key {
            check_revocation(key, Some(index)).map_err(|finding| finding.at_index(index))?;
        }
        Ok(key)
    }

    /// For the report.
    pub fn facts(&self) -> Begins {
        let of = predicate(&self.payload);
        let mut copies: Vec<Copies> = Vec::new();
        let mut segments = 0;
        for segment in items(of, "segments") {
            segments += 1;
            let Some(at) = segment.member("copy") else { continue };
            let text = |name: &str| at.text_of(name).into_owned();
            let (endpoint, bucket, until) = (text("endpoint"), text("bucket"), text("retain_until"));
            match copies.iter_mut().find(|copy| copy.endpoint == endpoint && copy.bucket == bucket) {
                Some(copy) => {
                    copy.segments += 1;
                    copy.retain_until = copy.retain_until.clone().min(until);
                }
                None => copies.push(Copies { endpoint, bucket, segments: 1, retain_until: until }),
            }
        }
        let runs = items(of, "runs").count() as u64; // usize fits.
        Begins { size: self.size, segments, runs, plan: self.plan.clone(), copies, passed_over: 0 }
    }
}

fn predicate(statement: &[u8]) -> View<'_> {
    View::of(statement).member("predicate").unwrap_or(View::of(b"{}"))
}

fn items<'a>(of: View<'a>, name: &str) -> impl Iterator<Item = View<'a>> + use<'a> {
    of.member(name).into_iter().flat_map(View::items)
}

fn count(of: View<'_>, name: &str) -> u64 {
    of.member(name).and_then(View::count).unwrap_or_default()
}

fn hash(of: View<'_>, name: &str, prefix: &str) -> Hash {
    Hash::of_text(prefix, of.text_of(name).as_bytes()).unwrap_or(Hash([0; 32]))
}

fn tree(of: View<'_>) -> Tree {
    let peaks = items(of, "peaks").filter_map(|peak| Hash::of_text("root:", peak.text()?.as_bytes()));
    Tree::resumed(count(of, "size"), peaks.collect())
}

fn counters(run: View<'_>) -> Counters {
    let of = run.member("counters").unwrap_or(View::of(b"{}"));
    Counters {
        calls: count(of, "calls"),
        allow: count(of, "allow"),
        repair: count(of, "repair"),
        hold: count(of, "hold"),
        block: count(of, "block"),
        interrupted: count(of, "interrupted"),
        incomplete: count(of, "incomplete"),
    }
}

/// G5.
fn check(payload: &[u8], iss: &str) -> Result<(), String> {
    let of = predicate(payload);
    let differ = |what: &str, expected: &str, found: &str| {
        Err(format!("expected `{expected}` as {what}, found `{found}`"))
    };
    if of.text_of("iss") != iss {
        return differ("`iss`", iss, &of.text_of("iss"));
    }
    let (mut next, mut head) = (0_u64, String::new());
    let mut subjects = items(View::of(payload), "subject");
    for segment in items(of, "segments") {
        let first = count(segment, "first");
        if first != next {
            return differ("the first entry of a segment", &next.to_string(), &first.to_string());
        }
        next = first.saturating_add(count(segment, "entries"));
        head = segment.text_of("head").into_owned();
        let expected = (format!("segments/{first:020}.seg"), segment.text_of("sha256").into_owned());
        let found = subjects.next().map(|subject| {
            let digest = subject.member("digest").map(|digest| digest.text_of("sha256").into_owned());
            (subject.text_of("name").into_owned(), format!("sha256:{}", digest.unwrap_or_default()))
        });
        if found.as_ref() != Some(&expected) {
            return Err(format!("the subjects are not the segments: `{}`", expected.0));
        }
    }
    if subjects.next().is_some() {
        return Err("there are more subjects than segments".to_owned());
    }
    let size = count(of, "size");
    if next != size {
        return differ("`size`", &next.to_string(), &size.to_string());
    }
    if of.text_of("head") != head {
        return differ("`head`", &head, &of.text_of("head"));
    }
    let mut before = String::new();
    for run in items(of, "runs") {
        let id = run.text_of("run").into_owned();
        if id <= before {
            return Err(format!("run `{id}` comes twice or is not in order"));
        }
        check_peaks(run)?;
        before = id;
    }
    check_peaks(of)
}

fn check_peaks(of: View<'_>) -> Result<(), String> {
    let (size, found) = (count(of, "size"), items(of, "peaks").count());
    if size.count_ones() as usize == found {
        // 32 bits fit.
        return Ok(());
    }
    Err(format!("expected {} `peaks` for {size} entries, found {found}", size.count_ones()))
}
