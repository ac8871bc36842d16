//! Where a call meets its route's detectors.

use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::Reason;
use estoppel_evidence::entry::{DetectorOutcome, Downgrade, VerdictAction};
use estoppel_policy::{DetectorTerms, Surface, Verdict};
use estoppel_wire::dialect::Framing;

use super::Exchange;
use crate::body::Kept;
use crate::detecting::{Detecting, Ended, Question, RouteDetectors, Told, reason};
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
        let detecting = self.detecting.get_or_insert_with(new);
        if surface == Surface::Answer {
            drop(detecting.heard()); // all of it is here
        }
        self.tell_taps(detectors, surface, body);
        let mut question = None;
        for (external, terms) in detectors.externals(surface).filter(|(external, _)| external.is_in_line()) {
            if question.is_none() {
                let (call, dialect) = (self.call.to_string(), self.dialect.as_str());
                question = Question::new(&call, &route.name, dialect, surface.as_str(), &body.concat());
            }
            let Some(question) = question.clone() else { return Err(Reason::Internal.into()) };
            let began_us = self.elapsed_us();
            let ended = external.ask(question, self.shared.clock.mono_us()).await;
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
            self.asked(external.name(), outcome(ended), began_us);
        }
        Ok(())
    }

    /// Tells external detectors of a body, without waiting for any.
    fn tell_taps(&mut self, detectors: &RouteDetectors, surface: Surface, body: &[Bytes]) {
        let Some(route) = self.route.as_ref().map(|route| route.name.clone()) else { return };
        for external in detectors.taps(surface) {
            let began_us = self.elapsed_us();
            let told = Told {
                call: self.call,
                route: route.clone(),
                dialect: self.dialect.as_str(),
                surface: surface.as_str(),
                unit: body.to_vec(),
            };
            let found = self.shared.metrics.tapped(&route, external.name());
            let is_taken = external.tap(told, self.shared.clock.mono_us(), &found);
            self.tapped(&route, external.name(), is_taken, began_us);
        }
    }

    /// Tells those of an answer that was not read whole, now that it is over.
    fn tell_of_stream(&mut self) {
        let Some(detecting) = &mut self.detecting else { return };
        let (kept, detectors) = (detecting.heard(), detecting.route().clone());
        match kept {
            Kept::Nothing => {}
            Kept::Bytes(bytes, _) => self.tell_taps(&detectors, Surface::Answer, &[bytes.into()]),
            Kept::TooMuch => {
                let Some(route) = self.route.as_ref().map(|route| route.name.clone()) else { return };
                for external in detectors.taps(Surface::Answer) {
                    self.tapped(&route, external.name(), false, self.elapsed_us());
                }
            }
        }
    }

    fn tapped(&mut self, route: &str, name: &str, is_taken: bool, began_us: u64) {
        if !is_taken {
            self.shared.metrics.tap_overflow(route, name);
        }
        let outcome = if is_taken { DetectorOutcome::Tapped } else { DetectorOutcome::Skipped };
        self.asked(name, outcome, began_us);
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
        detecting.hear(&data, &self.shared.held);
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
        self.tell_of_stream();
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
