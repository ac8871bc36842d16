//! The contracts of a policy, ready to be enforced, and those of requests, which are compiled when they are needed.

mod locate;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use estoppel_evidence::Sha256;
use estoppel_policy::{ContractKind, ContractText, Formats, Judging, Policy};
use estoppel_wire::contract::Contract as Enforceable;
use estoppel_wire::csv;
use estoppel_wire::schema::{self, Fault, HashKey, Language, Schema, SchemaError, SchemaLimits};

use crate::store::Contract;
use locate::locate;

/// A contract that cannot be enforced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("contract `{name}`: {problem}")]
pub struct ContractError {
    /// Its name in the policy.
    pub name: String,
    /// A sentence with the place in the contract, as a JSON pointer.
    pub problem: String,
    pub at: ContractPlace,
}

/// Where in a contract's text something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContractPlace {
    /// Nowhere in particular.
    Whole,
    Byte(u64),
    /// At the value that this JSON pointer names.
    Pointer(String),
}

impl ContractPlace {
    /// The byte of the contract's text.
    pub fn byte(&self, text: &str) -> usize {
        match self {
            Self::Whole => 0,
            Self::Byte(byte) => usize::try_from(*byte).unwrap_or(usize::MAX),
            Self::Pointer(pointer) => locate(text, pointer).unwrap_or_default(),
        }
    }
}

/// One contract of a policy.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) name: Box<str>,
    pub(crate) enforceable: Enforceable,
    /// As the bundle has it.
    pub(crate) stored: Contract,
}

/// All contracts of a policy.
#[derive(Debug, Default)]
pub(crate) struct Contracts(BTreeMap<(String, Formats), Arc<Compiled>>);

impl Contracts {
    /// Compiles every contract of a policy.
    pub(crate) fn new(policy: &Policy) -> Result<Self, Vec<ContractError>> {
        let (mut contracts, mut errors) = (BTreeMap::new(), Vec::new());
        let missing = |name: &String| ContractError {
            name: name.clone(),
            problem: "it comes from a pack that was not looked for".into(),
            at: ContractPlace::Whole,
        };
        errors.extend(policy.missing_contracts().iter().map(missing));
        let asserting = policy.judgings().filter_map(|judging| match judging {
            Judging::On(terms) if terms.formats() == Formats::Assert => Some(terms.contracts()),
            _ => None,
        });
        let asserting: BTreeSet<&str> = asserting.flatten().collect();
        let annotating = policy.contracts().keys().map(|name| (name.as_str(), Formats::Annotate));
        let all = annotating.chain(asserting.into_iter().map(|name| (name, Formats::Assert)));
        for (name, formats) in all {
            let Some(text) = policy.contracts().get(name) else { continue };
            let has_errors = !contracts.contains_key(&(name.to_owned(), Formats::Annotate));
            if formats == Formats::Assert && has_errors {
                continue; // they have been told
            }
            match compile(name, text, formats) {
                Ok(compiled) => drop(contracts.insert((name.to_owned(), formats), Arc::new(compiled))),
                Err(problems) => errors.extend(problems),
            }
        }
        if errors.is_empty() { Ok(Self(contracts)) } else { Err(errors) }
    }

    pub(crate) fn get(&self, name: &str, formats: Formats) -> Option<&Arc<Compiled>> {
        self.0.get(&(name.to_owned(), formats))
    }
}

/// What keeps a policy's contracts from being enforced. Empty: nothing does.
pub fn contract_errors(policy: &Policy) -> Vec<ContractError> {
    Contracts::new(policy).err().unwrap_or_default()
}

pub(crate) fn compile(
    name: &str,
    contract: &ContractText,
    formats: Formats,
) -> Result<Compiled, Vec<ContractError>> {
    let wrong = |problem: String, at| ContractError { name: name.to_owned(), problem, at };
    let text = contract.text.as_bytes();
    let enforceable = match contract.kind {
        ContractKind::Json => {
            let unknown = schema::Unknown::Refuse;
            let limits = SchemaLimits { formats: meaning(formats), unknown, ..SchemaLimits::default() };
            let schema = Schema::compile(text, &limits);
            Enforceable::Json(Arc::new(schema.map_err(|errors| {
                let wrong = |error: &SchemaError| wrong(error.to_string(), place_of(error));
                errors.iter().map(wrong).collect::<Vec<_>>()
            })?))
        }
        ContractKind::Csv => {
            let wrong = |error: &csv::ContractError| {
                wrong(error.to_string(), ContractPlace::Pointer(error.pointer.clone()))
            };
            let contract =
                csv::Contract::parse(text).map_err(|errors| errors.iter().map(wrong).collect::<Vec<_>>())?;
            Enforceable::Csv(Arc::new(contract))
        }
    };
    if !estoppel_evidence::canonical::keeps_numbers(text) {
        return Err(vec![wrong(NUMBER_LOST.into(), ContractPlace::Whole)]);
    }
    let canonical = estoppel_evidence::canonical::foreign(text)
        .map_err(|error| vec![wrong(error.to_string(), ContractPlace::Whole)])?;
    let canonical = Bytes::from(canonical);
    Ok(Compiled { name: name.into(), enforceable, stored: (Sha256::of(&canonical), canonical) })
}

/// A CSV contract has what none can do without; a JSON Schema with these words would say nothing by them.
pub fn language(text: &str) -> ContractKind {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let is_csv = value["version"].is_number() && value["columns"].is_array();
    if is_csv { ContractKind::Csv } else { ContractKind::Json }
}

/// The evidence could not say what was enforced.
const NUMBER_LOST: &str = "a number in it cannot be held by a double (RFC 8785 section 3.2.2.3)";

fn meaning(formats: Formats) -> schema::Formats {
    match formats {
        Formats::Annotate => schema::Formats::Annotate,
        Formats::Assert => schema::Formats::Assert,
    }
}

fn place_of(error: &SchemaError) -> ContractPlace {
    match &error.fault {
        Fault::NotJson { offset, .. } => ContractPlace::Byte(*offset),
        _ => ContractPlace::Pointer(error.pointer.clone()),
    }
}

/// Most schemas of requests that are kept, and most bytes of their texts; requests mostly repeat the same ones.
const SCHEMAS_MAX: usize = 1024;
const KEPT_BYTES_MAX: usize = 2 << 20;
/// Requests come from anybody, so their schemas get less room than those of a policy: about 2 MiB compiled.
const SCHEMA_BYTES_MAX: usize = 128 << 10;
const SCHEMA_NODES_MAX: usize = 8_192;

/// Names of tools, and nothing for the answer's text, with the digests of their schemas as recorded.
pub(crate) type Enforced = Vec<(Box<str>, Sha256)>;

/// Schemas of requests, by the digest of what is recorded of them, which names their language.
pub(crate) struct Schemas {
    pub(crate) key: HashKey,
    compiled: Mutex<Kept<(Sha256, Formats), CompiledSchema>>,
    /// Documents of contracts by the digests of the schemas in them.
    documents: Mutex<Kept<Enforced, Contract>>,
    pub(crate) object: Arc<Schema>,
    pub(crate) anything: Arc<Schema>,
}

/// A schema, or why it cannot be enforced.
type CompiledSchema = Result<Arc<Schema>, Arc<str>>;

/// Things that can be made again, with the bytes that count for them.
struct Kept<K, V> {
    map: HashMap<K, V>,
    bytes: usize,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), bytes: 0 }
    }
}

impl<K: std::hash::Hash + Eq, V> Kept<K, V> {
    fn keep(&mut self, key: K, value: V, bytes: usize) {
        if self.map.len() >= SCHEMAS_MAX || self.bytes + bytes > KEPT_BYTES_MAX {
            *self = Self::default();
        }
        self.bytes += bytes;
        self.map.insert(key, value);
    }
}

impl Schemas {
    /// `key` is drawn at random.
    pub(crate) fn new(key: [u64; 2]) -> Self {
        let object = Schema::compile(br#"{"type":"object"}"#, &SchemaLimits::default());
        let anything = Schema::compile(b"true", &SchemaLimits::default());
        Self {
            key: HashKey(key),
            compiled: Mutex::default(),
            documents: Mutex::default(),
            object: Arc::new(object.expect("one keyword with one word")),
            anything: Arc::new(anything.expect("one word")),
        }
    }

    /// Says what keeps a schema from being enforced, if something does.
    pub(crate) fn get(
        &self,
        digest: Sha256,
        language: Language,
        formats: Formats,
        text: &[u8],
    ) -> CompiledSchema {
        // Gemini's own formats are no claims about strings.
        let formats = if language == Language::Gemini { Formats::Annotate } else { formats };
        if let Some(known) = locked(&self.compiled).map.get(&(digest, formats)) {
            return known.clone();
        }
        let limits = SchemaLimits {
            bytes_max: SCHEMA_BYTES_MAX,
            nodes_max: SCHEMA_NODES_MAX,
            formats: meaning(formats),
            ..SchemaLimits::default()
        };
        let compiled = Schema::compile_in(language, text, &limits).map(Arc::new);
        let kept = estoppel_evidence::canonical::keeps_numbers(text);
        let schema = match compiled {
            Ok(_) if !kept => Err(NUMBER_LOST.into()),
            Ok(schema) => Ok(schema),
            Err(errors) => Err(errors.first().map(ToString::to_string).unwrap_or_default().into()),
        };
        locked(&self.compiled).keep((digest, formats), schema.clone(), text.len());
        schema
    }

    /// The document that says what was enforced; `write` writes it if it is not known.
    pub(crate) fn document(
        &self,
        enforced: Enforced,
        write: impl FnOnce(&Enforced) -> Option<Vec<u8>>,
    ) -> Option<Contract> {
        if let Some(known) = locked(&self.documents).map.get(&enforced) {
            return Some(known.clone());
        }
        let canonical = Bytes::from(write(&enforced)?);
        let made = (Sha256::of(&canonical), canonical);
        locked(&self.documents).keep(enforced, made.clone(), made.1.len());
        Some(made)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
