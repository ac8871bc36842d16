//! Recorded calls one after the other, so that what earlier ones used counts: rates, velocities, caps and freezes.
//!
//! Each call is judged once; what controls would count of it goes by nothing else. So any of them can be left out, and the
//! rest be counted anew at the times when they were recorded.

use estoppel_evidence::Reason;
use estoppel_evidence::entry::VerdictAction;
use estoppel_policy::Control;
use estoppel_state::{Claim, Tally};
use estoppel_wire::dialect::{Dialect, RequestScan};

use super::{Cause, RecordedCall, Rejudged, Request, Retrial, chunk};
use crate::controls::{Asks, Ending, Plan, reason};

/// A call that was judged, with what controls would count of it.
#[derive(Clone, Debug)]
pub struct Prepared {
    judged: Result<Rejudged, Cause>,
    counts: Counts,
}

#[derive(Clone, Debug)]
enum Counts {
    Nothing,
    /// It could never have been counted.
    Refused(Box<Rejudged>),
    Claims {
        began_us: u64,
        claims: Vec<Claim>,
        /// Of each claim, what refuses a call whose count is used up, and what it used in the end.
        counted: Vec<(Rejudged, u64)>,
    },
}

impl Retrial {
    /// Judges a call for a series.
    pub fn prepare(&self, call: &RecordedCall) -> Prepared {
        let judged = self.judge(call).map_err(|undecided| undecided.cause);
        let is_counted = judged.as_ref().is_ok_and(|judged| judged.not_asked.contains(&super::CONTROLS));
        let counts = if is_counted { self.counts(call) } else { Ok(Counts::Nothing) };
        match counts {
            Ok(counts) => Prepared { judged, counts },
            Err(cause) => Prepared { judged: Err(cause), counts: Counts::Nothing },
        }
    }

    fn counts(&self, call: &RecordedCall) -> Result<Counts, Cause> {
        let route = self.route(&call.route);
        let dialect = call.dialect.unwrap_or(Dialect::Bytes);
        let body = chunk(call.request_body.as_ref());
        let mut scan = RequestScan::new(dialect, "/");
        scan.push(&body);
        let asks = Asks { output_max: scan.finish().output_max, request_bytes: body.len() as u64 }; // a length fits
        let request = Request::read(&route, call, call.request_evaluated.unwrap_or(true), None)?;
        let answer = call.answer.as_ref();
        let ending = Ending {
            sent: true,
            status: answer.map(|answer| answer.status),
            usage: answer.map(|answer| answer.usage).unwrap_or_default(),
            is_whole: answer.is_some_and(|answer| answer.is_whole),
            dialect,
        };
        let planned = request.tell(|facts| match Plan::new(&self.policy, &facts, call.began_us, asks) {
            Ok(plan) => Ok(plan),
            Err(refused) => Err(refusal(refused.control, refused.reason)),
        });
        Ok(match planned {
            Err(refused) => Counts::Refused(Box::new(refused)),
            Ok(Plan { claims, counting }) => {
                let counted = counting.iter().filter_map(|counting| {
                    let control = self.policy.control(counting.control)?;
                    Some((refusal(control, reason(control.kind)), counting.used(&ending).1))
                });
                Counts::Claims { began_us: call.began_us, counted: counted.collect(), claims }
            }
        })
    }
}

/// What a control says that does not let a call pass.
fn refusal(control: &Control, why: Reason) -> Rejudged {
    let own = control.reason().filter(|_| why == reason(control.kind));
    Rejudged {
        action: VerdictAction::Block,
        rule: Some(control.id().to_string()),
        reason: Some(own.map_or_else(|| why.code().to_owned(), ToString::to_string)),
        not_asked: Vec::new(),
        findings: Vec::new(),
    }
}

/// What becomes of these calls if there are no others.
pub fn in_series<'p>(calls: impl IntoIterator<Item = &'p Prepared>) -> Vec<Result<Rejudged, Cause>> {
    let mut tally = Tally::default();
    calls.into_iter().map(|call| call.counted(&mut tally)).collect()
}

impl Prepared {
    fn counted(&self, tally: &mut Tally) -> Result<Rejudged, Cause> {
        let judged = self.judged.clone()?;
        let (began_us, claims, counted) = match &self.counts {
            Counts::Nothing => return Ok(judged),
            Counts::Refused(refused) => return Ok(Rejudged::clone(refused)),
            Counts::Claims { began_us, claims, counted } => (*began_us, claims, counted),
        };
        match tally.reserve(began_us, claims).map_err(|error| error.to_string())? {
            Err(refused) => match counted.get(refused.claim) {
                Some((refusal, _)) => Ok(refusal.clone()),
                None => Err("the control that refuses it is not known".into()),
            },
            Ok(grants) => {
                grants.into_iter().zip(counted).for_each(|(grant, (_, used))| tally.settle(grant, *used));
                Ok(Rejudged { not_asked: Vec::new(), ..judged })
            }
        }
    }
}
