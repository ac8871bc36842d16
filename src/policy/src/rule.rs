//! A rule, compiled, and whether it holds.

use crate::content::Content;
use crate::document::{Rule, When};
use crate::explain::{Failed, Subject};
use crate::facts::{Call, Condition, RequestFacts};
use crate::host::{Host, HostPattern};
use crate::pattern::Patterns;
use crate::predicate::{Asked, Predicate, Truth, ValueClass};
use crate::provenance;

/// What is judged at once.
#[derive(Clone, Copy)]
pub(crate) struct Looked<'f> {
    pub subject: Subject<'f>,
    /// What the subject's tool is called with; none without a tool.
    pub call: Option<Call<'f>>,
    /// What there is without a call: the request's body, or what an answer says.
    pub content: Option<&'f Content>,
}

/// Whether a rule holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Held<'p> {
    Holds,
    /// Only what a call will bring is missing.
    ToCome(Failed<'p>),
    /// All that could be read holds.
    Unknown(Failed<'p>),
    Fails(Failed<'p>),
}

#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub rule: Rule,
    when: CompiledWhen,
    unless: Option<CompiledWhen>,
}

impl CompiledRule {
    pub fn new(rule: &Rule) -> Self {
        Self {
            rule: rule.clone(),
            when: CompiledWhen::new(&rule.when),
            unless: rule.unless.as_ref().map(CompiledWhen::new),
        }
    }

    /// Whether it, or what excepts from it, has the condition.
    pub fn asks(&self, condition: Condition) -> bool {
        self.rule.when.has(condition) || self.rule.unless.as_ref().is_some_and(|unless| unless.has(condition))
    }

    /// Whether it can hold on a route, as far as its name says.
    pub fn is_for(&self, route: &str) -> bool {
        self.when
            .names
            .iter()
            .all(|(condition, patterns)| *condition != Condition::Route || patterns.matches(route))
    }

    /// The host in a call or a body that it holds because of.
    pub fn host<'c>(&self, content: &'c Content) -> Option<&'c Host> {
        let has_data = |patterns: &Patterns| {
            content.data().is_some_and(|data| data.found.iter().any(|class| patterns.matches(class)))
        };
        let takes = |hosts: &[HostPattern], host: &Host| hosts.iter().any(|pattern| pattern.matches(host));
        let (inside, outside) = (self.when.destination.as_deref(), self.when.destination_not.as_deref());
        if inside.is_none() && outside.is_none() || !self.when.data.as_ref().is_none_or(has_data) {
            return None;
        }
        let mut hosts = content.destinations().hosts.iter();
        hosts.find(|host| match (outside, inside) {
            (Some(outside), _) => !takes(outside, host),
            (None, inside) => inside.is_some_and(|inside| takes(inside, host)),
        })
    }

    /// Whether it holds. An absent fact fulfils no condition.
    pub fn holds(&self, facts: &RequestFacts<'_>, looked: Looked<'_>) -> Held<'_> {
        let held = self.when.holds(facts, looked);
        let Some(unless) = &self.unless else { return held };
        match (held, unless.holds(facts, looked)) {
            (Held::Fails(failed), _) => Held::Fails(failed),
            (_, Held::Holds) => Held::Fails(Failed::UNLESS),
            (Held::Unknown(failed), _) => Held::Unknown(failed),
            (_, Held::Unknown(failed)) => Held::Unknown(Failed { unless: true, ..failed }),
            (Held::ToCome(failed), _) => Held::ToCome(failed),
            (Held::Holds, Held::ToCome(failed)) => Held::ToCome(Failed { unless: true, ..failed }),
            (Held::Holds, Held::Fails(_)) => Held::Holds,
        }
    }
}

#[derive(Debug)]
struct CompiledWhen {
    /// Conditions on names.
    names: Box<[(Condition, Patterns)]>,
    arguments: Box<[Asked]>,
    body: Box<[Asked]>,
    data: Option<Patterns>,
    destination: Option<Box<[HostPattern]>>,
    destination_not: Option<Box<[HostPattern]>>,
    provenance: Option<provenance::Asked>,
    after: Option<Patterns>,
}

impl CompiledWhen {
    fn new(when: &When) -> Self {
        let patterns =
            |condition: Condition| Some(Patterns::new(when.names.get(&condition)?, condition.case()));
        let hosts = |condition| {
            let written = when.names.get(&condition)?;
            // INVARIANT: the reader has accepted each.
            Some(written.iter().filter_map(|pattern| HostPattern::parse(pattern)).collect())
        };
        let names = when.names.keys().filter(|condition| !condition.is_of_content());
        let asked = |predicates: &[Predicate]| predicates.iter().map(Asked::new).collect();
        Self {
            names: names.filter_map(|condition| Some((*condition, patterns(*condition)?))).collect(),
            arguments: asked(&when.arguments),
            body: asked(&when.body),
            data: patterns(Condition::Data),
            destination: hosts(Condition::Destination),
            destination_not: hosts(Condition::DestinationNot),
            provenance: when.provenance.as_ref().map(provenance::Asked::new),
            after: patterns(Condition::After),
        }
    }

    fn holds(&self, facts: &RequestFacts<'_>, looked: Looked<'_>) -> Held<'_> {
        let fact = |condition| match condition {
            Condition::Route => Some(facts.route),
            Condition::Operation => facts.operation,
            Condition::Dialect => facts.dialect,
            Condition::Method => facts.method,
            Condition::Identity => facts.identity,
            Condition::Tenant => facts.tenant,
            Condition::Model => looked.subject.model,
            Condition::Tool => looked.subject.tool,
            Condition::Arguments
            | Condition::Body
            | Condition::Data
            | Condition::Destination
            | Condition::DestinationNot
            | Condition::Provenance
            | Condition::After => None,
        };
        let fails = |(condition, patterns): &&(Condition, Patterns)| {
            !fact(*condition).is_some_and(|fact| patterns.matches(fact))
        };
        match self.names.iter().find(fails) {
            Some((condition, _)) => Held::Fails(Failed::of(*condition)),
            None => self.content_holds(facts, looked),
        }
    }

    fn content_holds(&self, facts: &RequestFacts<'_>, looked: Looked<'_>) -> Held<'_> {
        let mut held = Held::Holds;
        if !self.arguments.is_empty() {
            held = worse(
                held,
                predicates(Condition::Arguments, &self.arguments, &Source::of_call(looked), facts.tenant),
            );
        }
        if !self.body.is_empty() {
            held = worse(
                held,
                predicates(Condition::Body, &self.body, &Source::of_body(facts.body), facts.tenant),
            );
        }
        if let Some(patterns) = &self.data {
            held = worse(held, of_data(patterns, &Source::of_data(looked)));
        }
        let source = || Source::of_destination(looked);
        if let Some(hosts) = &self.destination {
            let takes = |host: &Host| hosts.iter().any(|pattern| pattern.matches(host));
            held = worse(held, of_hosts(Condition::Destination, &source(), takes));
        }
        if let Some(hosts) = &self.destination_not {
            let takes = |host: &Host| !hosts.iter().any(|pattern| pattern.matches(host));
            held = worse(held, of_hosts(Condition::DestinationNot, &source(), takes));
        }
        if let Some(asked) = &self.provenance {
            let asked = |content: &Content| asked.ask(content);
            held = worse(held, of_earlier(Condition::Provenance, &Source::of_call(looked), asked));
        }
        if let Some(tools) = &self.after {
            let asked = |content: &Content| provenance::comes_after(tools, content);
            held = worse(held, of_earlier(Condition::After, &Source::of_call(looked), asked));
        }
        held
    }
}

/// Of two conditions that must both hold: what is known of them together, and the first that says so.
fn worse<'p>(first: Held<'p>, second: Held<'p>) -> Held<'p> {
    let weight = |held: &Held<'_>| match held {
        Held::Holds => 0,
        Held::ToCome(_) => 1,
        Held::Unknown(_) => 2,
        Held::Fails(_) => 3,
    };
    if weight(&second) > weight(&first) { second } else { first }
}

/// Where a condition on content looks.
enum Source<'f> {
    Absent,
    ToCome,
    Content(&'f Content),
}

impl<'f> Source<'f> {
    fn of_body(content: Option<&'f Content>) -> Self {
        content.map_or(Self::Absent, Self::Content)
    }

    fn of_call(looked: Looked<'f>) -> Self {
        match looked.call {
            None => Self::Absent,
            Some(Call::Offered | Call::ToCome) => Self::ToCome,
            Some(Call::With(content)) => Self::Content(content),
        }
    }

    /// A tool that is offered brings nothing; the body does.
    fn of_data(looked: Looked<'f>) -> Self {
        match looked.call {
            None | Some(Call::Offered) => Self::of_body(looked.content),
            Some(Call::ToCome | Call::With(_)) => Self::of_call(looked),
        }
    }

    fn of_destination(looked: Looked<'f>) -> Self {
        match looked.call {
            None => Self::of_body(looked.content),
            Some(_) => Self::of_call(looked),
        }
    }
}

fn predicates<'p>(
    condition: Condition,
    asked: &'p [Asked],
    source: &Source<'_>,
    tenant: Option<&str>,
) -> Held<'p> {
    let failed = |asked: &'p Asked, found| Failed {
        predicate: Some((&asked.predicate, found)),
        ..Failed::of(condition)
    };
    let all = |found| asked.first().map_or(Failed::of(condition), |first| failed(first, found));
    let json = match source {
        Source::Absent => return Held::Fails(all(ValueClass::Nothing)),
        Source::ToCome => return Held::ToCome(all(ValueClass::Nothing)),
        Source::Content(content) => match content.json() {
            None => return Held::Unknown(all(ValueClass::Unread)),
            Some(json) => json,
        },
    };
    asked.iter().fold(Held::Holds, |held, asked| {
        if matches!(held, Held::Fails(_)) {
            return held;
        }
        worse(
            held,
            match asked.ask(json, tenant) {
                Truth::True => Held::Holds,
                Truth::Unknown => Held::Unknown(failed(asked, asked.found(json, tenant))),
                Truth::False => Held::Fails(failed(asked, asked.found(json, tenant))),
            },
        )
    })
}

fn of_data<'p>(patterns: &Patterns, source: &Source<'_>) -> Held<'p> {
    let truth = match source {
        Source::Absent => Truth::False,
        Source::ToCome => return Held::ToCome(Failed::of(Condition::Data)),
        Source::Content(content) => match content.data() {
            None => Truth::Unknown,
            Some(data) if data.found.iter().any(|class| patterns.matches(class)) => Truth::True,
            Some(data) => match &data.looked_for {
                Some(classes) if !patterns.each_matches_one_of(classes) => Truth::Unknown,
                _ => Truth::False,
            },
        },
    };
    told(Condition::Data, truth)
}

fn of_hosts<'p>(condition: Condition, source: &Source<'_>, takes: impl Fn(&Host) -> bool) -> Held<'p> {
    let truth = match source {
        Source::Absent => Truth::False,
        Source::ToCome => return Held::ToCome(Failed::of(condition)),
        Source::Content(content) => {
            let found = content.destinations();
            let others = if found.others { Truth::Unknown } else { Truth::False };
            Truth::of(found.hosts.iter().any(takes)).or(others)
        }
    };
    told(condition, truth)
}

fn of_earlier<'p>(condition: Condition, source: &Source<'_>, ask: impl Fn(&Content) -> Truth) -> Held<'p> {
    let truth = match source {
        Source::Absent => Truth::False,
        Source::ToCome => return Held::ToCome(Failed::of(condition)),
        Source::Content(content) => ask(content),
    };
    told(condition, truth)
}

fn told<'p>(condition: Condition, truth: Truth) -> Held<'p> {
    match truth {
        Truth::True => Held::Holds,
        Truth::Unknown => Held::Unknown(Failed::of(condition)),
        Truth::False => Held::Fails(Failed::of(condition)),
    }
}
