//! The events of an answer: looked at as they come, pieces of one text joined, and held until no later byte can make what
//! they say part of a finding that blocks.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use estoppel_detect::{Scanner, unescaped, walk};
use estoppel_evidence::Reason;
use estoppel_policy::Surface;
use estoppel_wire::dialect::{At, Dialect, EventMark, Framing, Part, PartKind, ResponseScan};
use estoppel_wire::judge::{self, Blocks};

use super::ledger::{Hit, Ledger};
use super::parts::{self, Parts};
use super::surface::{Side, Surfaces};
use super::{RouteDetectors, look};
use crate::judging::Objection;
use crate::judging::events::{self, JudgesEvents, Left};

/// Most texts of one answer that are joined. Where a detector may block, one with more is refused; else the pieces of others
/// are looked at one by one.
const LANES_MAX: usize = 256;

pub(super) struct Stream {
    scan: ResponseScan,
    blocks: Blocks,
    marks: Vec<EventMark>,
    event_bytes_max: usize,
    held_bytes_max: usize,
    events: Events,
}

struct Events {
    dialect: Dialect,
    first: bool,
    lanes: HashMap<(bool, At), Lane>,
    held: VecDeque<Held>,
    held_bytes: usize,
}

/// One text that comes in pieces.
#[derive(Default)]
struct Lane {
    whole: Joined,
    /// What came after the stream last said that nothing would, and where in the whole that begins.
    since: Option<(u64, Joined)>,
    /// An escape that has not ended, where the text is itself JSON.
    escape: String,
}

/// Pieces that are looked at as one text.
#[derive(Default)]
struct Joined {
    enforcing: Scanner,
    watching: Scanner,
}

/// Bytes that wait, and how far each of these texts must be settled before they leave.
struct Held {
    bytes: Bytes,
    waits: Vec<((bool, At), u64)>,
}

/// Events with what looks at them.
struct Looking<'a> {
    events: &'a mut Events,
    route: &'a RouteDetectors,
    ledger: &'a mut Ledger,
}

impl Stream {
    pub(super) fn new(dialect: Dialect, (event_bytes_max, held_bytes_max): (usize, usize)) -> Self {
        Self {
            scan: ResponseScan::new(dialect, Framing::Sse).event_bytes_max(event_bytes_max).with_parts(),
            blocks: Blocks::default(),
            marks: Vec::new(),
            event_bytes_max,
            held_bytes_max,
            events: Events {
                dialect,
                first: true,
                lanes: HashMap::new(),
                held: VecDeque::new(),
                held_bytes: 0,
            },
        }
    }

    /// Takes the next bytes. Gives those that may leave.
    pub(super) fn data(
        &mut self,
        route: &RouteDetectors,
        ledger: &mut Ledger,
        data: Bytes,
    ) -> Result<Bytes, Objection> {
        let mut marks = std::mem::take(&mut self.marks);
        marks.clear();
        self.scan.push(&data, &mut |mark| marks.push(mark));
        let mut left = Left::default();
        let mut looking = Looking { events: &mut self.events, route, ledger };
        let judged = events::judge(
            &mut looking,
            &mut self.blocks,
            self.event_bytes_max,
            &self.scan,
            &data,
            &marks,
            &mut left,
        );
        self.marks = marks;
        judged?;
        ledger.overflow()?;
        if self.events.held_bytes + self.blocks.pending() > self.held_bytes_max {
            return Err(Reason::HeldBytesMax.into());
        }
        Ok(self.events.settled(route))
    }

    /// The answer is over: all that is left of it.
    pub(super) fn end(&mut self, route: &RouteDetectors, ledger: &mut Ledger) -> Result<Bytes, Objection> {
        let rest = self.blocks.take();
        let parts = if self.scan.end_event().is_some() { self.scan.parts() } else { &[] };
        let mut looking = Looking { events: &mut self.events, route, ledger };
        if !rest.is_empty() {
            events::judge_block(&mut looking, rest, parts, false, &mut Vec::new())?;
        }
        looking.finish()?;
        ledger.overflow()?;
        Ok(self.events.settled(route))
    }
}

impl Lane {
    /// How many bytes of the text no later one can make part of a finding.
    fn settled(&self, route: &RouteDetectors) -> u64 {
        let whole = self.whole.enforcing.settled(&route.enforcing);
        let since = self.since.as_ref().map(|(from, since)| from + since.enforcing.settled(&route.enforcing));
        since.map_or(whole, |since| since.min(whole))
    }
}

impl Joined {
    fn push(&mut self, route: &RouteDetectors, text: &str, is_text: bool, hits: &mut Vec<Hit>) {
        let (text, place) = (text.as_bytes(), place(is_text));
        self.enforcing.push(&route.enforcing, text, &mut |found| Hit::keep(hits, &found, place, true));
        self.watching.push(&route.watching, text, &mut |found| Hit::keep(hits, &found, place, false));
    }

    fn pause(&mut self, route: &RouteDetectors, is_text: bool, hits: &mut Vec<Hit>) {
        let place = place(is_text);
        self.enforcing.pause(&route.enforcing, &mut |found| Hit::keep(hits, &found, place, true));
        self.watching.pause(&route.watching, &mut |found| Hit::keep(hits, &found, place, false));
    }

    fn finish(&mut self, route: &RouteDetectors, is_text: bool, hits: &mut Vec<Hit>) {
        let place = place(is_text);
        self.enforcing.finish(&route.enforcing, &mut |found| Hit::keep(hits, &found, place, true));
        self.watching.finish(&route.watching, &mut |found| Hit::keep(hits, &found, place, false));
    }
}

impl Events {
    /// What may leave now.
    fn settled(&mut self, route: &RouteDetectors) -> Bytes {
        let lanes = &self.lanes;
        let is_settled =
            |(key, to): &((bool, At), u64)| lanes.get(key).is_none_or(|lane| lane.settled(route) >= *to);
        let ready = self.held.iter().position(|held| !held.waits.iter().all(is_settled));
        let ready: Vec<Held> = self.held.drain(..ready.unwrap_or(self.held.len())).collect();
        match ready.as_slice() {
            [one] => {
                self.held_bytes -= one.bytes.len();
                one.bytes.clone()
            }
            several => {
                let joined: Vec<u8> = several.iter().flat_map(|held| held.bytes.iter().copied()).collect();
                self.held_bytes -= joined.len();
                joined.into()
            }
        }
    }
}

impl Looking<'_> {
    /// A piece of a text that is joined. Gives how far the text goes with it.
    fn piece(&mut self, key: (bool, At), text: &str) -> Result<Option<u64>, Objection> {
        if self.events.lanes.len() >= LANES_MAX && !self.events.lanes.contains_key(&key) {
            return if self.route.enforcing.is_empty() { Ok(None) } else { Err(Reason::HeldBytesMax.into()) };
        }
        let (is_text, _) = key;
        let lane = self.events.lanes.entry(key).or_default();
        let text = if is_text { text.to_owned() } else { unescaped(text, &mut lane.escape) };
        let mut hits = Vec::new();
        lane.whole.push(self.route, &text, is_text, &mut hits);
        if let Some((_, since)) = &mut lane.since {
            since.push(self.route, &text, is_text, &mut hits);
        }
        let to = lane.whole.enforcing.length();
        self.ledger.take(&self.route.terms, surface(is_text), hits)?;
        Ok(Some(to))
    }

    /// The stream says that nothing more comes of these texts. Some clients join what does all the same, others begin anew.
    fn close(&mut self, is_closed: impl Fn(&At) -> bool) -> Result<(), Objection> {
        for (key, lane) in self.events.lanes.iter_mut().filter(|((_, at), _)| is_closed(at)) {
            let mut hits = Vec::new();
            let (is_text, _) = *key;
            lane.whole.pause(self.route, is_text, &mut hits);
            let anew = (lane.whole.enforcing.length(), Joined::default());
            if let Some((_, mut since)) = lane.since.replace(anew) {
                since.finish(self.route, is_text, &mut hits);
            }
            self.events.held.iter_mut().for_each(|held| held.waits.retain(|(waits_for, _)| waits_for != key));
            self.ledger.take(&self.route.terms, surface(is_text), hits)?;
        }
        Ok(())
    }

    /// Nothing more comes of any text.
    fn close_all(&mut self) -> Result<(), Objection> {
        for ((is_text, _), lane) in std::mem::take(&mut self.events.lanes) {
            let mut hits = Vec::new();
            for mut joined in [Some(lane.whole), lane.since.map(|(_, since)| since)].into_iter().flatten() {
                joined.push(self.route, &lane.escape, is_text, &mut hits);
                joined.finish(self.route, is_text, &mut hits);
            }
            self.ledger.take(&self.route.terms, surface(is_text), hits)?;
        }
        self.events.held.iter_mut().for_each(|held| held.waits.clear());
        Ok(())
    }

    /// The strings of an event that are no pieces, and what it has beside its data.
    fn others(&mut self, data: &[u8], beside: &[u8], pieces: &[String]) -> Result<(), Objection> {
        let mut surfaces = Surfaces::new(self.events.dialect, Side::Answered);
        let (mut parts, mut hits) = (Parts::new(self.events.dialect), Vec::new());
        let route = self.route;
        let walked = walk(data, &mut |text| {
            surfaces.note(&text);
            parts.take(route, &text, &mut hits);
            if !pieces.iter().any(|piece| piece == text.text) {
                look(route, &text, &mut hits);
            }
        });
        if walked.is_err() {
            let text = String::from_utf8_lossy(data);
            look(route, &estoppel_detect::Text { place: "", text: &text, is_name: false }, &mut hits);
        }
        if !beside.is_empty() {
            let text = String::from_utf8_lossy(beside);
            look(route, &estoppel_detect::Text { place: "", text: &text, is_name: false }, &mut hits);
            if text.contains('\\') {
                let text = unescaped(&text, &mut String::new());
                look(route, &estoppel_detect::Text { place: "", text: &text, is_name: false }, &mut hits);
            }
        }
        for hit in hits {
            let surface = surfaces.of(&hit.place);
            self.ledger.take(&route.terms, surface, vec![hit])?;
        }
        Ok(())
    }

    fn hold(&mut self, bytes: Bytes, waits: Vec<((bool, At), u64)>) {
        self.events.held_bytes += bytes.len();
        self.events.held.push_back(Held { bytes, waits });
    }
}

impl JudgesEvents for Looking<'_> {
    fn line_feed(&mut self, line_feed: Bytes, _: &mut Vec<Bytes>) -> Result<(), Objection> {
        self.hold(line_feed, Vec::new());
        Ok(())
    }

    fn event(
        &mut self,
        block: Bytes,
        parts: &[Part],
        ends: bool,
        _: &mut Vec<Bytes>,
    ) -> Result<(), Objection> {
        let first = std::mem::take(&mut self.events.first);
        let beside = judge::beside_data(judge::without_mark(&block, first));
        let data = judge::data(&block, first);
        let (mut waits, mut pieces) = (Vec::new(), Vec::new());
        let begins = self.events.dialect == Dialect::AnthropicMessages
            && judge::is_named(&block, b"content_block_start");
        for part in parts {
            let is_text = match part.kind {
                PartKind::Text => true,
                PartKind::Arguments => false,
                PartKind::Close => {
                    self.close(|at| at.outer == part.at.outer)?;
                    waits.retain(|((_, at), _): &((bool, At), u64)| at.outer != part.at.outer);
                    continue;
                }
                _ => continue,
            };
            let (from, to) = (usize::try_from(part.from), usize::try_from(part.to));
            let (Ok(from), Ok(to)) = (from, to) else { continue };
            let texts = parts::texts(data.get(from..to).unwrap_or_default());
            let key = (is_text, part.at);
            if !texts.is_empty()
                && begins
                && self.events.lanes.contains_key(&key)
                && !self.route.enforcing.is_empty()
            {
                let what = "a block begins where another has begun, which clients join in different ways";
                return Err(Objection::new(Reason::ValueAmbiguous, what));
            }
            for text in texts {
                if let Some(to) = self.piece(key, &text)? {
                    waits.push((key, to));
                    pieces.push(text);
                }
            }
        }
        self.others(&data, &beside, &pieces)?;
        if ends {
            self.close(|_| true)?;
            waits.clear();
        }
        self.hold(block, waits);
        Ok(())
    }

    /// What only watches is no reason to refuse a stream.
    fn refuses_hidden_lines(&self) -> bool {
        !self.route.enforcing.is_empty()
    }

    fn finish(&mut self) -> Result<(), Objection> {
        self.close_all()
    }
}

fn place(is_text: bool) -> &'static str {
    if is_text { "text" } else { "arguments" }
}

fn surface(is_text: bool) -> Surface {
    if is_text { Surface::Answer } else { Surface::Tools }
}
