//! Answers held against what their requests asked for: the schemas of tools, and of the answer's text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use estoppel_evidence::entry::{ContractRef, ContractSource, EDITS_MAX, Edit, Judged, Repair};
use estoppel_evidence::{Reason, Sha256};
use estoppel_policy::{Terms, UnknownTools};
use estoppel_wire::dialect::{Contracts, Span, TextContract};
use estoppel_wire::judge::{self, Outcome, Refused};
use estoppel_wire::repair::{self, Profile, Repaired};
use estoppel_wire::schema::{Cause, Check, CheckLimits, HashKey, Schema, SchemaLimits};

use crate::store::Contract;

/// Most compiled schemas that are kept; requests mostly repeat the same ones.
const SCHEMAS_MAX: usize = 64;
/// Requests come from anybody, so their schemas get less room than those of a policy would: about 2 MiB compiled.
const SCHEMA_BYTES_MAX: usize = 128 << 10;
const SCHEMA_NODES_MAX: usize = 8_192;

/// Names of tools, and nothing for the answer's text, with the digests of their schemas as written.
type Enforced = Vec<(Box<str>, Sha256)>;

/// Compiled schemas, by the digest of their text.
pub(crate) struct Schemas {
    key: HashKey,
    compiled: Mutex<HashMap<Sha256, Option<Arc<Schema>>>>,
    /// Contracts by the digests of the schemas in them, as [`contract`] makes them.
    contracts: Mutex<HashMap<Enforced, Contract>>,
    object: Arc<Schema>,
}

impl Schemas {
    /// `key` is drawn at random.
    pub(crate) fn new(key: [u64; 2]) -> Self {
        let object = Schema::compile(br#"{"type":"object"}"#, &SchemaLimits::default());
        Self {
            key: HashKey(key),
            compiled: Mutex::default(),
            contracts: Mutex::default(),
            object: Arc::new(object.expect("one keyword with one word")),
        }
    }

    /// None if the schema cannot be enforced.
    fn get(&self, digest: Sha256, text: &[u8]) -> Option<Arc<Schema>> {
        if let Some(known) = locked(&self.compiled).get(&digest) {
            return known.clone();
        }
        let limits = SchemaLimits {
            bytes_max: SCHEMA_BYTES_MAX,
            nodes_max: SCHEMA_NODES_MAX,
            ..SchemaLimits::default()
        };
        let compiled = Schema::compile(text, &limits).map(Arc::new);
        let schema = match compiled {
            Ok(schema) => Some(schema),
            Err(errors) => {
                let error = errors.first().map(ToString::to_string).unwrap_or_default();
                tracing::debug!(%digest, error, "a schema of a request cannot be enforced");
                None
            }
        };
        let mut known = locked(&self.compiled);
        if known.len() >= SCHEMAS_MAX {
            known.clear();
        }
        known.insert(digest, schema.clone());
        schema
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one request asked for.
#[derive(Default)]
pub(crate) struct Asked {
    /// None for a tool that is defined twice: clients and models may take either.
    tools: HashMap<String, Option<Bytes>>,
    text: Option<AskedText>,
}

enum AskedText {
    Json,
    Schema(Bytes),
}

impl Asked {
    /// Copies the schemas out of the request's body.
    pub(crate) fn new(contracts: &Contracts, body: &[Bytes]) -> Self {
        let body = Pieces(body);
        let text = contracts.text.as_ref().map(|text| match text {
            TextContract::Json => AskedText::Json,
            TextContract::Schema(span) => AskedText::Schema(body.get(span)),
        });
        let mut tools = HashMap::new();
        for (name, span) in &contracts.tools {
            let twice = tools.contains_key(name);
            tools.insert(name.clone(), if twice { None } else { Some(body.get(span)) });
        }
        Self { tools, text }
    }
}

struct Pieces<'a>(&'a [Bytes]);

impl Pieces<'_> {
    fn get(&self, span: &Span) -> Bytes {
        let mut out = Vec::new();
        let mut before = 0;
        for piece in self.0 {
            let within = |at: u64| usize::try_from(at.saturating_sub(before)).unwrap_or(usize::MAX);
            let (from, to) = (within(span.start).min(piece.len()), within(span.end).min(piece.len()));
            out.extend_from_slice(piece.get(from..to).unwrap_or_default());
            before += piece.len() as u64;
        }
        out.into()
    }
}

/// Judges the values of one answer.
pub(crate) struct Judge {
    asked: Asked,
    terms: Terms,
    schemas: Arc<Schemas>,
    /// A repair would break a signature over the body.
    signed: bool,
    enforced: Enforced,
}

/// What holds an answer's values back.
pub(crate) type Stream = judge::Stream<Judge>;

impl Judge {
    pub(crate) fn new(asked: Asked, terms: Terms, schemas: Arc<Schemas>, signed: bool) -> Self {
        Self { asked, terms, schemas, signed, enforced: Vec::new() }
    }

    /// What was enforced, as one document: `{"text":<schema>,"tools":{"<name>":<schema>,…}}` in canonical form.
    fn contract(&self) -> Option<(ContractRef, Contract)> {
        if self.enforced.is_empty() {
            return None;
        }
        let mut enforced = self.enforced.clone();
        enforced.sort_unstable();
        let id = match enforced.as_slice() {
            [(name, _)] if !name.is_empty() => Some(estoppel_evidence::text::name(name).into()),
            _ => None,
        };
        let known = locked(&self.schemas.contracts).get(&enforced).cloned();
        let (digest, canonical) = match known {
            Some(known) => known,
            None => {
                let canonical = Bytes::from(self.document(&enforced)?);
                let made = (Sha256::of(&canonical), canonical);
                let mut contracts = locked(&self.schemas.contracts);
                if contracts.len() >= SCHEMAS_MAX {
                    contracts.clear();
                }
                contracts.insert(enforced, made.clone());
                made
            }
        };
        Some((ContractRef { digest, id, source: ContractSource::Request }, (digest, canonical)))
    }

    fn document(&self, enforced: &[(Box<str>, Sha256)]) -> Option<Vec<u8>> {
        let raw = |text: &Bytes| String::from_utf8(text.to_vec()).ok();
        let mut tools = Vec::new();
        let mut members = Vec::new();
        for (name, _) in enforced {
            match (name.is_empty(), &self.asked.text) {
                (true, Some(AskedText::Schema(schema))) => members.push(format!("\"text\":{}", raw(schema)?)),
                (true, _) => {}
                (false, _) => {
                    let name_text = serde_json::to_string(name).ok()?;
                    tools.push(format!("{name_text}:{}", raw(self.asked.tools.get(&**name)?.as_ref()?)?));
                }
            }
        }
        if !tools.is_empty() {
            members.push(format!("\"tools\":{{{}}}", tools.join(",")));
        }
        estoppel_evidence::canonical::foreign(format!("{{{}}}", members.join(",")).as_bytes()).ok()
    }

    fn schema(&mut self, name: &str, text: &Bytes) -> Result<Arc<Schema>, Reason> {
        let digest = Sha256::of(text);
        let schema = self.schemas.get(digest, text).ok_or(Reason::ContractUnsupported)?;
        if !self.enforced.iter().any(|(known, _)| **known == *name) {
            self.enforced.push((name.into(), digest));
        }
        Ok(schema)
    }

    fn judge(&self, schema: &Arc<Schema>, text: &[u8]) -> Outcome<Repaired, Reason> {
        let check = |text: &[u8]| {
            let mut check = Check::new(schema.clone(), CheckLimits::default(), self.schemas.key);
            check.feed(text).and_then(|()| check.finish()).map_err(|violation| violation.cause)
        };
        let cause = match check(text) {
            Ok(()) => return Outcome::Pass,
            Err(cause) => cause,
        };
        let Cause::Json(_) = cause else { return Outcome::Refused(Reason::ContractViolated) };
        if self.signed || self.terms.repair() == estoppel_policy::Repair::None {
            return Outcome::Refused(Reason::ValueMalformed);
        }
        match repair::repair(&Profile::default(), text) {
            Ok(repair::Outcome::Repaired(repaired)) => match check(&repaired.bytes) {
                Ok(()) => Outcome::Repaired(repaired.bytes.clone(), repaired),
                Err(_) => Outcome::Refused(Reason::ContractViolated),
            },
            Ok(repair::Outcome::Intact) | Err(_) => Outcome::Refused(Reason::ValueMalformed),
        }
    }
}

impl judge::Judge for Judge {
    type Repair = Repaired;
    type Finding = Reason;

    fn call(&mut self, name: &str, arguments: &[u8]) -> Outcome<Repaired, Reason> {
        let schema = match (self.asked.tools.get(name).cloned(), self.terms.unknown_tools()) {
            (Some(Some(text)), _) => self.schema(name, &text),
            (Some(None), _) => Err(Reason::ContractUnsupported),
            (None, UnknownTools::Json) => Ok(self.schemas.object.clone()),
            (None, UnknownTools::Block) => Err(Reason::ContractMissing),
        };
        match schema {
            Ok(schema) => self.judge(&schema, arguments),
            Err(reason) => Outcome::Refused(reason),
        }
    }

    fn wants_text(&self) -> bool {
        self.asked.text.is_some()
    }

    fn text(&mut self, text: &[u8]) -> Outcome<Repaired, Reason> {
        let schema = match &self.asked.text {
            None => return Outcome::Pass,
            Some(AskedText::Json) => Ok(self.schemas.object.clone()),
            Some(AskedText::Schema(schema)) => {
                let schema = schema.clone();
                self.schema("", &schema)
            }
        };
        match schema {
            Ok(schema) => self.judge(&schema, text),
            Err(reason) => Outcome::Refused(reason),
        }
    }
}

/// The stable code of a refusal.
pub(crate) fn reason(refused: &Refused<Reason>) -> Reason {
    match refused {
        Refused::Value { finding, .. } => *finding,
        Refused::NotText => Reason::ValueMalformed,
        Refused::NoName | Refused::SaidOtherwise { .. } | Refused::GoesOn { .. } => Reason::ValueAmbiguous,
        Refused::Truncated => Reason::ValueTruncated,
        Refused::HeldBytesMax => Reason::HeldBytesMax,
    }
}

/// What the receipt says of it, and the contract that it names; none when nothing was judged.
pub(crate) fn record(stream: &Stream) -> Option<(Box<Judged>, Option<Contract>)> {
    let contract = stream.judge().contract();
    let repairs: Vec<&Repaired> = stream.verdicts().iter().filter_map(|v| v.repair.as_ref()).collect();
    let repair = (!repairs.is_empty()).then(|| Repair {
        applied: true,
        edits: repairs.iter().flat_map(|repaired| &repaired.edits).take(EDITS_MAX).map(edit).collect(),
        lossy: repairs.iter().any(|repaired| repaired.lossy),
        strategy: repair::PROFILE_ID.into(),
    });
    if contract.is_none() && repair.is_none() {
        return None;
    }
    let (named, stored) = contract.unzip();
    Some((Box::new(Judged { contract: named, repair }), stored))
}

fn edit(edit: &repair::Edit) -> Edit {
    Edit { at: edit.offset as u64, del: edit.deleted as u64, op: edit.class.name().into() } // lengths fit
}

/// Whether a repair would break what the answer's head says of its body.
pub(crate) fn is_signed(headers: &http::HeaderMap) -> bool {
    const NAMES: [&str; 5] = ["content-digest", "repr-digest", "digest", "content-md5", "signature-input"];
    NAMES.iter().any(|name| headers.contains_key(*name))
}
