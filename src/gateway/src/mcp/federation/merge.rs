//! What several servers say, as one server would say it.

use bytes::Bytes;
use estoppel_wire::dialect::mcp::{Id, Messages};
use estoppel_wire::dialect::{LIST_MAX, Span};
use serde_json::{Map, Value, json};

use super::name::joined;

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tools,
    Prompts,
}

impl Kind {
    fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
        }
    }
}

/// Tools or prompts of one server, under their names among all.
#[derive(Default)]
pub(super) struct Listed {
    /// Each definition as its server wrote it, but for its name.
    definitions: Vec<Vec<u8>>,
    bytes: usize,
    /// What a page says of how long, and for whom, it may be kept.
    ttl_ms: Option<u64>,
    is_private: bool,
}

impl Listed {
    /// Takes a page. Gives the cursor of the next.
    pub(super) fn page(&mut self, kind: Kind, server: &str, text: &[u8]) -> Option<Option<String>> {
        let messages = Messages::read(text).ok()?;
        let [message] = messages.list.as_slice() else { return None };
        let result = message.result.as_ref()?;
        let said: Value = serde_json::from_slice(text).ok()?;
        let said = &said["result"];
        let listed = said[kind.member()].as_array()?;
        for prompt in listed.iter().filter(|_| kind == Kind::Prompts) {
            let mut prompt = prompt.as_object()?.clone();
            let name = joined(server, prompt.get("name")?.as_str()?);
            prompt.insert("name".into(), name.into());
            self.push(serde_json::to_vec(&prompt).ok()?);
        }
        // Tools are pinned, so what their servers wrote is kept.
        for tool in result.tools.iter().filter(|_| kind == Kind::Tools) {
            let definition = part(text, &tool.definition)?;
            let name = tool.name_at.as_ref()?;
            let at = |at: u64| usize::try_from(at.checked_sub(tool.definition.start)?).ok();
            let name = definition.get(..at(name.start)?).zip(definition.get(at(name.end)?..));
            let (before, after) = name?;
            let name = serde_json::to_vec(&joined(server, &tool.name)).ok()?;
            self.push([before, &name, after].concat());
        }
        let ttl_ms = said["ttlMs"].as_u64();
        self.ttl_ms = self.ttl_ms.map_or(ttl_ms, |before| ttl_ms.map(|ttl_ms| ttl_ms.min(before)));
        self.is_private |= said["cacheScope"] != "public";
        Some(said["nextCursor"].as_str().map(str::to_owned))
    }

    fn push(&mut self, definition: Vec<u8>) {
        self.bytes += definition.len();
        self.definitions.push(definition);
    }

    /// Bytes of all definitions.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.definitions.len()
    }
}

/// Most tools, or prompts, of one list, of all servers together.
pub(super) const LISTED_MAX: usize = LIST_MAX;

/// The answer to `tools/list` or `prompts/list`. Names of servers that gave no list are in its `_meta`.
pub(super) fn lists(kind: Kind, id: &Id, lists: &[Listed], missing: &[&str], is_modern: bool) -> Bytes {
    let mut rest = Map::new();
    if is_modern {
        let ttl_ms = lists.iter().map(|list| list.ttl_ms.unwrap_or(0)).min().unwrap_or(0);
        let is_private = lists.iter().any(|list| list.is_private) || !missing.is_empty();
        rest.insert("cacheScope".into(), if is_private { "private" } else { "public" }.into());
        rest.insert("resultType".into(), "complete".into());
        rest.insert("ttlMs".into(), if missing.is_empty() { ttl_ms } else { 0 }.into());
    }
    if !missing.is_empty() {
        rest.insert("_meta".into(), json!({ UNAVAILABLE: missing }));
    }
    let definitions: Vec<&[u8]> =
        lists.iter().flat_map(|list| list.definitions.iter().map(Vec::as_slice)).collect();
    let rest: String = rest.iter().map(|(key, value)| format!(",\"{key}\":{value}")).collect();
    let (id, member) = (id_text(id), kind.member());
    let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"{member}":["#);
    [head.as_bytes(), &definitions.join(&b','), b"]", rest.as_bytes(), b"}}"].concat().into()
}

/// The member of `_meta` that names servers which did not answer.
const UNAVAILABLE: &str = "estoppel/unavailable";

/// The answer to a request, with this result.
pub(super) fn answer(id: &Id, result: &Value) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id_text(id)).into()
}

/// An id as JSON.
fn id_text(id: &Id) -> String {
    match id {
        Id::Text(text) => Value::from(text.as_str()).to_string(),
        Id::Number(number) => number.clone(),
    }
}

fn part<'a>(text: &'a [u8], span: &Span) -> Option<&'a [u8]> {
    text.get(usize::try_from(span.start).ok()?..usize::try_from(span.end).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(list: &mut Listed, server: &str, text: &str) -> Option<Option<String>> {
        list.page(Kind::Tools, server, text.as_bytes())
    }

    fn merged(lists: &[Listed], missing: &[&str], is_modern: bool) -> String {
        let text = super::lists(Kind::Tools, &Id::Number("7".into()), lists, missing, is_modern);
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[test]
    fn definitions_keep_their_bytes_but_for_the_name() {
        let (mut files, mut mail) = (Listed::default(), Listed::default());
        let first = r#"{"id":1,"result":{"tools":[ { "title":"name" , "n\u0061me" : "re\u0061d","x":1.0 } ],"nextCursor":"2"}}"#;
        assert_eq!(page(&mut files, "files", first), Some(Some("2".into())));
        let second = r#"{"id":1,"result":{"tools":[{"name":"write"}]}}"#;
        assert_eq!(page(&mut files, "files", second), Some(None));
        assert_eq!(page(&mut mail, "mail", second), Some(None));
        assert_eq!(
            merged(&[files, mail], &[], false),
            r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{ "title":"name" , "n\u0061me" : "files__read","x":1.0 },{"name":"files__write"},{"name":"mail__write"}]}}"#
        );
    }

    #[test]
    fn prompts_are_named_like_tools() {
        let mut list = Listed::default();
        let text = r#"{"id":1,"result":{"prompts":[{"name":"hello","arguments":[{"name":"who"}]}]}}"#;
        assert_eq!(list.page(Kind::Prompts, "a", text.as_bytes()), Some(None));
        let text = lists(Kind::Prompts, &Id::Text("x".into()), &[list], &[], false);
        let said: Value = serde_json::from_slice(&text).unwrap();
        let prompt = json!({ "name": "a__hello", "arguments": [{ "name": "who" }] });
        assert_eq!(said, json!({ "jsonrpc": "2.0", "id": "x", "result": { "prompts": [prompt] } }));
        assert_eq!(
            Listed::default().page(Kind::Prompts, "a", br#"{"id":1,"result":{"prompts":[{}]}}"#),
            None
        );
    }

    #[test]
    fn how_long_and_for_whom_is_the_least_that_any_says() {
        let list = |rest: &str| {
            let mut list = Listed::default();
            page(&mut list, "a", &format!(r#"{{"id":1,"result":{{"tools":[]{rest}}}}}"#)).unwrap();
            list
        };
        let said = |lists: &[Listed], missing: &[&str]| -> Value {
            serde_json::from_str(&merged(lists, missing, true)).unwrap()
        };
        let public = || list(r#","ttlMs":9,"cacheScope":"public""#);
        let result = |ttl: u64, scope: &str| json!({ "tools": [], "ttlMs": ttl, "cacheScope": scope, "resultType": "complete" });
        assert_eq!(
            said(&[public(), list(r#","ttlMs":4,"cacheScope":"public""#)], &[])["result"],
            result(4, "public")
        );
        assert_eq!(
            said(&[public(), list(r#","ttlMs":9,"cacheScope":"private""#)], &[])["result"],
            result(9, "private")
        );
        assert_eq!(said(&[public(), list("")], &[])["result"], result(0, "private"));
        let partial = said(&[public()], &["b"]);
        assert_eq!(
            (&partial["result"]["ttlMs"], &partial["result"]["_meta"]["estoppel/unavailable"]),
            (&json!(0), &json!(["b"]))
        );
    }

    #[test]
    fn what_is_no_list_is_none() {
        for text in [
            r#"{"id":1,"error":{"code":-1}}"#,
            r#"{"id":1,"result":{}}"#,
            r#"{"id":1,"result":{"tools":[{"title":"x"}]}}"#,
            r#"{"id":1,"result":{"tools":[{"name":"a","name":"b"}]}}"#,
            "[]",
            "{",
        ] {
            assert_eq!(page(&mut Listed::default(), "a", text), None, "{text}");
        }
    }
}
