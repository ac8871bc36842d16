//! One body or answer, judged in pieces by the machines that judge for the daemon.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use bytes::Bytes;
use estoppel_gateway::offline::{At, BodyContract, Edit, Judgement, Place, Refusal, Setting};
use estoppel_wire::contract::Format;
use estoppel_wire::dialect::{Dialect, Framing};
use serde_json::{Value, json};

use crate::output::Failure;

/// What is judged, and against what.
pub struct Trial {
    pub setting: Setting,
    pub against: Against,
}

pub enum Against {
    Contract { contract: BodyContract, format: Format },
    Request { dialect: Dialect, framing: Option<Framing>, request: Option<Bytes> },
}

/// Bytes that are read at a time, at least.
const READ_BYTES: usize = 64 << 10;

/// What became of it.
pub struct Outcome {
    pub refusal: Option<Refusal>,
    pub observed: Option<Refusal>,
    pub edits: Vec<Edit>,
    pub lossy: bool,
    pub units: u64,
    pub held_bytes_most: usize,
    /// Bytes that were judged.
    pub bytes: u64,
    pub time: Duration,
}

impl Trial {
    /// Judges all that `from` gives, `chunk` bytes at a time, and gives `to` what leaves.
    ///
    /// # Errors
    /// `from` could not be read, or `to` not write.
    pub fn run(
        &self,
        from: &mut dyn Read,
        chunk: usize,
        to: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Outcome> {
        let block_bytes = chunk.saturating_mul((READ_BYTES / chunk).max(1)) as u64; // lengths fit
        let mut block = read(from, block_bytes)?;
        let key = random()?;
        let mut outcome = Outcome::new();
        let mut judgement = match self.start(&block, key) {
            Ok(judgement) => judgement,
            Err(refusal) => return Ok(Outcome { refusal: Some(refusal), ..outcome }),
        };
        let mut out = Vec::new();
        loop {
            let started = Instant::now();
            let judged = if block.is_empty() {
                judgement.finish(&mut out)
            } else {
                feed(&mut judgement, &block, chunk, &mut outcome.bytes, &mut out)
            };
            outcome.time += started.elapsed();
            out.drain(..).try_for_each(|piece| to(&piece))?;
            outcome.refusal = judged.err();
            if outcome.refusal.is_some() || block.is_empty() {
                return Ok(outcome.told_by(&judgement));
            }
            block = read(from, block_bytes)?;
        }
    }

    fn start(&self, beginning: &[u8], key: [u64; 2]) -> Result<Judgement, Refusal> {
        match &self.against {
            Against::Contract { contract, format } => Judgement::body(&self.setting, contract, *format, key),
            Against::Request { dialect, framing, request } => {
                let framing = framing.unwrap_or_else(|| framing_of(beginning));
                Judgement::answer(&self.setting, *dialect, framing, request.as_ref(), key)
            }
        }
    }
}

fn feed(
    judgement: &mut Judgement,
    block: &Bytes,
    chunk: usize,
    bytes: &mut u64,
    out: &mut Vec<Bytes>,
) -> Result<(), Refusal> {
    block.chunks(chunk).try_for_each(|piece| {
        *bytes += piece.len() as u64; // a length fits
        judgement.feed(&block.slice_ref(piece), out)
    })
}

/// At most `bytes_max` bytes, fewer only at the end.
fn read(from: &mut dyn Read, bytes_max: u64) -> io::Result<Bytes> {
    let mut block = Vec::new();
    from.take(bytes_max).read_to_end(&mut block)?;
    Ok(block.into())
}

/// JSON begins with a bracket, an event stream never does.
fn framing_of(beginning: &[u8]) -> Framing {
    let text = beginning.strip_prefix("\u{feff}".as_bytes()).unwrap_or(beginning).trim_ascii_start();
    if matches!(text.first(), Some(b'{' | b'[')) { Framing::Json } else { Framing::Sse }
}

/// A key that nobody knows.
pub fn random() -> io::Result<[u64; 2]> {
    let mut key = [0; 2];
    for word in &mut key {
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        *word = u64::from_le_bytes(bytes);
    }
    Ok(key)
}

impl Outcome {
    fn new() -> Self {
        Self {
            refusal: None,
            observed: None,
            edits: Vec::new(),
            lossy: false,
            units: 0,
            held_bytes_most: 0,
            bytes: 0,
            time: Duration::ZERO,
        }
    }

    fn told_by(self, judgement: &Judgement) -> Self {
        Self {
            observed: judgement.observed().cloned(),
            edits: judgement.edits(),
            lossy: judgement.lossy(),
            units: judgement.units(),
            held_bytes_most: judgement.held_bytes_most(),
            ..self
        }
    }

    /// `pass`, `repair` or `block`.
    pub fn verdict(&self) -> &'static str {
        match (&self.refusal, self.edits.is_empty()) {
            (Some(_), _) => "block",
            (None, false) => "repair",
            (None, true) => "pass",
        }
    }

    /// What was found, whether it stands in the way or not.
    pub fn found(&self) -> Option<&Refusal> {
        self.refusal.as_ref().or(self.observed.as_ref())
    }

    pub fn place(&self) -> Option<&Place> {
        self.found().and_then(|refusal| refusal.place.as_deref())
    }

    pub fn data(&self) -> Value {
        let edit = |edit: &Edit| json!({ "class": edit.class, "offset": edit.at, "bytes": edit.deleted, "tool": edit.tool });
        json!({
            "verdict": self.verdict(),
            "reason": self.found().map(|refusal| refusal.reason.code()),
            "detail": self.found().map(|refusal| &*refusal.detail),
            "place": self.place().map(place_data),
            "observed": self.observed.is_some(),
            "edits": self.edits.iter().map(edit).collect::<Vec<_>>(),
            "lossy": self.lossy,
            "units": self.units,
            "held_bytes_most": self.held_bytes_most,
            "bytes": self.bytes,
        })
    }
}

fn place_data(place: &Place) -> Value {
    let mut data = match &place.at {
        At::Value(violation) => json!({
            "code": violation.cause.code(),
            "pointer": violation.instance,
            "keyword": violation.schema,
            "byte": violation.offset,
        }),
        At::Row(violation) => json!({
            "code": violation.finding.code(),
            "row": violation.row,
            "column": violation.column,
            "name": violation.name,
            "byte": violation.offset,
        }),
    };
    data["text"] = place.to_string().into();
    data["unit"] = place.unit.into();
    data["tool"] = place.tool.as_deref().into();
    data
}

/// What keeps contracts from being enforced.
pub fn contract_failure(file: &std::path::Path, errors: &[estoppel_gateway::ContractError]) -> Failure {
    let rows: Vec<Value> =
        errors.iter().map(|error| json!({ "contract": error.name, "message": error.problem })).collect();
    let message = match errors {
        [one] => format!("`{}`: {}", file.display(), one.problem),
        several => format!("`{}` has {} errors", file.display(), several.len()),
    };
    Failure { data: Some(json!({ "errors": rows })), ..Failure::input("CONTRACT_INVALID", message) }
}
