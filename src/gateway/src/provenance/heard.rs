use std::sync::Arc;

use bytes::Bytes;
use estoppel_policy::read_json;
use estoppel_wire::dialect::mcp::TOOLS_CALL;
use estoppel_wire::dialect::{Dialect, EventMark, Framing, ResponseScan};
use estoppel_wire::judge::{self, Blocks};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{Listening, Missed};
use crate::body::Room;

/// Most bytes of one message of an answer that are looked at.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Requests whose results say what a server is and has, and are not what a tool gives.
const ABOUT_THE_SERVER: [&str; 8] = [
    "initialize",
    "server/discover",
    "ping",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "logging/setLevel",
];

/// The requests of one body, by their ids: what is called.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked(Vec<(Value, Option<Box<str>>)>);

impl Asked {
    /// Of a body that cannot be read nothing is known, so that every result counts.
    pub(crate) fn read(body: &[u8]) -> Self {
        let mut asked = Self::default();
        match read_json(body) {
            Some(Value::Array(messages)) => messages.iter().for_each(|message| asked.add(message)),
            Some(message) => asked.add(&message),
            None => {}
        }
        asked
    }

    fn add(&mut self, message: &Value) {
        let (Some(id), Some(method)) = (message.get("id"), message["method"].as_str()) else { return };
        let tool = match method {
            TOOLS_CALL => message["params"]["name"].as_str(),
            about if ABOUT_THE_SERVER.contains(&about) => None,
            other => Some(other),
        };
        self.0.push((id.clone(), tool.map(Into::into)));
    }
}

/// An answer of an MCP server, as it passes.
pub(crate) struct Heard {
    listening: Listening,
    asked: Asked,
    way: Way,
}

enum Way {
    /// Not, or not any more.
    Deaf,
    /// Nobody can read it.
    Coded,
    /// One message, or a text.
    Whole {
        pending: Vec<u8>,
        room: Room,
        is_json: bool,
    },
    Events(Box<Events>),
}

struct Events {
    scan: ResponseScan,
    blocks: Blocks,
    room: Room,
    is_first: bool,
    marks: Vec<EventMark>,
}

impl Heard {
    pub(crate) fn new(listening: Listening, asked: Asked) -> Self {
        Self { listening, asked, way: Way::Deaf }
    }

    pub(crate) fn head(&mut self, framing: Framing, coded: bool, event_bytes_max: usize) {
        self.way = match framing {
            _ if coded => Way::Coded,
            Framing::Sse => Way::Events(Box::new(Events {
                scan: ResponseScan::new(Dialect::Mcp, Framing::Sse).event_bytes_max(event_bytes_max),
                blocks: Blocks::default(),
                room: Room::default(),
                is_first: true,
                marks: Vec::new(),
            })),
            Framing::Json => Way::Whole { pending: Vec::new(), room: Room::default(), is_json: true },
            Framing::Opaque => Way::Whole { pending: Vec::new(), room: Room::default(), is_json: false },
        };
    }

    /// These bytes have come, and may leave afterwards.
    pub(crate) fn data(&mut self, data: &Bytes, memory: &Arc<Semaphore>) {
        if data.is_empty() {
            return;
        }
        let missed = match &mut self.way {
            Way::Deaf => return,
            Way::Coded => Some(Missed::Unread),
            Way::Whole { pending, room, .. } => {
                let length = pending.len() + data.len();
                let fits = length <= MESSAGE_BYTES_MAX && room.hold(memory, length as u64).is_ok();
                if fits {
                    pending.extend_from_slice(data);
                }
                (!fits).then_some(Missed::Bytes)
            }
            Way::Events(events) => {
                for event in events.cut(data) {
                    self.listening.take(&self.asked, &event);
                }
                let pending = events.blocks.pending();
                let fits = pending <= MESSAGE_BYTES_MAX && events.room.hold(memory, pending as u64).is_ok();
                (!fits).then_some(Missed::Bytes)
            }
        };
        if let Some(missed) = missed {
            self.listening.miss(missed);
            self.way = Way::Deaf;
        }
    }

    /// The answer is over.
    pub(crate) fn end(&mut self) {
        match std::mem::replace(&mut self.way, Way::Deaf) {
            Way::Deaf | Way::Coded => {}
            Way::Whole { pending, is_json: true, .. } => self.listening.take(&self.asked, &pending),
            Way::Whole { pending, .. } => {
                self.listening.learn(None, &String::from_utf8_lossy(&pending).into_owned().into());
            }
            Way::Events(mut events) => {
                let rest = events.blocks.take();
                let event = judge::data(&rest, events.is_first);
                self.listening.take(&self.asked, &event);
            }
        }
    }

    /// It breaks off here. `given`: a part of it may have left.
    pub(crate) fn cut(&mut self, given: bool) {
        let is_pending = match std::mem::replace(&mut self.way, Way::Deaf) {
            Way::Deaf | Way::Coded => false,
            Way::Whole { pending, .. } => !pending.is_empty(),
            Way::Events(events) => events.blocks.pending() > 0,
        };
        if is_pending && given {
            self.listening.miss(Missed::Cut);
        }
    }
}

impl Events {
    /// The data of the events that end in this chunk.
    fn cut(&mut self, chunk: &Bytes) -> Vec<Bytes> {
        let mut marks = std::mem::take(&mut self.marks);
        marks.clear();
        self.scan.push(chunk, &mut |mark| marks.push(mark));
        let mut from = usize::from(self.blocks.line_feed(chunk).is_some());
        let mut events = Vec::with_capacity(marks.len());
        for mark in &marks {
            let (block, next) = self.blocks.end(chunk, from, mark.end);
            events.push(judge::data(&block, std::mem::take(&mut self.is_first)));
            from = next;
        }
        self.blocks.keep(chunk, from);
        self.marks = marks;
        events
    }
}

impl Listening {
    /// Learns from a message, or from several.
    fn take(&self, asked: &Asked, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        if text.len() > MESSAGE_BYTES_MAX {
            return self.miss(Missed::Bytes);
        }
        match read_json(text) {
            None => self.miss(Missed::Unread),
            Some(Value::Array(messages)) => messages.iter().for_each(|message| self.take_one(asked, message)),
            Some(message) => self.take_one(asked, &message),
        }
    }

    fn take_one(&self, asked: &Asked, message: &Value) {
        let id = message.get("id");
        let tool = match asked.0.iter().find(|(asked, _)| Some(asked) == id) {
            Some((_, None)) => return,
            Some((_, Some(tool))) => Some(&**tool),
            None => None,
        };
        for given in [message.get("result"), message.get("error")].into_iter().flatten() {
            self.learn(tool, given);
        }
    }
}
