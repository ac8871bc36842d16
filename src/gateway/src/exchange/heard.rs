//! Where a call meets what tools gave earlier in its run.

use bytes::Bytes;
use estoppel_wire::dialect::{Dialect, Framing};
use http::HeaderMap;

use super::{Exchange, framing};
use crate::provenance::{Asked, Heard, Listening, Missed, Together};

impl Exchange {
    /// What it knows of its run, where rules ask.
    pub(super) fn listening(&self) -> Option<Listening> {
        if !self.snapshot.policy.listens() {
            return None;
        }
        // Calls that name no run are of many callers.
        let caller = if self.run.name().is_some() { None } else { self.caller() };
        let together = Together { run: self.run.name().map(Into::into), caller };
        Some(Listening::new(self.shared.earlier.clone(), together, self.run.opened_us()))
    }

    /// A request is sent that nobody reads.
    pub(crate) fn request_unheard(&self) {
        let is_model = !matches!(self.dialect, Dialect::Json | Dialect::Bytes | Dialect::Mcp);
        if let Some(listening) = self.listening().filter(|_| is_model) {
            listening.miss(Missed::Unread);
        }
    }

    /// Learns from a request that was read whole, and from its answer when that comes.
    pub(crate) fn listen(&mut self, coded: bool, chunks: &[Bytes]) -> Option<Listening> {
        let listening = self.listening()?;
        match self.dialect {
            Dialect::Json | Dialect::Bytes => {}
            Dialect::Mcp => {
                let asked = if coded { Asked::default() } else { Asked::read(&chunks.concat()) };
                self.heard = Some(Box::new(Heard::new(listening.clone(), asked)));
            }
            _ if coded && chunks.iter().any(|chunk| !chunk.is_empty()) => listening.miss(Missed::Unread),
            _ => listening.learn_request(self.dialect, &chunks.concat()),
        }
        Some(listening)
    }

    /// The answer's head has come.
    pub(super) fn hear_head(&mut self, framing: Framing, coded: bool) {
        let limits = self.route.as_ref().map(|route| route.settings.limits).unwrap_or_default();
        let event_bytes_max = usize::try_from(limits.event_bytes_max).unwrap_or(usize::MAX);
        if let Some(heard) = &mut self.heard {
            heard.head(framing, coded, event_bytes_max);
        }
    }

    /// Bytes of the answer that have not left.
    pub(super) fn hear_results(&mut self, data: &Bytes) {
        if let Some(heard) = &mut self.heard {
            heard.data(data, &self.shared.held);
        }
    }

    /// All of the answer is here, and its end has not left.
    pub(super) fn results_end(&mut self) {
        if let Some(heard) = &mut self.heard {
            heard.end();
        }
    }

    pub(super) fn results_break_off(&mut self) {
        let given = self.given;
        if let Some(heard) = &mut self.heard {
            heard.cut(given);
        }
    }

    /// The answer of an earlier call is given again, in this run.
    pub(crate) fn hear_again(&mut self, headers: &HeaderMap, body: &Bytes) {
        let (framing, coded) = framing(headers);
        self.hear_head(framing, coded);
        self.hear_results(body);
        self.results_end();
    }
}
