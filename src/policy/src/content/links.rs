//! Hosts that the texts of a JSON value lead to.
//!
//! A text that is JSON itself is read on. Taken for one are the host of `scheme://host` wherever it stands in a text, of a text that begins with `//` or `\\`, a
//! text that is an address, and what a member of one of [`MEMBERS`]' names has in front of its first `/`. Hosts in other
//! spellings (put together from pieces, encoded, behind a redirect or a name) are not found: a list of allowed destinations
//! holds for tools that are honest about where they go.

use std::net::IpAddr;

use memchr::memmem;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{Destinations, is_container, json};
use crate::host::Host;

/// Most hosts of one content. With more, there are others that nobody knows.
pub const DESTINATIONS_MAX: usize = 256;

/// Names of members that hold a host or a URL, which may lack its scheme. Compared in lower case, without `_` and `-`.
const MEMBERS: [&str; 18] = [
    "baseurl",
    "callback",
    "callbackurl",
    "domain",
    "endpoint",
    "host",
    "hostname",
    "href",
    "proxy",
    "remote",
    "server",
    "servername",
    "target",
    "targeturl",
    "uri",
    "url",
    "webhook",
    "webhookurl",
];

pub(super) fn destinations(json: &Value) -> Destinations {
    let mut found = Destinations::default();
    found.value(json, false);
    found
}

impl Destinations {
    fn value(&mut self, value: &Value, named: bool) {
        match value {
            Value::String(text) => self.text(text, named),
            Value::Array(list) => list.iter().for_each(|value| self.value(value, named)),
            Value::Object(members) => {
                members.iter().for_each(|(name, value)| self.value(value, is_named(name)));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&mut self, text: &str, named: bool) {
        // What readers of URLs take away around one.
        let text = text.trim_matches(|c: char| c <= ' ');
        if let Ok(address) = text.parse::<IpAddr>() {
            return self.authority(&address.to_string());
        }
        if is_misspelt(text) {
            self.others = true;
        }
        // Some tools read a text of JSON on.
        if is_container(text) {
            match json::read(text.as_bytes()) {
                Some(inner) => self.value(&inner, named),
                None => self.others |= serde_json::from_str::<IgnoredAny>(text).is_ok(),
            }
        }
        let at_start = ["//", "\\\\"].into_iter().find_map(|slashes| text.strip_prefix(slashes));
        if let Some(rest) = at_start {
            self.url(rest, true);
        }
        let mut has_scheme = false;
        for at in memmem::find_iter(text.as_bytes(), b"://") {
            let before = text.get(..at).unwrap_or_default();
            // Some schemes stand before others: `jdbc:mysql://`.
            let alone = before.bytes().all(|byte| is_of_scheme(byte) || byte == b':');
            has_scheme |= alone;
            let is_file = before.len() >= 4 && before.to_ascii_lowercase().ends_with("file");
            let rest = text.get(at + 3..).unwrap_or_default();
            if !(is_file && rest.starts_with('/')) {
                self.url(rest, alone);
            }
        }
        let is_path = text.is_empty() || text.starts_with(['/', '.', '?', '#']);
        if named && !has_scheme && at_start.is_none() && !is_path && !text.contains(char::is_whitespace) {
            let end = text.find(['/', '?', '#', '\\']).unwrap_or(text.len());
            self.authority(text.get(..end).unwrap_or_default());
        }
    }

    /// What follows the slashes of a URL; `alone` if the text begins with it.
    fn url(&mut self, rest: &str, alone: bool) {
        // What ends a host for some readers only: they stand around a URL, or in its host, or before a second one.
        const AROUND: &[char] = &['"', '\'', '<', '>', '(', ')', '{', '}', '|', '^', '`', ',', ';'];
        let is_end = |c: char| matches!(c, '/' | '?' | '#' | '\\') || c.is_whitespace() || c.is_control();
        let whole = rest.split(is_end).next().unwrap_or_default();
        let end = whole.find(AROUND).unwrap_or(whole.len());
        let (authority, after) = rest.split_at(end);
        let more = whole.get(end..).unwrap_or_default().trim_start_matches(AROUND);
        let is_next = more.strip_suffix(':').is_some_and(|scheme| scheme.bytes().all(is_of_scheme));
        self.others |= alone && !more.is_empty() && !is_next;
        // Readers of URLs pass over these, end the host there, or go on.
        let is_torn = after.starts_with('\\') || alone && after.starts_with(['\t', '\n', '\r']);
        self.others |= is_torn;
        // Text around a URL may end in a dot or a colon that is not its own.
        let authority = if alone { authority } else { authority.trim_end_matches(['.', ':', '!', ']']) };
        self.authority(authority);
    }

    /// A host, which may have a user before it and a port behind.
    fn authority(&mut self, authority: &str) {
        match host(authority) {
            Some(host) if self.hosts.contains(&host) => {}
            Some(host) if self.hosts.len() < DESTINATIONS_MAX => self.hosts.push(host),
            Some(_) | None => self.others = true,
        }
    }
}

fn host(authority: &str) -> Option<Host> {
    let mut pieces = authority.split('@');
    let (first, second, third) = (pieces.next()?, pieces.next(), pieces.next());
    if third.is_some() {
        return None; // readers look for the first one, or the last
    }
    let rest = second.unwrap_or(first);
    if let Ok(address) = rest.parse::<IpAddr>() {
        return Host::parse(&address.to_string());
    }
    let (name, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (six, port) = rest.split_once(']')?;
            six.contains(':').then_some(())?;
            (six, port.strip_prefix(':').or(port.is_empty().then_some(""))?)
        }
        None => rest.split_once(':').unwrap_or((rest, "")),
    };
    let is_port = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    Host::parse(name).filter(|_| is_port)
}

/// `http:host`, `http:/host` and `http:///host`: browsers go there, others do not.
fn is_misspelt(text: &str) -> bool {
    const SCHEMES: [&str; 5] = ["http", "https", "ws", "wss", "ftp"];
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let has_host =
        rest.strip_prefix("//").is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '\\']));
    SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)) && !has_host
}

fn is_of_scheme(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

fn is_named(member: &str) -> bool {
    let letters =
        || member.bytes().filter(|byte| !matches!(byte, b'_' | b'-')).map(|b| b.to_ascii_lowercase());
    MEMBERS.iter().any(|name| letters().eq(name.bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(json: Value, hosts: &[&str], others: bool) {
        let found = destinations(&json);
        let expected: Vec<Host> = hosts.iter().map(|host| Host::parse(host).unwrap()).collect();
        assert_eq!((found.hosts, found.others), (expected, others), "{json}");
    }

    #[test]
    fn hosts_are_found_in_texts_and_in_members_that_hold_one() {
        check(json!({ "x": "https://API.example.com:8443/a?b=c#d" }), &["api.example.com"], false);
        check(
            json!({ "x": "go to http://a.example, then ![](https://b.example/p.png)." }),
            &["a.example", "b.example"],
            false,
        );
        check(json!({ "x": "see http://a.example." }), &["a.example"], false);
        check(
            json!({ "x": ["ws://user:pw@a.example/", "gopher://b.example"] }),
            &["a.example", "b.example"],
            false,
        );
        check(json!({ "x": "//a.example/p" }), &["a.example"], false);
        check(json!({ "x": "\\\\a.example\\share" }), &["a.example"], true);
        check(json!({ "x": "http://[::1]:80/" }), &["::1"], false);
        check(json!({ "x": "169.254.169.254" }), &["169.254.169.254"], false);
        check(
            json!({ "x": { "Base_URL": "a.example/v1", "host": ["b.example:80"] } }),
            &["a.example", "b.example"],
            false,
        );
        check(json!({ "x": "a.example", "file": "main.rs", "url": "/relative", "y": 3 }), &[], false);
        check(json!({ "x": "file:///etc/passwd" }), &[], false);
        check(json!({ "x": "http://a.example http://a.example/2" }), &["a.example"], false);
        check(json!({ "x": "http://a.example,http://b.example" }), &["a.example", "b.example"], false);
        check(json!({ "x": "http://a.example, (http://b.example)." }), &["a.example", "b.example"], false);
        check(
            json!({ "x": r#"{"a":"https:\/\/a.example","host":"b.example"}"# }),
            &["a.example", "b.example"],
            false,
        );
        check(json!({ "x": "1,http://a.example,2" }), &["a.example"], false);
    }

    #[test]
    fn what_readers_of_urls_disagree_about_leads_nobody_knows_where() {
        for text in [
            "http://evil.example\\@good.example/",
            "http://a@evil.example@good.example/",
            "http://ev\til.example/",
            "http:/evil.example",
            "http:evil.example",
            "https:///evil.example",
            "HTTP:\\\\evil.example",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://ⓔvil.example/",
            "http://%65vil.example/",
            "http://evil.example:80a/",
            "https://good.example,.evil.example/",
            "https://good.example;@evil.example/",
            "https://good.example'.evil.example",
            "https://good.example\"}.evil.example",
            "mongodb://good.example,evil.example/db",
            "jdbc:mysql://good.example,evil.example/db",
            r#"{"n":1,"n":"https:\/\/evil.example"}"#,
            "http://",
        ] {
            assert!(destinations(&json!({ "x": text })).others, "{text}");
        }
    }

    #[test]
    fn more_hosts_than_are_kept_are_others() {
        let list = |count: usize| {
            Value::from((0..count).map(|n| format!("http://h{n}.example/")).collect::<Vec<_>>())
        };
        assert!(!destinations(&list(DESTINATIONS_MAX)).others);
        let more = destinations(&list(DESTINATIONS_MAX + 1));
        assert!(more.others && more.hosts.len() == DESTINATIONS_MAX);
    }
}
