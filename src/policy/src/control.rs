//! Controls: what is counted over calls, and what calls cost. Which calls a control takes is said as in a rule; how much is
//! left is for whoever keeps the counters.

mod distinct;

use crate::document::{ReasonCode, Rule, RuleId, Severity, ThreatId};
use crate::facts::{RequestFacts, TOOLS_MAX, Tool};
use crate::pattern::{Case, Patterns};
use crate::policy::looked;
use crate::rule::{CompiledRule, Held};

pub(crate) use distinct::Of;
pub use distinct::{TARGETS_MAX, Targets};

/// What blocks a call once so much has been counted.
#[derive(Clone, Debug)]
pub struct Control {
    /// Says which calls, and with what they are blocked.
    pub(crate) rule: Rule,
    /// What is counted, and how much of it is let through.
    pub kind: ControlKind,
    /// As it was written; none: the kind's own.
    pub(crate) by: Option<Vec<By>>,
    pub(crate) on_store_down: Option<OnStoreDown>,
    /// INVARIANT: empty but for [`ControlKind::Freeze`].
    pub(crate) windows: Vec<Window>,
    /// INVARIANT: none but for [`ControlKind::Idempotency`]. The name of a header, in small letters, as it was written.
    pub(crate) header: Option<String>,
    /// INVARIANT: there for [`ControlKind::Distinct`], and for nothing else.
    pub(crate) of: Option<Of>,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlKind {
    /// Calls in any window of so many seconds.
    Rate { limit: u64, seconds: u32 },
    /// The same, for each identity and tool unless said otherwise.
    Velocity { limit: u64, seconds: u32 },
    /// Different targets in any window of so many seconds.
    Distinct { limit: u64, seconds: u32 },
    /// What is used in a day or a month, UTC.
    Cap {
        unit: Unit,
        limit: u64,
        per: Per,
        /// Tokens that a call is taken to use until it is known.
        estimate: Option<u64>,
    },
    /// Nothing: it blocks while one of its windows is open.
    Freeze,
    /// Nothing: a call that brings a key again gets the answer of the first.
    Idempotency {
        /// For how long.
        seconds: u32,
        /// Whether each call has to bring a key.
        required: Option<bool>,
        /// Most bytes of an answer that is kept.
        answer_bytes_max: Option<u64>,
    },
}

impl ControlKind {
    pub(crate) const KINDS: [&'static str; 6] =
        ["rate", "velocity", "distinct", "cap", "freeze", "idempotency"];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate { .. } => "rate",
            Self::Velocity { .. } => "velocity",
            Self::Distinct { .. } => "distinct",
            Self::Cap { .. } => "cap",
            Self::Freeze => "freeze",
            Self::Idempotency { .. } => "idempotency",
        }
    }
}

/// What a cap counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Calls.
    Calls,
    /// Different targets of calls; no cap counts them.
    Targets,
    /// Tokens, as the upstream states them.
    Tokens,
    /// Millionths of the currency that the prices are in.
    Cost,
}

impl Unit {
    pub(crate) const ALL: [Self; 3] = [Self::Calls, Self::Tokens, Self::Cost];

    /// The word in documents, receipts and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Targets => "targets",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
        }
    }
}

/// For how long a cap counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Per {
    /// A day, UTC.
    Day,
    /// A month, UTC.
    Month,
}

impl Per {
    pub(crate) const ALL: [Self; 2] = [Self::Day, Self::Month];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// What has a count of its own. Calls that lack it share one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The proven subject.
    Identity,
    /// Its tenant.
    Tenant,
    /// The route.
    Route,
    /// The model that is asked for.
    Model,
    /// Each tool of the call that the control takes.
    Tool,
}

impl By {
    pub(crate) const ALL: [Self; 5] = [Self::Identity, Self::Tenant, Self::Route, Self::Model, Self::Tool];

    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Tenant => "tenant",
            Self::Route => "route",
            Self::Model => "model",
            Self::Tool => "tool",
        }
    }
}

/// What becomes of calls while nobody can count them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnStoreDown {
    /// They are blocked.
    #[default]
    Closed,
    /// Each gateway lets so many through until the store is back.
    LocalBudget(u64),
}

/// When a freeze blocks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Window {
    /// From one moment until before another, in seconds since 1970, with the texts.
    Once { from: (String, u64), until: (String, u64) },
    /// On these days of each week, UTC, from one minute of the day until before another.
    Weekly { days: Vec<Weekday>, from: (String, u64), until: (String, u64) },
}

impl Window {
    fn is_open(&self, unix_s: u64) -> bool {
        match self {
            Self::Once { from, until } => (from.1..until.1).contains(&unix_s),
            Self::Weekly { days, from, until } => {
                let today = Weekday::of(unix_s / 86_400);
                days.contains(&today) && (from.1..until.1).contains(&(unix_s % 86_400 / 60))
            }
        }
    }
}

/// A day of the week.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    pub const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Monday => "mon",
            Self::Tuesday => "tue",
            Self::Wednesday => "wed",
            Self::Thursday => "thu",
            Self::Friday => "fri",
            Self::Saturday => "sat",
            Self::Sunday => "sun",
        }
    }

    /// Of a day since 1970-01-01, which was a Thursday.
    fn of(day: u64) -> Self {
        match (day + 3) % 7 {
            0 => Self::Monday,
            1 => Self::Tuesday,
            2 => Self::Wednesday,
            3 => Self::Thursday,
            4 => Self::Friday,
            5 => Self::Saturday,
            _ => Self::Sunday,
        }
    }
}

/// What tokens of some models cost, from some day on. In millionths of a currency for a million tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Price {
    /// Models, as a pattern.
    pub(crate) model: String,
    /// First day, as `YYYY-MM-DD`, UTC.
    pub(crate) from: String,
    /// The same, as days since 1970-01-01.
    pub(crate) from_day: u64,
    /// Tokens that go in.
    pub input: u64,
    /// Tokens that come out.
    pub output: u64,
    /// Tokens that go in and were cached; none: as those that were not.
    pub cached: Option<u64>,
}

impl Control {
    /// Its name.
    pub fn id(&self) -> &RuleId {
        &self.rule.id
    }

    /// The code that the policy gives for it; none: the kind's own.
    pub fn reason(&self) -> Option<&ReasonCode> {
        self.rule.reason.as_ref()
    }

    /// A text that the caller may be shown.
    pub fn message(&self) -> Option<&str> {
        self.rule.message.as_deref()
    }

    /// How bad it is when it blocks.
    pub fn severity(&self) -> Option<Severity> {
        self.rule.severity
    }

    /// What it stands against.
    pub fn threat(&self) -> &[ThreatId] {
        &self.rule.threat
    }

    /// What has a count of its own.
    pub fn by(&self) -> &[By] {
        match (&self.by, self.kind) {
            (Some(by), _) => by,
            (None, ControlKind::Velocity { .. }) => &[By::Identity, By::Tool],
            (None, _) => &[],
        }
    }

    /// Whether one of its windows is open, so many seconds after 1970-01-01T00:00:00Z.
    pub fn is_frozen(&self, unix_s: u64) -> bool {
        self.windows.iter().any(|window| window.is_open(unix_s))
    }

    /// Whether each call that it takes has to bring a key.
    pub fn requires_key(&self) -> bool {
        matches!(self.kind, ControlKind::Idempotency { required: Some(true), .. })
    }

    /// The header that brings the key of a call.
    pub fn header(&self) -> &str {
        self.header.as_deref().unwrap_or("idempotency-key")
    }

    /// What becomes of calls that cannot be counted.
    pub fn on_store_down(&self) -> OnStoreDown {
        self.on_store_down.unwrap_or_default()
    }
}

/// A control that takes a call.
#[derive(Clone, Debug)]
pub struct Applied<'p, 'f> {
    /// The control.
    pub control: &'p Control,
    /// Which of the controls that is.
    pub index: usize,
    /// The tool that it counts, where it counts tools.
    pub tool: Option<&'f str>,
    /// What the call goes to, where that is counted.
    pub targets: Option<Targets>,
}

/// Controls and prices, ready.
#[derive(Debug, Default)]
pub(crate) struct Controls {
    controls: Vec<(Control, CompiledRule)>,
    prices: Vec<(Patterns, Price)>,
}

impl Controls {
    pub fn new(controls: &[Control], prices: &[Price]) -> Self {
        let control = |control: &Control| (control.clone(), CompiledRule::new(&control.rule));
        let price =
            |price: &Price| (Patterns::new(std::slice::from_ref(&price.model), Case::Ignore), price.clone());
        Self { controls: controls.iter().map(control).collect(), prices: prices.iter().map(price).collect() }
    }

    pub fn rules(&self) -> impl Iterator<Item = &CompiledRule> {
        self.controls.iter().map(|(_, rule)| rule)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Control> {
        self.controls.iter().map(|(control, _)| control)
    }

    /// Those that count a call or freeze it, in the order of the document: each once, and those that count tools once for each tool.
    pub fn applied<'p, 'f>(&'p self, facts: &RequestFacts<'f>) -> Vec<Applied<'p, 'f>> {
        let mut applied = Vec::new();
        let counts = |control: &Control| !matches!(control.kind, ControlKind::Idempotency { .. });
        let counting = self.controls.iter().enumerate().filter(|(_, (control, _))| counts(control));
        for (index, (control, rule)) in counting {
            // What could not be read is counted; what a call will bring is not here yet.
            let takes = |tool: Option<Tool<'f>>| {
                let held = rule.holds(facts, looked(facts.model, tool, facts.body));
                matches!(held, Held::Holds | Held::Unknown(_))
            };
            let tools = facts.tools.iter().take(TOOLS_MAX).copied();
            let taken: Vec<Tool<'f>> = tools.filter(|tool| takes(Some(*tool))).collect();
            let mut counted: Vec<&'f str> = Vec::new();
            for tool in &taken {
                if !counted.iter().any(|known| known.eq_ignore_ascii_case(tool.name)) {
                    counted.push(tool.name);
                }
            }
            let takes_call = !counted.is_empty() || facts.tools.is_empty() && takes(None);
            if control.by().contains(&By::Tool) && !counted.is_empty() {
                let of_tool = |name: &&'f str| {
                    let same = taken.iter().filter(|tool| tool.name.eq_ignore_ascii_case(name));
                    let same: Vec<Tool<'f>> = same.copied().collect();
                    let targets = control.of.as_ref().map(|of| of.targets(facts, &same));
                    Applied { control, index, tool: Some(*name), targets }
                };
                applied.extend(counted.iter().map(of_tool));
            } else if takes_call {
                let targets = control.of.as_ref().map(|of| of.targets(facts, &taken));
                applied.push(Applied { control, index, tool: None, targets });
            }
        }
        applied
    }

    /// The first that goes by keys and takes a call, also where that could not be read.
    pub fn idempotency(&self, facts: &RequestFacts<'_>) -> Option<&Control> {
        let takes = |rule: &CompiledRule, tool: Option<Tool<'_>>| {
            let held = rule.holds(facts, looked(facts.model, tool, facts.body));
            matches!(held, Held::Holds | Held::Unknown(_))
        };
        let tools = || facts.tools.iter().take(TOOLS_MAX).copied();
        let found = self.controls.iter().find(|(control, rule)| {
            matches!(control.kind, ControlKind::Idempotency { .. })
                && (tools().any(|tool| takes(rule, Some(tool)))
                    || facts.tools.is_empty() && takes(rule, None))
        });
        found.map(|(control, _)| control)
    }

    /// Whether every call is blocked while nothing can be counted.
    pub fn need_a_store(&self) -> bool {
        let takes_all = |rule: &Rule| rule.when.is_empty() && rule.unless.is_none();
        self.iter().any(|control| {
            let counts = !matches!(control.kind, ControlKind::Freeze | ControlKind::Idempotency { .. });
            counts && takes_all(&control.rule) && control.on_store_down() == OnStoreDown::Closed
        })
    }

    /// Whether one may count what calls of a route are made with, as far as its name says; and whether hosts.
    pub fn count_content(&self, route: &str) -> (bool, bool) {
        let mut of = self
            .controls
            .iter()
            .filter(|(_, rule)| rule.is_for(route))
            .filter_map(|(control, _)| control.of.as_ref());
        of.by_ref().fold((false, false), |(content, hosts), of| match of {
            Of::Destination => (true, true),
            Of::Argument(_) => (true, hosts),
            Of::Tool | Of::Identity | Of::Tenant | Of::Model | Of::Route => (content, hosts),
        })
    }

    /// Whether one may go by keys on a route, as far as its name says.
    pub fn has_idempotency(&self, route: &str) -> bool {
        self.controls.iter().any(|(control, rule)| {
            matches!(control.kind, ControlKind::Idempotency { .. }) && rule.is_for(route)
        })
    }

    /// The price of a model on a day: of the first pattern that takes it and has one by then, the newest.
    pub fn price(&self, model: &str, day: u64) -> Option<&Price> {
        let in_force = |price: &&(Patterns, Price)| price.0.matches(model) && price.1.from_day <= day;
        let (_, first) = self.prices.iter().find(in_force)?;
        let same = self.prices.iter().filter(in_force).filter(|(_, price)| price.model == first.model);
        same.map(|(_, price)| price).max_by_key(|price| price.from_day)
    }
}

impl Price {
    /// The cost of so many tokens, in millionths, rounded up. `input` is without what was cached.
    pub fn cost(&self, input: u64, cached: u64, output: u64) -> u64 {
        let part = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        let cached = part(cached, self.cached.unwrap_or(self.input));
        let total = part(input, self.input).saturating_add(cached).saturating_add(part(output, self.output));
        u64::try_from(total.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use crate::PolicyDocument;

    #[test]
    fn the_newest_price_in_force_counts_and_the_first_pattern_decides() {
        let policy = PolicyDocument::parse(
            "version: 1
name: p
prices:
- { model: small-1, from: '2026-03-01', input: 7, output: 7 }
- { model: small*, from: '2026-02-01', input: 2, output: 2 }
- { model: small*, from: '2026-01-01', input: 1, output: 1 }
- { model: '*', from: '1970-01-01', input: 9, output: 9 }
",
        )
        .unwrap()
        .compile();
        let day = |text| crate::read::control::day(text).unwrap();
        let input = |model, on| policy.price(model, day(on)).map(|price| price.input);
        assert_eq!(input("Small-2", "2026-01-31"), Some(1));
        assert_eq!(input("small-2", "2026-02-01"), Some(2));
        assert_eq!(input("small-1", "2026-02-28"), Some(2));
        assert_eq!(input("small-1", "2026-03-01"), Some(7));
        assert_eq!(input("small-2", "2025-12-31"), Some(9));
        assert_eq!(input("other", "2026-03-01"), Some(9));
    }

    #[test]
    fn a_freeze_blocks_from_its_first_second_until_before_its_last() {
        let policy = PolicyDocument::parse(
            "version: 1
name: p
controls:
- id: f
  kind: freeze
  when: {}
  windows:
  - { from: '2026-12-24T00:00:00Z', until: '2026-12-27T12:00:00Z' }
  - { days: [sat, sun], from: '22:30', until: '24:00' }
",
        )
        .unwrap()
        .compile();
        let at = |text| crate::read::control::moment(text).unwrap();
        for (moment, frozen) in [
            ("2026-12-23T23:59:59Z", false),
            ("2026-12-24T00:00:00Z", true),
            ("2026-12-27T11:59:59Z", true),
            ("2026-12-27T12:00:00Z", false),
            ("2026-11-21T22:29:59Z", false), // a Saturday
            ("2026-11-21T22:30:00Z", true),
            ("2026-11-22T23:59:59Z", true),
            ("2026-11-23T00:00:00Z", false),
            ("2026-11-23T23:00:00Z", false),
        ] {
            assert_eq!(policy.control(0).unwrap().is_frozen(at(moment)), frozen, "{moment}");
        }
    }

    #[test]
    fn costs_are_rounded_up_and_cached_tokens_have_their_own_price() {
        let price = |cached| super::Price {
            model: "*".into(),
            from: "1970-01-01".into(),
            from_day: 0,
            input: 2_500_000,
            output: 10_000_000,
            cached,
        };
        assert_eq!(price(None).cost(1, 0, 0), 3);
        assert_eq!(price(None).cost(1_000, 1_000, 100), 6_000);
        assert_eq!(price(Some(0)).cost(1_000, 1_000, 100), 3_500);
        assert_eq!(price(None).cost(u64::MAX, u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn tools_are_counted_once_each_where_a_control_counts_tools() {
        let policy = PolicyDocument::parse(
            "version: 1
name: p
controls:
- { id: each, kind: velocity, when: { tool: pay* }, limit: 1, seconds: 60 }
- { id: any, kind: rate, when: { tool: pay* }, limit: 1, seconds: 60 }
- { id: all, kind: rate, when: {}, by: [tool], limit: 1, seconds: 60 }
",
        )
        .unwrap()
        .compile();
        let taken = |tools: &[&str]| -> Vec<String> {
            let tools: Vec<_> = tools.iter().copied().map(crate::Tool::from).collect();
            let facts = crate::RequestFacts { tools: &tools, ..crate::RequestFacts::default() };
            let name =
                |it: &super::Applied<'_, '_>| format!("{} {}", it.control.id(), it.tool.unwrap_or("-"));
            policy.controls(&facts).iter().map(name).collect()
        };
        assert_eq!(taken(&[]), ["all -"]);
        assert_eq!(taken(&["look"]), ["all look"]);
        assert_eq!(
            taken(&["pay", "look", "PAY", "pay2"]),
            ["each pay", "each pay2", "any -", "all pay", "all look", "all pay2"]
        );
    }
}
