//! What calls go to, where different ones are counted and not calls.

use serde_json::Value;

use crate::content::{Content, is_container};
use crate::facts::{Call, RequestFacts, Tool};
use crate::host::Host;
use crate::path::{Reach, ValuePath};

/// Most targets of one call that are told apart.
pub const TARGETS_MAX: usize = 64;

/// What is counted once, however many calls go to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Of {
    /// Each host that a call leads to.
    Destination,
    /// Each tool.
    Tool,
    Identity,
    Tenant,
    Model,
    Route,
    /// Each value at this place in the arguments of a call.
    Argument(ValuePath),
}

impl Of {
    pub const EXPECTED: &str =
        "`destination`, `tool`, `identity`, `tenant`, `model`, `route` or a path to arguments as `/to`";

    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "destination" => Self::Destination,
            "tool" => Self::Tool,
            "identity" => Self::Identity,
            "tenant" => Self::Tenant,
            "model" => Self::Model,
            "route" => Self::Route,
            path => Self::Argument(ValuePath::parse(path)?),
        })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        match self {
            Self::Destination => "destination",
            Self::Tool => "tool",
            Self::Identity => "identity",
            Self::Tenant => "tenant",
            Self::Model => "model",
            Self::Route => "route",
            Self::Argument(path) => path.text(),
        }
    }

    /// The targets of a call; `tools` are those of it that the control takes.
    pub fn targets(&self, facts: &RequestFacts<'_>, tools: &[Tool<'_>]) -> Targets {
        let mut targets = Targets::default();
        let mut contents = tools.iter().filter_map(|tool| match tool.call {
            Call::With(content) => Some(content),
            Call::Offered | Call::ToCome => None, // nothing is called yet
        });
        match self {
            Self::Tool => tools.iter().for_each(|tool| targets.add(tool.name.to_ascii_lowercase())),
            Self::Identity => targets.add_fact(facts.identity),
            Self::Tenant => targets.add_fact(facts.tenant),
            Self::Model => targets.add_fact(facts.model.map(str::to_ascii_lowercase).as_deref()),
            Self::Route => targets.add_fact(Some(facts.route)),
            Self::Argument(path) => contents.for_each(|content| targets.add_values(content, path)),
            Self::Destination if tools.is_empty() => {
                facts.body.into_iter().for_each(|body| targets.add_hosts(body));
            }
            Self::Destination => contents.by_ref().for_each(|content| targets.add_hosts(content)),
        }
        targets
    }
}

/// What one call goes to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Targets {
    /// Each once.
    pub known: Vec<String>,
    /// There are others, which could not be read, or are more than [`TARGETS_MAX`].
    pub others: bool,
}

impl Targets {
    fn add(&mut self, target: String) {
        if self.known.contains(&target) {
            return;
        }
        match self.known.len() < TARGETS_MAX {
            true => self.known.push(target),
            false => self.others = true,
        }
    }

    /// Calls that lack a fact have one in common.
    fn add_fact(&mut self, fact: Option<&str>) {
        self.add(fact.map_or_else(String::new, |fact| format!("={fact}")));
    }

    fn add_hosts(&mut self, content: &Content) {
        let found = content.destinations();
        self.others |= found.others;
        for host in &found.hosts {
            self.add(match host {
                Host::Name(name) => name.to_string(),
                Host::Address(address) => address.to_string(),
            });
        }
    }

    fn add_values(&mut self, content: &Content, path: &ValuePath) {
        match content.json() {
            Some(json) => self.meet(json, path, path.root()),
            None => self.others = true,
        }
    }

    fn meet(&mut self, value: &Value, path: &ValuePath, reach: Reach) {
        if path.is_met(reach) {
            match value {
                Value::Null => {}
                Value::String(text) => self.add(format!("text {text}")),
                Value::Bool(_) | Value::Number(_) => self.add(value.to_string()),
                Value::Array(_) | Value::Object(_) => self.others = true,
            }
        }
        if !path.goes_on(reach) {
            return;
        }
        match value {
            Value::Array(items) => {
                let reaches = |index| path.step_into(reach, index);
                let leads_on = (0..items.len()).any(|index| !ValuePath::is_over(reaches(index)));
                // A tool may take a list for each of its elements.
                self.others |= !items.is_empty() && !leads_on && path.has_to_go_on(reach);
                let items = items.iter().enumerate();
                items.for_each(|(index, item)| self.meet(item, path, reaches(index)));
            }
            Value::Object(members) => {
                members.iter().for_each(|(name, member)| self.meet(member, path, path.step(reach, name)));
            }
            Value::Null => {}
            // A tool may take one for a list of one, and a text for JSON.
            Value::Bool(_) | Value::Number(_) => self.others |= path.has_to_go_on(reach),
            Value::String(text) => self.others |= path.has_to_go_on(reach) || is_container(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Wanted;

    fn targets(of: &str, arguments: &[&str]) -> (Vec<String>, bool) {
        let wanted = Wanted { destinations: true };
        let contents: Vec<_> = arguments.iter().map(|text| Content::read(text.as_bytes(), wanted)).collect();
        let tools: Vec<_> =
            contents.iter().map(|content| Tool { name: "Send", call: Call::With(content) }).collect();
        let facts =
            RequestFacts { route: "mcp", identity: Some("ann"), tools: &tools, ..RequestFacts::default() };
        let found = Of::parse(of).unwrap().targets(&facts, &tools);
        (found.known, found.others)
    }

    fn check(of: &str, arguments: &[&str], expected: &[&str], others: bool) {
        let expected = expected.iter().map(ToString::to_string).collect();
        assert_eq!(targets(of, arguments), (expected, others), "{of}");
    }

    #[test]
    fn each_target_of_a_call_is_there_once() {
        check("/to", &[r#"{"to":"a"}"#, r#"{"to":"a"}"#, r#"{"to":"b"}"#], &["text a", "text b"], false);
        check("/to/*", &[r#"{"to":["a",1,"1",null,true]}"#], &["text a", "1", "text 1", "true"], false);
        check("/to", &[r#"{"cc":"a"}"#], &[], false);
        check("/to/*", &[r#"{"to":null,"cc":"a"}"#], &[], false);
        check("/**/to", &[r#"{"a":"x","b":{"to":"y","c":1},"to":"z"}"#], &["text y", "text z"], false);
        check("tool", &["{}", "{}"], &["send"], false);
        check("identity", &["{}"], &["=ann"], false);
        check("tenant", &["{}"], &[""], false);
        check(
            "destination",
            &[r#"{"url":"https://A.example/x","b":"http://b.example"}"#],
            &["b.example", "a.example"],
            false,
        );
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        check("/to", &[r#"{"to":["a"]}"#], &[], true);
        check("/to/*", &[r#"{"to":"a"}"#], &[], true);
        check("/to", &[r#"[{"to":"a"}]"#], &[], true);
        check("/to/name", &[r#"{"to":[{"name":"a"}]}"#], &[], true);
        check("/to/*/name", &[r#"{"to":[{"name":"a"},7,true]}"#], &["text a"], true);
        check("/to/name", &[r#"{"to":"{\"name\":\"a\"}"}"#], &[], true);
        check("/to", &["{"], &[], true);
        check("destination", &[r#"{"url":"http://a@b@c/"}"#], &[], true);
        let many: Vec<String> = (0..=TARGETS_MAX).map(|number| number.to_string()).collect();
        let (known, others) = targets("/to/*", &[&format!(r#"{{"to":[{}]}}"#, many.join(","))]);
        assert_eq!((known.len(), others), (TARGETS_MAX, true));
    }
}
