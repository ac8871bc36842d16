//! Detectors at work on a call: what a route's policy names, asked about what passes.
//!
//! | file | |
//! |---|---|
//! | `surface.rs` | which part of the traffic a string is |
//! | `external.rs` | detectors that are asked over HTTP |
//! | `ledger.rs` | what was found, and whether it stands in the way |
//! | `parts.rs` | texts that stand side by side in a list of parts, which clients put together |
//! | `stream.rs` | events that are held until no later byte can make them part of a finding |
//!
//! A detector may block what the policy lets pass, never the other way round.

mod external;
mod ledger;
mod parts;
mod stream;
mod surface;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use estoppel_detect::{Engine, Found, RuleInfo, Scanner, Text, is_json_like, unescaped, walk};
use estoppel_evidence::entry::{Detection, DetectorOutcome};
use estoppel_policy::{Confidence, Content, DetectorMode, DetectorTerms, Surface};
use estoppel_wire::dialect::{Dialect, Framing};
use tokio::sync::Semaphore;

pub(crate) use external::{Ended, External, Question, Told, reason};

use crate::body::Kept;
use crate::judging::Objection;
use ledger::{Hit, Ledger};
use parts::Parts;
use stream::Stream;
use surface::{Side, Surfaces};

/// A route's detectors, ready to look.
#[derive(Debug)]
pub(crate) struct RouteDetectors {
    terms: Vec<DetectorTerms>,
    /// Rules whose findings may block.
    enforcing: Engine,
    /// Rules whose findings are recorded.
    watching: Engine,
    externals: Vec<External>,
    /// Rules that look at what is sent, and at what tools are called with.
    in_requests: Arc<[&'static str]>,
    in_calls: Arc<[&'static str]>,
}

/// Which classes of data are in a text, and which were looked for.
pub(crate) struct Classes {
    pub(crate) found: Vec<&'static str>,
    looked_for: Arc<[&'static str]>,
}

impl Classes {
    /// As a fact for rules.
    pub(crate) fn tell(&self, content: Content) -> Content {
        let found = self.found.iter().map(|class| (*class).into()).collect();
        content.with_data_of(found, self.looked_for.clone())
    }
}

impl RouteDetectors {
    /// `None` where the policy names none.
    pub(crate) fn build(terms: &[DetectorTerms]) -> Result<Option<Arc<Self>>, String> {
        if terms.is_empty() {
            return Ok(None);
        }
        for terms in terms.iter().filter(|terms| terms.external.is_none()) {
            for pattern in terms.only.iter().chain(&terms.except).filter(|pattern| !pattern.contains('*')) {
                if !estoppel_detect::RULES.iter().any(|rule| rule.id == pattern) {
                    return Err(format!("detector `{}`: there is no rule `{pattern}`", terms.name));
                }
            }
        }
        let engine = |mode: DetectorMode| {
            Engine::new(|rule| {
                let terms = terms.iter().find(|terms| terms.name == rule.detector.as_str());
                terms.is_some_and(|terms| {
                    let may_block = terms.mode == DetectorMode::Enforce
                        && ledger::confidence(rule.confidence) >= terms.min_confidence;
                    terms.wants(rule.id) && may_block == (mode == DetectorMode::Enforce)
                })
            })
            .map_err(|error| error.to_string())
        };
        let externals = terms.iter().map(External::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Arc::new(Self {
            terms: terms.to_vec(),
            enforcing: engine(DetectorMode::Enforce)?,
            watching: engine(DetectorMode::Shadow)?,
            externals: externals.into_iter().flatten().collect(),
            in_requests: rules_on(terms, Surface::Request),
            in_calls: rules_on(terms, Surface::Tools),
        })))
    }

    /// What is in the arguments of a call in an answer; none where they are not JSON, or there is too much to tell.
    pub(crate) fn in_call(&self, arguments: &[u8]) -> Option<Classes> {
        let mut hits = Vec::new();
        walk(arguments, &mut |text| look(self, &text, &mut hits)).ok()?;
        let found = (hits.len() < ledger::HITS_MAX).then(|| {
            let on_calls = hits.iter().filter(|hit| hit.is_on(&self.terms, Surface::Tools));
            distinct(on_calls.map(|hit| hit.rule.id))
        })?;
        Some(Classes { found, looked_for: self.in_calls.clone() })
    }

    fn looks_at(&self, surfaces: &[Surface]) -> bool {
        self.terms.iter().any(|terms| terms.on(surfaces))
    }

    /// Whether a finding there may block.
    fn blocks_at(&self, surfaces: &[Surface]) -> bool {
        let blocks = |terms: &&DetectorTerms| terms.mode == DetectorMode::Enforce && terms.external.is_none();
        self.terms.iter().filter(blocks).any(|terms| terms.on(surfaces))
    }

    /// External detectors that look at a surface, each with its terms.
    pub(crate) fn externals(&self, surface: Surface) -> impl Iterator<Item = (&External, &DetectorTerms)> {
        let terms = |external: &&External| self.terms.iter().find(|terms| terms.name == external.name());
        let all = self.externals.iter().filter_map(move |external| Some((external, terms(&external)?)));
        all.filter(move |(_, terms)| terms.on(&[surface]))
    }

    /// External detectors that are told of a surface and not waited for.
    pub(crate) fn taps(&self, surface: Surface) -> impl Iterator<Item = &External> {
        self.externals(surface).map(|(external, _)| external).filter(|external| !external.is_in_line())
    }

    /// Whether anything looks at an answer while it passes.
    fn watches_answers(&self) -> bool {
        self.waits_for_answers() || !self.enforcing.is_empty() || !self.watching.is_empty()
    }

    /// Whether a call waits for an external detector of answers.
    fn waits_for_answers(&self) -> bool {
        self.externals(Surface::Answer).any(|(external, _)| external.is_in_line())
    }

    /// Whether requests are looked at, so that they are read whole.
    pub(crate) fn reads_requests(&self) -> bool {
        self.looks_at(surface::SENT)
    }

    /// Whether answers are.
    pub(crate) fn reads_answers(&self) -> bool {
        self.looks_at(surface::ANSWERED)
    }
}

/// How an answer is looked at.
enum Way {
    /// Not at all.
    None,
    /// Its bytes cannot be read.
    Unread,
    /// Once it is whole.
    Whole,
    /// As it passes, without a say.
    Passing(Box<Watched>),
    Events(Box<Stream>),
}

/// Bytes that pass while they are looked at.
#[derive(Default)]
struct Watched {
    scanner: Scanner,
}

/// The detectors of one call.
pub(crate) struct Detecting {
    route: Arc<RouteDetectors>,
    dialect: Dialect,
    ledger: Ledger,
    way: Way,
    /// What is in the request, each with its place; none if nobody looked, or there is too much to tell.
    sent: Option<Vec<(Box<str>, &'static str)>>,
    /// Whether the answer is kept for those who are told of it once it is over.
    hears: bool,
    kept: Kept,
}

impl Detecting {
    pub(crate) fn new(route: Arc<RouteDetectors>, dialect: Dialect) -> Self {
        let ledger = Ledger::new(&route.terms);
        Self { route, dialect, ledger, way: Way::None, sent: None, hears: false, kept: Kept::Nothing }
    }

    /// Looks at a request that has been read whole.
    ///
    /// # Errors
    /// A finding blocks it.
    pub(crate) fn request(&mut self, coded: bool, chunks: &[Bytes]) -> Result<(), Objection> {
        if !self.route.reads_requests() || chunks.iter().all(Bytes::is_empty) {
            return Ok(());
        }
        if coded {
            self.ledger.skipped(surface::SENT);
            return Ok(());
        }
        self.ledger.looked(surface::SENT);
        self.body(Side::Sent, &chunks.concat())
    }

    /// What is in the request.
    pub(crate) fn in_request(&self) -> Option<Classes> {
        let found = distinct(self.sent.as_ref()?.iter().map(|(_, class)| *class));
        Some(Classes { found, looked_for: self.route.in_requests.clone() })
    }

    /// What is in the arguments of a call of an MCP server's tool; `message` is its number in a batch.
    pub(crate) fn in_server_call(&self, message: Option<usize>) -> Option<Classes> {
        let arguments = match message {
            None => "/params/arguments".to_owned(),
            Some(index) => format!("/{index}/params/arguments"),
        };
        let is_there = |place: &str| {
            place.strip_prefix(&*arguments).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let sent = self.sent.as_ref()?.iter().filter(|(place, _)| is_there(place));
        let found = distinct(sent.map(|(_, class)| *class));
        Some(Classes { found, looked_for: self.route.in_calls.clone() })
    }

    /// Classes that rules were told of.
    pub(crate) fn told(&mut self, classes: &[&'static str]) {
        self.ledger.told(classes);
    }

    /// The answer's head has come. `event_bytes_max` and `held_bytes_max` bound what is held of a stream.
    pub(crate) fn answer_head(&mut self, framing: Framing, coded: bool, limits: (usize, usize)) {
        self.hears = !coded && self.route.taps(Surface::Answer).next().is_some();
        self.way = if !self.route.reads_answers() {
            Way::None
        } else if coded {
            Way::Unread
        } else if !self.route.watches_answers() {
            Way::None
        } else if framing == Framing::Sse {
            Way::Events(Box::new(Stream::new(self.dialect, limits)))
        } else if framing == Framing::Json || self.route.blocks_at(surface::ANSWERED) {
            Way::Whole
        } else {
            Way::Passing(Box::default())
        };
    }

    /// Whether the answer may leave only once it was looked at whole.
    pub(crate) fn wants_whole(&self) -> bool {
        match self.way {
            Way::None | Way::Unread => false,
            Way::Whole => self.route.blocks_at(surface::ANSWERED) || self.route.waits_for_answers(),
            Way::Passing(_) | Way::Events(_) => self.route.waits_for_answers(),
        }
    }

    /// Whether it is a stream from which events are held.
    pub(crate) fn holds_events(&self) -> bool {
        matches!(self.way, Way::Events(_)) && self.route.blocks_at(surface::ANSWERED)
    }

    /// Looks at an answer that has been read whole.
    ///
    /// # Errors
    /// A finding blocks it.
    pub(crate) fn answer(&mut self, body: &[Bytes]) -> Result<(), Objection> {
        match self.way {
            Way::Whole if body.iter().any(|piece| !piece.is_empty()) => {
                self.way = Way::None;
                self.ledger.looked(surface::ANSWERED);
                self.body(Side::Answered, &body.concat())
            }
            _ => Ok(()),
        }
    }

    /// Looks at bytes as they come. Gives those that may leave now.
    ///
    /// # Errors
    /// A finding blocks them.
    pub(crate) fn data(&mut self, data: Bytes) -> Result<Bytes, Objection> {
        match &mut self.way {
            Way::None | Way::Whole => Ok(data),
            Way::Unread => {
                self.ledger.skipped(surface::ANSWERED);
                Ok(data)
            }
            Way::Passing(watched) => {
                self.ledger.looked(surface::ANSWERED);
                let mut hits = Vec::new();
                watched
                    .scanner
                    .push(&self.route.watching, &data, &mut |found| hits.push(Hit::of(&found, "", false)));
                self.ledger.take(&self.route.terms, Surface::Answer, hits).map(|()| data)
            }
            Way::Events(stream) => {
                self.ledger.looked(surface::ANSWERED);
                stream.data(&self.route, &mut self.ledger, data)
            }
        }
    }

    /// The answer is over: what of it was held.
    ///
    /// # Errors
    /// A finding blocks it.
    pub(crate) fn end(&mut self) -> Result<Bytes, Objection> {
        match std::mem::replace(&mut self.way, Way::None) {
            Way::Passing(mut watched) => {
                let mut hits = Vec::new();
                watched
                    .scanner
                    .finish(&self.route.watching, &mut |found| hits.push(Hit::of(&found, "", false)));
                self.ledger.take(&self.route.terms, Surface::Answer, hits).map(|()| Bytes::new())
            }
            Way::Events(mut stream) => {
                let ended = stream.end(&self.route, &mut self.ledger);
                self.way = Way::Events(stream);
                ended
            }
            way => {
                self.way = way;
                Ok(Bytes::new())
            }
        }
    }

    /// Keeps a piece of the answer for those who are told of it.
    pub(crate) fn hear(&mut self, piece: &[u8], memory: &Arc<Semaphore>) {
        if self.hears {
            self.kept.push(piece, memory);
        }
    }

    /// What was kept; they are told of nothing else.
    pub(crate) fn heard(&mut self) -> Kept {
        self.hears = false;
        std::mem::take(&mut self.kept)
    }

    /// The route's detectors.
    pub(crate) fn route(&self) -> &Arc<RouteDetectors> {
        &self.route
    }

    /// How an external detector ended; with an answer, how long it took.
    pub(crate) fn asked(&mut self, name: &str, outcome: DetectorOutcome, us: u64) {
        self.ledger.asked(&self.route.terms, name, outcome, us);
    }

    /// What a block says of itself in the receipt.
    pub(crate) fn threat(&self) -> Option<estoppel_evidence::entry::Threat> {
        self.ledger.threat(&self.route.terms)
    }

    /// What the receipt says; and each detector with what it found, for metrics: its name, whether it counts, how often.
    pub(crate) fn record(self) -> (Detection, Vec<(String, bool, u64)>) {
        let counts = self.ledger.counts(&self.route.terms);
        (self.ledger.record(&self.route.terms), counts)
    }

    fn body(&mut self, side: Side, body: &[u8]) -> Result<(), Objection> {
        let mut surfaces = Surfaces::new(self.dialect, side);
        let (mut parts, mut hits) = (Parts::new(self.dialect), Vec::new());
        let route = &self.route;
        let walked = walk(body, &mut |text| {
            surfaces.note(&text);
            look(route, &text, &mut hits);
            parts.take(route, &text, &mut hits);
        });
        if walked.is_err() {
            // Not one JSON text: its bytes as they are, which may repeat what was found before.
            let mut whole = |engine: &Engine, enforced| {
                scan(engine, body, &mut |found| hits.push(Hit::of(found, "", enforced)))
            };
            whole(&route.enforcing, true);
            whole(&route.watching, false);
        }
        let told = walked.is_ok() || self.dialect == Dialect::Bytes;
        if side == Side::Sent && told {
            let there = hits.iter().filter(|hit| hit.is_on(&route.terms, surfaces.of(&hit.place)));
            let there = there.map(|hit| (hit.place.clone(), hit.rule.id));
            self.sent = (hits.len() < ledger::HITS_MAX).then(|| there.collect());
        }
        for hit in hits {
            let surface = surfaces.of(&hit.place);
            self.ledger.take(&route.terms, surface, vec![hit])?;
        }
        self.ledger.overflow()
    }
}

/// Both engines on one string, and on what it says where it is JSON itself.
fn look(route: &RouteDetectors, text: &Text<'_>, hits: &mut Vec<Hit>) {
    let mut both = |bytes: &str| {
        let place = if text.is_name {
            text.place.rsplit_once('/').map_or("", |(parent, _)| parent)
        } else {
            text.place
        };
        scan(&route.enforcing, bytes.as_bytes(), &mut |found| Hit::keep(hits, found, place, true));
        scan(&route.watching, bytes.as_bytes(), &mut |found| Hit::keep(hits, found, place, false));
    };
    both(text.text);
    if is_json_like(text.text) {
        both(&unescaped(text.text, &mut String::new()));
    }
}

/// What these detectors find in requests and in what tools are called with.
pub(crate) fn classes(terms: &[DetectorTerms]) -> Vec<&'static str> {
    let both = [Surface::Request, Surface::Tools].map(|surface| rules_on(terms, surface));
    distinct(both.iter().flat_map(|rules| rules.iter().copied()))
}

/// Built-in rules that look at a surface.
fn rules_on(terms: &[DetectorTerms], surface: Surface) -> Arc<[&'static str]> {
    let looks = |rule: &RuleInfo| {
        let is_of = |terms: &&DetectorTerms| terms.external.is_none() && terms.name == rule.detector.as_str();
        terms.iter().find(is_of).is_some_and(|terms| terms.on(&[surface]) && terms.wants(rule.id))
    };
    estoppel_detect::RULES.iter().filter(|rule| looks(rule)).map(|rule| rule.id).collect()
}

fn distinct(classes: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    classes.collect::<BTreeSet<_>>().into_iter().collect()
}

fn scan(engine: &Engine, text: &[u8], each: &mut dyn FnMut(&Found<'_>)) {
    if engine.is_empty() {
        return;
    }
    let mut scanner = Scanner::default();
    scanner.push(engine, text, &mut |found| each(&found));
    scanner.finish(engine, &mut |found| each(&found));
}

/// Whether a detector looks at one of these surfaces.
trait On {
    fn on(&self, surfaces: &[Surface]) -> bool;
}

impl On for DetectorTerms {
    fn on(&self, surfaces: &[Surface]) -> bool {
        self.surfaces.iter().any(|surface| surfaces.contains(surface))
    }
}

/// Whether a finding of this confidence may block.
fn suffices(terms: &DetectorTerms, confidence: Confidence) -> bool {
    terms.mode == DetectorMode::Enforce && confidence >= terms.min_confidence
}
