//! Judges whether given bytes are those of a stream, or units of it at a place: steps E1 to E10 of SPEC section 16.

use std::collections::HashMap;

use crate::bundle::{ENTRIES, Externals, Options, judge};
use crate::container::{Files, Input};
use crate::disclosure::Disclosure;
use crate::hash::{Hash, Hasher};
use crate::reason::Reason;
use crate::report::{AuditPath, Finding, Proof, Report, Step, Stop, StreamProof, Subject, Unreadable};
use crate::tree::{Tree, audit_path};
use crate::trust::{read_trust, unusable};
use crate::units::{Before, Units};
use crate::view::View;

/// What is asked of a stream.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Id of the call, or the sequence number of its entry.
    pub call: &'a str,
    /// The disclosed key, a document as in SPEC section 16.
    pub disclosure: &'a [u8],
    /// The whole stream; or, with a place, units of it.
    pub events: &'a [u8],
    /// Place of the first unit of `events`, from 0.
    pub place: Option<u64>,
}

/// Judges a bundle, then whether the events are those that it records.
///
/// # Errors
/// Only when external content could not be read; everything that is wrong is in the report.
pub fn verify_events(
    input: Input<'_>,
    externals: &mut dyn Externals,
    options: &Options<'_>,
    question: &Question<'_>,
) -> Result<Report, Unreadable> {
    let mut report = Report::new(Subject::Bundle);
    report.trust_given = options.trust.is_some();
    report.stream =
        Some(StreamProof { call: question.call.to_owned(), place: question.place, ..StreamProof::default() });
    let outcome = answer(input, externals, options, question, &mut report);
    report.conclude(outcome)
}

fn answer(
    input: Input<'_>,
    externals: &mut dyn Externals,
    options: &Options<'_>,
    question: &Question<'_>,
    report: &mut Report,
) -> Result<(), Stop> {
    options.trust.map(read_trust).transpose().map_err(unusable)?;
    let disclosure = Disclosure::read(question.disclosure)?; // E1
    let files = judge(input, externals, options, report)?;
    prove(&files, &disclosure, question, report.stream.get_or_insert_default())?;
    Ok(())
}

/// E2 to E10.
fn prove(
    files: &Files<'_>,
    disclosure: &Disclosure,
    question: &Question<'_>,
    proof: &mut StreamProof,
) -> Step {
    let stream = Stream::find(files, question.call)?; // E2, E3
    (proof.call, proof.seq) = (stream.call.clone(), Some(stream.seq));
    (proof.units, proof.level, proof.root) = (Some(stream.units), stream.level, Some(stream.root));
    let at = |finding: Finding| finding.at(stream.seq);
    disclosure.check(files, &stream.call).map_err(at)?; // E4
    let key = disclosure.events(&stream.call);
    proof.count = stream.check(question.events, key, question.place).map_err(at)?;
    proof.path = stream.path(question.place, proof.count);
    proof.verdict = Proof::Proven;
    Ok(())
}

/// What a receipt and its nodes say of a stream.
struct Stream<'a> {
    seq: u64,
    call: String,
    units: u64,
    level: Option<u64>,
    root: Hash,
    /// Absent with body mode `none`.
    nodes: Option<&'a [[u8; 32]]>,
}

impl<'a> Stream<'a> {
    /// E2 and E3. The bundle has passed: every line is valid, and nodes fit what is stated of them.
    fn find(files: &Files<'a>, call: &str) -> Step<Stream<'a>> {
        let (seq, entry) = find_call(files, call)?;
        let sse = entry.member("sse").ok_or_else(|| {
            let detail = "the receipt of this call records no event stream";
            Finding::new(Reason::StreamAbsent, detail).at(seq)
        })?;
        let call = entry.text_of("call").into_owned();
        let stored = sse.member("nodes").and_then(|_| files.get(&format!("streams/{call}.nodes")));
        Ok(Stream {
            seq,
            units: sse.member("units").and_then(View::count).unwrap_or_default(),
            level: sse.member("level").and_then(View::count),
            root: Hash::of_text("root:", sse.text_of("root").as_bytes()).unwrap_or(Hash([0; 32])),
            nodes: stored.map(|file| file.bytes.as_chunks().0),
            call,
        })
    }

    /// How many units a node covers.
    fn block(&self) -> u64 {
        1 << self.level.unwrap_or_default().min(32)
    }

    /// E5 to E10. Gives the number of units.
    fn check(&self, events: &[u8], key: Hash, place: Option<u64>) -> Step<u64> {
        let Some(place) = place else {
            return self.compare(Units::of(events, Before::Start), key, None);
        };
        let at = |before| self.compare(Units::of(events, before), key, Some(place));
        match events.first() {
            _ if place == 0 => at(Before::Start),
            Some(b'\n') => at(Before::CarriageReturn).or_else(|_| at(Before::LineFeed)),
            _ => at(Before::LineFeed),
        }
    }

    fn compare(&self, units: Units<'_>, key: Hash, place: Option<u64>) -> Step<u64> {
        if let Some(place) = place {
            self.check_place(place, units.count() as u64)?; // usize fits.
        }
        let mut scan = Scan::new(self, key, place.unwrap_or_default());
        units.for_each(|unit| scan.take(unit));
        match self.nodes {
            None => scan.conclude_without_nodes()?,
            Some(_) => scan.conclude(place.is_none())?,
        }
        Ok(scan.count)
    }

    /// E5 to E7.
    fn check_place(&self, place: u64, count: u64) -> Step {
        if self.nodes.is_none() {
            let detail = "the bundle keeps no nodes of this stream, so only the whole of it can be proven";
            return Err(Finding::new(Reason::StreamNodesAbsent, detail));
        }
        if count == 0 {
            return Err(Finding::new(Reason::EventMissing, "expected a unit, found no byte").at_unit(place));
        }
        let end = place.checked_add(count).filter(|end| *end <= self.units);
        let end = end.ok_or_else(|| {
            let detail =
                format!("the stream has {} units, these would be {count} from unit {place} on", self.units);
            Finding::new(Reason::EventSurplus, detail).at_unit(self.units)
        })?;
        let block = self.block();
        let fits = |at: u64| at.is_multiple_of(block) || at == self.units;
        let cut = [place, end].into_iter().find(|at| !fits(*at));
        match cut.map(|cut| cut - cut % block) {
            None => Ok(()),
            Some(first) => {
                let last = (first + block).min(self.units) - 1;
                let detail = format!(
                    "a node of this stream covers {block} units, so units {first} to {last} can only be proven together"
                );
                Err(Finding::new(Reason::EventBlock, detail).at_unit(first))
            }
        }
    }

    /// From the block at `place`, when it is the only one that was given.
    fn path(&self, place: Option<u64>, count: u64) -> Option<AuditPath> {
        let (place, nodes) = (place?, self.nodes?);
        if count > self.block() {
            return None;
        }
        let index = usize::try_from(place / self.block()).ok()?;
        let hashes: Vec<Hash> = nodes.iter().map(|node| Hash(*node)).collect();
        let path = audit_path(&hashes, index)?;
        Some(AuditPath { node: *hashes.get(index)?, index: index as u64, size: hashes.len() as u64, path })
    }
}

/// The entry of that call, and its sequence number: E2 and D2.
pub(crate) fn find_call<'a>(files: &Files<'a>, call: &str) -> Step<(u64, View<'a>)> {
    let lines = files.get(ENTRIES).map(|file| file.bytes).unwrap_or_default();
    let wanted = call.parse().ok();
    let entries = (0u64..).zip(lines.split(|byte| *byte == b'\n').map(View::of));
    let mut calls = entries.filter(|(_, entry)| entry.text_of("kind") == "call");
    calls.find(|(seq, entry)| wanted == Some(*seq) || entry.text_of("call") == call).ok_or_else(|| {
        let detail = format!("no call of this run has the id or sequence number `{}`", call.escape_debug());
        Finding::new(Reason::CallUnknown, detail)
    })
}

/// The given units on their way past the nodes.
struct Scan<'a> {
    stream: &'a Stream<'a>,
    /// Hash state that every leaf begins with: 0x00 and K_events.
    prefix: Hasher,
    /// Where each node stands; of equal ones, the first.
    places: HashMap<[u8; 32], u64>,
    from: u64,
    count: u64,
    /// The units of the block that passes; without nodes, all.
    tree: Tree,
    compared: bool,
    /// Whether one of the hashes is among the nodes.
    fits: bool,
    /// First unit of the first block that differs, and where what was given there stands, if anywhere.
    differs: Option<(u64, Option<u64>)>,
}

impl<'a> Scan<'a> {
    fn new(stream: &'a Stream<'a>, key: Hash, from: u64) -> Self {
        let mut prefix = Hasher::default();
        prefix.update(&[0]);
        prefix.update(&key.0);
        let mut places = HashMap::new();
        for (place, node) in (0..).zip(stream.nodes.unwrap_or_default()) {
            places.entry(*node).or_insert(place * stream.block());
        }
        Scan {
            stream,
            prefix,
            places,
            from,
            count: 0,
            tree: Tree::default(),
            compared: false,
            fits: false,
            differs: None,
        }
    }

    fn take(&mut self, unit: &[u8]) {
        let place = self.from + self.count; // Below the length of the input, or E6 has seen to it.
        self.count += 1;
        let mut leaf = self.prefix.clone();
        leaf.update(unit);
        self.tree.push(leaf.finish());
        if self.stream.nodes.is_none() {
            return;
        }
        let (block, units) = (self.stream.block(), self.stream.units);
        if self.tree.size() == block || place + 1 == units {
            let hash = std::mem::take(&mut self.tree).root();
            if block == 1 || place < units {
                self.compare(place - place % block, hash);
            }
        }
    }

    fn compare(&mut self, place: u64, hash: Hash) {
        self.compared = true;
        let found = self.places.get(&hash.0).copied();
        self.fits |= found.is_some();
        let at = usize::try_from(place / self.stream.block()).ok();
        let node = at.and_then(|at| self.stream.nodes.unwrap_or_default().get(at));
        if node.is_some_and(|node| *node != hash.0) {
            self.differs.get_or_insert((place, found));
        }
    }

    /// E8 to E10.
    fn conclude(&self, whole: bool) -> Step {
        if self.compared && !self.fits {
            return Err(unknown("nothing that was given is in this stream"));
        }
        if let Some((place, found)) = self.differs {
            let detail = match found {
                Some(found) => {
                    format!("what was given for unit {place} is what unit {found} of the stream holds")
                }
                None => format!("what was given for unit {place} is not what the stream holds there"),
            };
            return Err(Finding::new(Reason::EventMismatch, detail).at_unit(place));
        }
        if whole { self.check_count().map_err(|(finding, unit)| finding.at_unit(unit)) } else { Ok(()) }
    }

    fn conclude_without_nodes(&self) -> Step {
        self.check_count().map_err(|(finding, _)| finding)?;
        if self.tree.root() == self.stream.root {
            return Ok(());
        }
        Err(unknown(
            "the units that were given have another root than the receipt states, and there are no nodes",
        ))
    }

    /// E10, with the unit at which the stream or what was given ends.
    fn check_count(&self) -> Result<(), (Finding, u64)> {
        let (count, units) = (self.count, self.stream.units);
        let reason = match count.cmp(&units) {
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Less => Reason::EventMissing,
            std::cmp::Ordering::Greater => Reason::EventSurplus,
        };
        Err((Finding::new(reason, format!("the stream has {units} units, found {count}")), count.min(units)))
    }
}

fn unknown(what: &str) -> Finding {
    Finding::new(
        Reason::EventsUnknown,
        format!("{what}: these are other bytes, or the disclosed key is of another stream"),
    )
}

#[cfg(test)]
mod tests;
