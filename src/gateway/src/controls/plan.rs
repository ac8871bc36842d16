//! What a call is to be counted as, and what it turned out to be.

use std::sync::Arc;

use estoppel_evidence::Reason;
use estoppel_evidence::entry::{INTEGER_MAX, LimitState, Usage};
use estoppel_policy::{Applied, By, Control, ControlKind, Per, Policy, Price, RequestFacts, Targets, Unit};
use estoppel_state::{Claim, CounterKey, Span};
use estoppel_wire::dialect::Dialect;

use super::Ending;

/// Most counts of one call; a receipt has room for so many.
const COUNTS_MAX: usize = 32;
/// Tokens that a call is taken to use where neither the policy nor the request says.
const ESTIMATE: u64 = 4_096;
/// About so many bytes of a request are one token.
const BYTES_OF_TOKEN: u64 = 4;
const DAY_US: u64 = 86_400_000_000;

/// What is to be counted, and how, in the same order.
pub(crate) struct Plan {
    pub claims: Vec<Claim>,
    pub counting: Vec<Counting>,
}

/// One count of a call.
#[derive(Debug)]
pub(crate) struct Counting {
    /// Which of the policy's controls.
    pub control: usize,
    pub rule: Arc<str>,
    pub unit: Unit,
    pub reserved: u64,
    /// For costs, in force when the call began.
    price: Option<Price>,
}

/// A call that cannot be counted.
pub(crate) struct Uncountable<'p> {
    pub reason: Reason,
    pub detail: Option<String>,
    pub control: &'p Control,
}

/// What a request says of the tokens that it asks for: the most that may come out, and its own bytes.
#[derive(Clone, Copy)]
pub(crate) struct Asks {
    pub(crate) output_max: Option<u64>,
    pub(crate) request_bytes: u64,
}

impl Plan {
    pub fn new<'p>(
        policy: &'p Policy,
        facts: &RequestFacts<'_>,
        now_us: u64,
        asks: Asks,
    ) -> Result<Self, Uncountable<'p>> {
        let mut plan = Self { claims: Vec::new(), counting: Vec::new() };
        for applied in policy.controls(facts) {
            let control = applied.control;
            let refused = |reason, detail| Uncountable { reason, detail, control };
            if plan.claims.len() == COUNTS_MAX && control.kind != ControlKind::Freeze {
                let detail = format!("more than {COUNTS_MAX} counts for one call");
                return Err(refused(Reason::NotEvaluated, Some(detail)));
            }
            let Some((span, unit, limit, estimate)) = terms(control.kind) else {
                if control.is_frozen(now_us / 1_000_000) {
                    return Err(refused(Reason::Frozen, None));
                }
                continue;
            };
            if let Some(targets) = &applied.targets {
                let counter = name(&applied, facts, span, unit);
                plan.count_targets(
                    &applied,
                    targets,
                    Claim { counter, span, amount: 1, limit, member: None },
                )?;
                continue;
            }
            let price = match unit {
                Unit::Calls | Unit::Targets | Unit::Tokens => None,
                Unit::Cost => {
                    let price = facts.model.and_then(|model| policy.price(model, now_us / DAY_US));
                    Some(price.cloned().ok_or_else(|| refused(Reason::PriceMissing, None))?)
                }
            };
            let reserved = reserve(unit, estimate, asks, price.as_ref());
            plan.claims.push(Claim {
                counter: name(&applied, facts, span, unit),
                span,
                amount: reserved,
                limit,
                member: None,
            });
            plan.counting.push(Counting {
                control: applied.index,
                rule: control.id().as_str().into(),
                unit,
                reserved,
                price,
            });
        }
        Ok(plan)
    }

    /// Counts each target once.
    fn count_targets<'p>(
        &mut self,
        applied: &Applied<'p, '_>,
        targets: &Targets,
        claim: Claim,
    ) -> Result<(), Uncountable<'p>> {
        let control = applied.control;
        let refused =
            |detail| Err(Uncountable { reason: Reason::NotEvaluated, detail: Some(detail), control });
        if targets.others {
            return refused("not all that the call goes to can be read".into());
        }
        if self.claims.len() + targets.known.len() > COUNTS_MAX {
            return refused(format!("more than {COUNTS_MAX} counts for one call"));
        }
        for target in &targets.known {
            self.claims.push(Claim { member: Some(claim.counter.member(target)), ..claim });
            self.counting.push(Counting {
                control: applied.index,
                rule: control.id().as_str().into(),
                unit: Unit::Targets,
                reserved: 1,
                price: None,
            });
        }
        Ok(())
    }
}

/// None: it counts nothing.
fn terms(kind: ControlKind) -> Option<(Span, Unit, u64, Option<u64>)> {
    Some(match kind {
        ControlKind::Freeze | ControlKind::Idempotency { .. } => return None,
        ControlKind::Rate { limit, seconds } | ControlKind::Velocity { limit, seconds } => {
            (Span::Window { seconds }, Unit::Calls, limit, None)
        }
        ControlKind::Distinct { limit, seconds } => (Span::Window { seconds }, Unit::Targets, limit, None),
        ControlKind::Cap { unit, limit, per, estimate } => {
            let span = match per {
                Per::Day => Span::Day,
                Per::Month => Span::Month,
            };
            (span, unit, limit, estimate)
        }
    })
}

/// What is held until it is known what was used.
fn reserve(unit: Unit, estimate: Option<u64>, asks: Asks, price: Option<&Price>) -> u64 {
    let input = asks.request_bytes.div_ceil(BYTES_OF_TOKEN);
    let guess = estimate.unwrap_or(ESTIMATE);
    match (unit, price, asks.output_max) {
        (Unit::Calls | Unit::Targets, _, _) => 1,
        (Unit::Cost, Some(price), Some(output)) => price.cost(input, 0, output),
        // Nobody knows on which side they will be.
        (Unit::Cost, Some(price), None) => price.cost(guess, 0, 0).max(price.cost(0, 0, guess)),
        (Unit::Tokens | Unit::Cost, _, Some(output)) => input.saturating_add(output),
        (Unit::Tokens | Unit::Cost, _, None) => guess,
    }
}

/// Everything that tells one count from others: another limit is the same count, another window is not.
fn name(applied: &Applied<'_, '_>, facts: &RequestFacts<'_>, span: Span, unit: Unit) -> CounterKey {
    let control = applied.control;
    let (kind, seconds) = span.code();
    let seconds = seconds.to_string();
    let mut parts = vec![control.id().as_str(), control.kind.as_str(), unit.as_str(), kind, &seconds];
    let values: Vec<Option<String>> = control
        .by()
        .iter()
        .map(|by| match by {
            By::Identity => facts.identity.map(Into::into),
            By::Tenant => facts.tenant.map(Into::into),
            By::Route => Some(facts.route.into()),
            // Written in either case these are the same.
            By::Model => facts.model.map(str::to_ascii_lowercase),
            By::Tool => applied.tool.map(str::to_ascii_lowercase),
        })
        .collect();
    for (by, value) in control.by().iter().zip(&values) {
        parts.push(by.as_str());
        parts.push(if value.is_some() { "is" } else { "absent" });
        parts.push(value.as_deref().unwrap_or_default());
    }
    CounterKey::of(parts)
}

impl Counting {
    /// How much counts in the end, and why.
    pub fn used(&self, ending: &Ending) -> (LimitState, u64) {
        if !ending.sent {
            return (LimitState::Released, 0);
        }
        let tokens = match self.unit {
            Unit::Calls | Unit::Targets => return (LimitState::Counted, 1),
            Unit::Tokens | Unit::Cost => Tokens::of(&ending.usage, ending.dialect),
        };
        let (stated, is_known) = match (tokens, &self.price) {
            // Who refuses a call does not bill it.
            (None, _) if ending.status.is_some_and(|status| status >= 400) => (0, true),
            (None, _) => (0, false),
            (Some(tokens), Some(price)) => {
                (price.cost(tokens.input, tokens.cached, tokens.output), tokens.sides_known)
            }
            (Some(tokens), None) => (tokens.total, tokens.total_known),
        };
        // What a stream states before its end is a part.
        if is_known && ending.is_whole || stated > self.reserved {
            (LimitState::Counted, stated.min(INTEGER_MAX))
        } else {
            (LimitState::Reserved, self.reserved)
        }
    }
}

/// What an upstream says was used, in the same terms for every dialect.
#[derive(Debug, PartialEq, Eq)]
struct Tokens {
    /// Without those that were cached. All that are known of, where nobody says on which side they were.
    input: u64,
    cached: u64,
    /// With those of reasoning.
    output: u64,
    total: u64,
    sides_known: bool,
    total_known: bool,
}

impl Tokens {
    /// None where nothing is stated.
    fn of(usage: &Usage, dialect: Dialect) -> Option<Self> {
        let cached = usage.cached_input.unwrap_or(0);
        // Anthropic's input is without what was cached, Gemini's output without its thoughts.
        let apart = if dialect == Dialect::AnthropicMessages { 0 } else { cached };
        let thoughts = if dialect == Dialect::Gemini { usage.reasoning.unwrap_or(0) } else { 0 };
        let input = usage.input.map(|input| input.saturating_sub(apart));
        let output = usage.output.map(|output| output.saturating_add(thoughts));
        let rest = |side: u64| usage.total.map(|total| total.saturating_sub(side.saturating_add(cached)));
        let sides = match (input, output) {
            (Some(input), Some(output)) => Some((input, output)),
            (Some(input), None) => rest(input).map(|output| (input, output)),
            (None, Some(output)) => rest(output).map(|input| (input, output)),
            (None, None) => None,
        };
        let (input, output) = match (sides, input, output, usage.total) {
            (Some(sides), ..) => sides,
            (None, None, None, None) => return None,
            (None, None, None, Some(total)) => (total.saturating_sub(cached), 0),
            (None, input, output, _) => (input.unwrap_or(0), output.unwrap_or(0)),
        };
        let sum = input.saturating_add(cached).saturating_add(output);
        Some(Self {
            input,
            cached,
            output,
            total: usage.total.unwrap_or(0).max(sum),
            sides_known: sides.is_some(),
            total_known: sides.is_some() || usage.total.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64, cached: u64, reasoning: u64, total: Option<u64>) -> Usage {
        let (input, output) = (Some(input), Some(output));
        Usage { input, output, cached_input: Some(cached), reasoning: Some(reasoning), total }
    }

    fn tokens(input: u64, cached: u64, output: u64, total: u64) -> Option<Tokens> {
        Some(Tokens { input, cached, output, total, sides_known: true, total_known: true })
    }

    #[test]
    fn every_dialects_usage_comes_to_the_same_terms() {
        let openai = usage(100, 50, 40, 20, Some(150));
        assert_eq!(Tokens::of(&openai, Dialect::OpenAiChat), tokens(60, 40, 50, 150));
        let anthropic = usage(60, 50, 40, 0, None);
        assert_eq!(Tokens::of(&anthropic, Dialect::AnthropicMessages), tokens(60, 40, 50, 150));
        let gemini = usage(100, 30, 40, 20, Some(150));
        assert_eq!(Tokens::of(&gemini, Dialect::Gemini), tokens(60, 40, 50, 150));
        assert_eq!(Tokens::of(&Usage::default(), Dialect::Gemini), None);
    }

    #[test]
    fn what_a_request_allows_is_reserved_and_the_estimate_where_it_says_nothing() {
        let asks = |output_max| Asks { output_max, request_bytes: 399 };
        assert_eq!(reserve(Unit::Calls, None, asks(Some(7)), None), 1);
        assert_eq!(reserve(Unit::Tokens, Some(9), asks(Some(7)), None), 107);
        assert_eq!(reserve(Unit::Tokens, Some(9), asks(None), None), 9);
        assert_eq!(reserve(Unit::Tokens, None, asks(None), None), ESTIMATE);
    }

    #[test]
    fn no_call_counts_more_than_a_receipt_can_say() {
        let most = usage(INTEGER_MAX, INTEGER_MAX, INTEGER_MAX, INTEGER_MAX, Some(INTEGER_MAX));
        for dialect in [Dialect::OpenAiChat, Dialect::AnthropicMessages, Dialect::Gemini] {
            let (control, unit, rule) = (0, Unit::Tokens, "r".into());
            let counting = Counting { control, rule, unit, reserved: 1, price: None };
            let ending = Ending { sent: true, status: Some(200), usage: most, is_whole: true, dialect };
            assert_eq!(counting.used(&ending), (LimitState::Counted, INTEGER_MAX), "{dialect:?}");
        }
    }

    #[test]
    fn what_counts_depends_on_how_the_call_ended() {
        let counting =
            |unit, reserved| Counting { control: 0, rule: "r".into(), unit, reserved, price: None };
        let ending = |sent, status, usage| Ending {
            sent,
            status,
            usage,
            is_whole: true,
            dialect: Dialect::OpenAiChat,
        };
        let known = usage(100, 50, 0, 0, None);
        let none = Usage::default();
        for (unit, sent, status, usage, expected) in [
            (Unit::Tokens, false, None, none, (LimitState::Released, 0)),
            (Unit::Calls, false, None, none, (LimitState::Released, 0)),
            (Unit::Calls, true, None, none, (LimitState::Counted, 1)),
            (Unit::Calls, true, Some(500), none, (LimitState::Counted, 1)),
            (Unit::Tokens, true, Some(200), known, (LimitState::Counted, 150)),
            (Unit::Tokens, true, Some(200), none, (LimitState::Reserved, 77)),
            (Unit::Tokens, true, None, none, (LimitState::Reserved, 77)),
            (Unit::Tokens, true, Some(429), none, (LimitState::Counted, 0)),
        ] {
            assert_eq!(
                counting(unit, 77).used(&ending(sent, status, usage)),
                expected,
                "{unit:?} {sent} {status:?}"
            );
        }
    }
}
