//! Where a call meets its route's detectors.

use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_evidence::entry::{DetectorOutcome, Downgrade, VerdictAction};
use estoppel_policy::{DetectorTerms, Surface, Verdict};
use estoppel_wire::dialect::Framing;

use super::Exchange;
use crate::detecting::{Detecting, Ended, Question, reason};
use crate::judging::Objection;

impl Exchange {
    /// Has a request that was read whole looked at.
    ///
    /// # Errors
    /// The policy blocks what was found.
    pub(crate) fn detect_request(&mut self, coded: bool, chunks: &[Bytes]) -> Result<(), Objection> {
        let found = self.detected(coded, chunks);
        self.note_threat(found)
    }

    /// Has it looked at before rules are asked that want to know what is in it; none where no rule does. What detectors say
    /// of it waits for its turn.
    pub(crate) fn detect_before_rules(
        &mut self,
        coded: bool,
        chunks: &[Bytes],
    ) -> Option<Result<(), Objection>> {
        let asks = self.route.as_ref().is_some_and(|route| route.needs.data);
        asks.then(|| {
            let found = self.detected(coded, chunks);
            if let Some(detecting) = &mut self.detecting
                && let Some(classes) = detecting.in_request()
            {
                detecting.told(&classes.found);
            }
            found
        })
    }

    fn detected(&mut self, coded: bool, chunks: &[Bytes]) -> Result<(), Objection> {
        let Some(route) = self.route.as_ref().and_then(|route| route.detectors.clone()) else {
            return Ok(());
        };
        let detecting = self.detecting.insert(Box::new(Detecting::new(route, self.dialect)));
        detecting.request(coded, chunks)
    }

    /// Has a body seen by external detectors, and waits for those that may block it.
    ///
    /// # Errors
    /// One objects; or has no answer, and the policy wants one.
    pub(crate) async fn ask_detectors(&mut self, surface: Surface, body: &[Bytes]) -> Result<(), Objection> {
        let Some(route) = self.route.clone() else { return Ok(()) };
        let Some(detectors) = &route.detectors else { return Ok(()) };
        if body.iter().all(Bytes::is_empty) || detectors.externals(surface).next().is_none() {
            return Ok(());
        }
        let new = || Box::new(Detecting::new(detectors.clone(), self.dialect));
        self.detecting.get_or_insert_with(new);
        let (call, dialect) = (self.call.to_string(), self.dialect.as_str());
        let Some(question) = Question::new(&call, &route.name, dialect, surface.as_str(), &body.concat())
        else {
            return Err(Reason::Internal.into());
        };
        for (external, terms) in detectors.externals(surface) {
            let began_us = self.elapsed_us();
            let outcome = if external.is_in_line() {
                let ended = external.ask(question.clone(), self.shared.clock.mono_us()).await;
                let blocks = match ended {
                    Ended::Clear | Ended::Found(_) => ended == Ended::Found(true),
                    Ended::Timeout | Ended::Failed => on_timeout(terms) == Verdict::Block,
                };
                if let Some(reason) = reason(ended) {
                    if blocks {
                        self.asked(external.name(), DetectorOutcome::Block, began_us);
                        let detail = format!("detector `{}`", external.name());
                        return self.note_threat(Err(Objection::new(reason, &detail)));
                    }
                    let detail = Some(format!("detector {}", external.name()).into());
                    self.record.downgrades.push(Downgrade { code: reason, detail });
                }
                outcome(ended)
            } else {
                let found = self.shared.metrics.tapped(&route.name, external.name());
                match external.tap(question.clone(), self.shared.clock.mono_us(), &found) {
                    true => DetectorOutcome::Tapped,
                    false => {
                        self.shared.metrics.tap_overflow(&route.name, external.name());
                        DetectorOutcome::Skipped
                    }
                }
            };
            self.asked(external.name(), outcome, began_us);
        }
        Ok(())
    }

    fn asked(&mut self, name: &str, outcome: DetectorOutcome, began_us: u64) {
        let us = self.elapsed_us().saturating_sub(began_us);
        if let Some(detecting) = &mut self.detecting {
            detecting.asked(name, outcome, us);
        }
    }

    pub(super) fn detect_head(&mut self, framing: Framing, coded: bool) {
        let Some(route) = self.route.as_ref() else { return };
        let limits = route.settings.limits;
        let bytes = |max: u64| usize::try_from(max).unwrap_or(usize::MAX);
        let limits = (bytes(limits.event_bytes_max), bytes(limits.held_bytes_max));
        if let Some(detectors) = &route.detectors {
            let new = || Box::new(Detecting::new(detectors.clone(), self.dialect));
            self.detecting.get_or_insert_with(new).answer_head(framing, coded, limits);
        }
    }

    /// Whether the answer may leave only once it was looked at whole.
    pub(crate) fn detects_whole(&self) -> bool {
        self.detecting.as_ref().is_some_and(|detecting| detecting.wants_whole())
    }

    pub(super) fn holds_events(&self) -> bool {
        self.detecting.as_ref().is_some_and(|detecting| detecting.holds_events())
    }

    /// Has an answer that was read whole looked at.
    ///
    /// # Errors
    /// The policy blocks what was found.
    pub(crate) fn detect_answer(&mut self, body: &[Bytes]) -> Result<(), Objection> {
        let Some(detecting) = &mut self.detecting else { return Ok(()) };
        let found = detecting.answer(body);
        self.note_threat(found)
    }

    /// Has bytes of an answer looked at as they come. Gives those that may go on.
    ///
    /// # Errors
    /// The policy blocks what was found.
    pub(crate) fn detect_data(&mut self, data: Bytes) -> Result<Bytes, Objection> {
        let Some(detecting) = &mut self.detecting else { return Ok(data) };
        let found = detecting.data(data);
        self.note_threat(found)
    }

    /// The answer is over. Gives what of it was held.
    ///
    /// # Errors
    /// The policy blocks what was found.
    pub(crate) fn detect_end(&mut self) -> Result<Bytes, Objection> {
        let Some(detecting) = &mut self.detecting else { return Ok(Bytes::new()) };
        let found = detecting.end();
        self.note_threat(found)
    }

    pub(crate) fn note_threat<T>(&mut self, found: Result<T, Objection>) -> Result<T, Objection> {
        if found.is_err() && self.record.verdict.action != VerdictAction::Block {
            let threat = self.detecting.as_ref().and_then(|detecting| detecting.threat());
            self.record.threat = threat.map(Arc::new);
        }
        found
    }

    pub(super) fn finish_detecting(&mut self) {
        let Some(detecting) = self.detecting.take() else { return };
        let (record, counts) = detecting.record();
        let route = self.route.as_ref().map_or("none", |route| &route.name);
        self.shared.metrics.found(route, &counts);
        self.record.detection = Some(Box::new(record));
    }
}

fn on_timeout(terms: &DetectorTerms) -> Verdict {
    terms.external.as_ref().map_or(Verdict::Block, |external| external.on_timeout())
}

fn outcome(ended: Ended) -> DetectorOutcome {
    match ended {
        Ended::Clear => DetectorOutcome::Clear,
        Ended::Found(_) => DetectorOutcome::Found,
        Ended::Timeout => DetectorOutcome::Timeout,
        Ended::Failed => DetectorOutcome::Error,
    }
}
