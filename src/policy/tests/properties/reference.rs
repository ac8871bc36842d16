//! A slow evaluator, written from docs/policy.md over the JSON of a policy. It shares no code with the crate.

use estoppel_policy::Verdict;
use serde_json::Value;

/// Owned facts.
#[derive(Clone, Debug)]
pub struct Facts {
    pub route: String,
    pub identity: Option<String>,
    pub tenant: Option<String>,
    pub model: Option<String>,
    pub tools: Vec<Tool>,
    pub body: Option<Content>,
    pub evaluated: bool,
    pub model_served: Option<String>,
    pub tools_called: Vec<Tool>,
    pub said: Option<Content>,
    pub response_evaluated: bool,
}

#[derive(Clone, Debug)]
pub struct Tool {
    pub name: String,
    pub call: Call,
}

#[derive(Clone, Debug)]
pub enum Call {
    Offered,
    ToCome,
    With(Content),
}

/// A text, where it leads, and what was found in it.
#[derive(Clone, Debug)]
pub struct Content {
    pub text: &'static str,
    pub hosts: &'static [&'static str],
    pub others: bool,
    pub data: Option<Vec<&'static str>>,
}

/// Texts with the hosts that they lead to, and whether there are others that nobody knows.
pub const TEXTS: [(&str, &[&str], bool); 12] = [
    (r#"{"path":"/etc/passwd","n":5}"#, &[], false),
    (r#"{"path":"/srv/x","n":500,"url":"http://a.example/x"}"#, &["a.example"], false),
    (r#"{"path":["rm","/srv/x"],"u":"http://10.0.0.1/"}"#, &["10.0.0.1"], false),
    (
        r#"{"path":"go to http://a.example and http://evil.test","n":null}"#,
        &["a.example", "evil.test"],
        false,
    ),
    (r#"{"path":true,"n":"7","x":"http:/x"}"#, &[], true),
    (r#"{"deep":[{"n":-5},{"n":1e3}],"host":"localhost"}"#, &["localhost"], false),
    (
        r#"{"a":"http://127.0.0.1","b":"http://169.254.1.1","c":"http://1.1"}"#,
        &["127.0.0.1", "169.254.1.1"],
        true,
    ),
    (r#"{"deep":"[{\"n\":9}]","path":"/srv/x"}"#, &[], false),
    (r#"{"path":"t1","n":"T1","deep":[{"n":"t1"}]}"#, &[], false),
    ("[]", &[], false),
    (r#"{"n":1,"n":2}"#, &[], true),
    ("{", &[], true),
];

/// Verdict, rule, reason and storage.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub rule: Option<String>,
    pub reason: Option<String>,
    pub storage: Value,
}

pub fn request(policy: &Value, facts: &Facts) -> Outcome {
    let tools = some_or_none(&facts.tools).into_iter();
    let found = tools.map(|tool| judge(policy, facts, facts.model.as_deref(), tool, &facts.body, None));
    conclude(policy, facts, found.collect(), facts.evaluated)
}

pub fn response(policy: &Value, facts: &Facts) -> Outcome {
    let mut found = Vec::new();
    for tool in &facts.tools_called {
        found.push(judge(policy, facts, facts.model.as_deref(), Some(tool), &facts.body, None));
    }
    let lower = |name: &Option<String>| name.as_ref().map(|name| name.to_ascii_lowercase());
    if facts.model_served.is_some() && lower(&facts.model_served) != lower(&facts.model) {
        for tool in some_or_none(&facts.tools_called) {
            found.push(judge(policy, facts, facts.model_served.as_deref(), tool, &facts.body, Some("model")));
        }
    }
    if facts.said.as_ref().is_some_and(|said| said.data.as_ref().is_none_or(|classes| !classes.is_empty())) {
        found.push(judge(policy, facts, facts.model.as_deref(), None, &facts.said, Some("data")));
    }
    conclude(policy, facts, found, facts.response_evaluated)
}

/// What it comes to, by which rule, and whether something that was asked for could not be read.
type Found = (Verdict, Option<usize>, bool);

fn judge(
    policy: &Value,
    facts: &Facts,
    model: Option<&str>,
    tool: Option<&Tool>,
    content: &Option<Content>,
    only: Option<&str>,
) -> Found {
    let mut unknown = false;
    for (index, rule) in policy["rules"].as_array().unwrap().iter().enumerate() {
        let verdict = verdict(&rule["verdict"]);
        let allows = verdict == Verdict::Allow;
        if only.is_some_and(|key| !allows && rule["when"].get(key).is_none()) {
            continue;
        }
        let is_pending = matches!(tool, Some(Tool { call: Call::ToCome, .. }));
        match holds(rule, facts, model, tool, content) {
            Known::Yes => return (verdict, Some(index), unknown),
            Known::No => {}
            Known::Unread => unknown = true,
            Known::Later if is_pending => return (Verdict::Allow, None, unknown),
            Known::Later if allows => return (verdict, Some(index), unknown),
            Known::Later => {}
        }
    }
    let default = if only.is_none() { verdict(&setting(policy, facts, "verdict")) } else { Verdict::Allow };
    (default, None, unknown)
}

fn conclude(policy: &Value, facts: &Facts, found: Vec<Found>, evaluated: bool) -> Outcome {
    let any = |wanted| found.iter().any(|(verdict, ..)| *verdict == wanted);
    let worst =
        [Verdict::Block, Verdict::Hold].into_iter().find(|wanted| any(*wanted)).unwrap_or(Verdict::Allow);
    let evaluated = evaluated && !found.iter().any(|(.., unknown)| *unknown);
    let unseen = !evaluated
        && worst != Verdict::Block
        && verdict(&setting(policy, facts, "on_not_evaluated")) == Verdict::Block;
    let first = found.iter().filter(|(verdict, ..)| *verdict == worst).filter_map(|(_, rule, _)| *rule).min();
    let rule = first.filter(|_| !unseen).map(|index| &policy["rules"][index]);
    let text =
        |key: &str| rule.and_then(|rule| rule.get(key)).map(|value| value.as_str().unwrap().to_string());
    let reason = match (worst, unseen) {
        (_, true) => Some("NOT_EVALUATED".to_string()),
        (Verdict::Block, false) => text("reason").or(Some("POLICY_BLOCK".into())),
        (Verdict::Hold, false) => text("reason").or(Some("APPROVAL_REQUIRED".into())),
        (Verdict::Allow, false) => text("reason"),
    };
    let storage = rule.and_then(|rule| rule.get("body_storage")).cloned();
    let storage = storage.unwrap_or_else(|| setting(policy, facts, "body_storage"));
    Outcome { verdict: if unseen { Verdict::Block } else { worst }, rule: text("id"), reason, storage }
}

fn setting(policy: &Value, facts: &Facts, key: &str) -> Value {
    let fallback = if key == "body_storage" { "hmac" } else { "block" };
    let of_route = policy["routes"].get(&facts.route).and_then(|route| route.get(key));
    of_route.or(policy["defaults"].get(key)).cloned().unwrap_or(fallback.into())
}

fn verdict(written: &Value) -> Verdict {
    match written.as_str() {
        Some("allow") => Verdict::Allow,
        Some("hold") => Verdict::Hold,
        _ => Verdict::Block,
    }
}

fn some_or_none(tools: &[Tool]) -> Vec<Option<&Tool>> {
    if tools.is_empty() { vec![None] } else { tools.iter().map(Some).collect() }
}

/// What is known of a condition.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Known {
    Yes,
    Later,
    Unread,
    No,
}

/// All of them: the least that is known.
fn all(known: impl IntoIterator<Item = Known>) -> Known {
    let known: Vec<Known> = known.into_iter().collect();
    let has = |what| known.contains(&what);
    match (has(Known::No), has(Known::Unread), has(Known::Later)) {
        (true, ..) => Known::No,
        (_, true, _) => Known::Unread,
        (.., true) => Known::Later,
        _ => Known::Yes,
    }
}

fn known(holds: bool) -> Known {
    if holds { Known::Yes } else { Known::No }
}

fn holds(
    rule: &Value,
    facts: &Facts,
    model: Option<&str>,
    tool: Option<&Tool>,
    content: &Option<Content>,
) -> Known {
    let when = conditions(&rule["when"], facts, model, tool, content);
    let Some(unless) = rule.get("unless") else { return when };
    let excepted = match conditions(unless, facts, model, tool, content) {
        Known::Yes => Known::No,
        Known::No => Known::Yes,
        other => other,
    };
    all([when, excepted])
}

fn conditions(
    when: &Value,
    facts: &Facts,
    model: Option<&str>,
    tool: Option<&Tool>,
    content: &Option<Content>,
) -> Known {
    all(when.as_object().unwrap().iter().map(|(key, wanted)| {
        let called = match tool.map(|tool| &tool.call) {
            None => Err(Known::No),
            Some(Call::Offered | Call::ToCome) => Err(Known::Later),
            Some(Call::With(content)) => Ok(content),
        };
        let without_call = content.as_ref().ok_or(Known::No);
        let is_offer = matches!(tool, Some(Tool { call: Call::Offered, .. }));
        let (fact, fold) = match key.as_str() {
            "route" => (Some(facts.route.as_str()), false),
            "identity" => (facts.identity.as_deref(), false),
            "tenant" => (facts.tenant.as_deref(), false),
            "model" => (model, true),
            "tool" => (tool.map(|tool| tool.name.as_str()), true),
            "arguments" => {
                return called.map_or_else(|why| why, |content| predicates(wanted, content, facts));
            }
            "body" => {
                return facts.body.as_ref().map_or(Known::No, |content| predicates(wanted, content, facts));
            }
            "data" => {
                let content = if tool.is_none() || is_offer { without_call } else { called };
                return content.map_or_else(|why| why, |content| classes(wanted, content));
            }
            "destination" | "destination_not" => {
                let content = if tool.is_none() { without_call } else { called };
                let inside = key == "destination";
                return content.map_or_else(|why| why, |content| leads(wanted, content, inside));
            }
            "provenance" | "after" => return called.map_or_else(|why| why, |_| Known::Unread), // nobody listened
            other => panic!("{other} is not generated"),
        };
        let case = |text: &str| if fold { text.to_ascii_lowercase() } else { text.to_string() };
        let matches =
            |pattern: &Value| fact.is_some_and(|fact| glob(&case(pattern.as_str().unwrap()), &case(fact)));
        known(list(wanted).iter().any(matches))
    }))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn classes(wanted: &Value, content: &Content) -> Known {
    let Some(data) = &content.data else { return Known::Unread };
    let any =
        list(wanted).iter().any(|wanted| data.iter().any(|class| glob(wanted.as_str().unwrap(), class)));
    known(any)
}

fn leads(wanted: &Value, content: &Content, inside: bool) -> Known {
    let takes = |host: &str| list(wanted).iter().any(|pattern| is_host(pattern.as_str().unwrap(), host));
    match content.hosts.iter().any(|host| takes(host) == inside) {
        true => Known::Yes,
        false if content.others => Known::Unread,
        false => Known::No,
    }
}

/// For the patterns and hosts that are generated.
fn is_host(pattern: &str, host: &str) -> bool {
    let is_address = host.starts_with(|c: char| c.is_ascii_digit());
    match pattern {
        "*" => true,
        "ip:any" => is_address,
        "ip:loopback" => host == "localhost" || host.starts_with("127."),
        "ip:link_local" => host.starts_with("169.254."),
        "ip:private" | "10.0.0.0/8" => host.starts_with("10."),
        "*.example" => host.ends_with(".example"),
        name => name == host,
    }
}

fn predicates(wanted: &Value, content: &Content, facts: &Facts) -> Known {
    let twice = content.text.matches("\"n\":").count() > 1 && !content.text.contains("deep");
    let Ok(document) = serde_json::from_str::<Value>(content.text) else { return Known::Unread };
    if twice {
        return Known::Unread;
    }
    all(list(wanted).iter().map(|predicate| {
        let at: Vec<&str> = predicate["at"].as_str().unwrap().split('/').skip(1).collect();
        let mut values = Vec::new();
        let is_open = meet(&document, &at, &mut values);
        let (key, wanted) = predicate.as_object().unwrap().iter().find(|(key, _)| *key != "at").unwrap();
        if key == "exists" {
            let is_unread = is_open && values.is_empty();
            return if is_unread {
                Known::Unread
            } else {
                known(values.is_empty() != wanted.as_bool().unwrap())
            };
        }
        let tested: Vec<Known> =
            values.into_iter().map(|value| test(key, wanted, value, facts.tenant.as_deref())).collect();
        match (tested.contains(&Known::Yes), is_open || tested.contains(&Known::Unread)) {
            (true, _) => Known::Yes,
            (false, true) => Known::Unread,
            (false, false) => Known::No,
        }
    }))
}

fn test(key: &str, wanted: &Value, value: &Value, tenant: Option<&str>) -> Known {
    let same = |wanted: &Value| match (wanted.as_f64(), value.as_f64()) {
        (Some(wanted), Some(value)) => wanted == value,
        _ => wanted == value,
    };
    let globs = |text: &str| list(wanted).iter().any(|pattern| glob(pattern.as_str().unwrap(), text));
    match (key, value) {
        ("equals", _) => known(same(wanted)),
        ("in", _) => known(list(wanted).iter().any(same)),
        ("not_in", _) => known(!list(wanted).iter().any(same)),
        ("tenant", Value::String(text)) => match tenant {
            None => Known::Unread,
            Some(tenant) if wanted == "own" => known(tenant == text),
            Some(tenant) => known(tenant != text),
        },
        ("tenant", _) => Known::Unread,
        (_, Value::Null) => Known::No,
        ("matches", Value::String(text)) => known(globs(text)),
        ("not_matches", Value::String(text)) => known(!globs(text)),
        ("greater_than", Value::Number(number)) => known(number.as_f64() > wanted.as_f64()),
        ("less_than", Value::Number(number)) => known(number.as_f64() < wanted.as_f64()),
        ("longer_than", Value::String(text)) => known(text.chars().count() as u64 > wanted.as_u64().unwrap()),
        ("longer_than", Value::Array(list)) => known(list.len() as u64 > wanted.as_u64().unwrap()),
        ("contains", Value::String(text)) => known(text.contains(wanted.as_str().unwrap())),
        ("contains", Value::Array(list)) => known(list.contains(wanted)),
        _ => Known::Unread,
    }
}

/// Whether a text of JSON is in the way.
fn meet<'v>(value: &'v Value, at: &[&str], met: &mut Vec<&'v Value>) -> bool {
    let Some((token, rest)) = at.split_first() else {
        met.push(value);
        return false;
    };
    let mut is_open = *token == "**" && meet(value, rest, met);
    let children: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        Value::String(text) => return is_open || text.starts_with('[') && text.ends_with(']'),
        _ => Vec::new(),
    };
    for (name, child) in children {
        is_open |= match *token {
            "**" => meet(child, at, met),
            "*" => meet(child, rest, met),
            token if token == name => meet(child, rest, met),
            _ => false,
        };
    }
    is_open
}

fn glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|name| {
            (0..=name.len()).any(|taken| name.is_char_boundary(taken) && glob(rest, &name[taken..]))
        }),
    }
}
