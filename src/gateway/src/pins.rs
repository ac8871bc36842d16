//! What MCP servers said of their tools when they first listed them. A server that says something else later is found out.
//!
//! Kept by route, and in it by the path that the upstream is asked at, which is where one server ends and another begins. Lives
//! as long as the process; bounded, and a list that does not fit is refused rather than half kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use estoppel_evidence::Sha256;
use estoppel_policy::ChangedTools;

/// Most tools of one route that are remembered.
pub(crate) const TOOLS_MAX: usize = 4_096;
/// Most bytes of their names and schemas.
pub(crate) const BYTES_MAX: usize = 8 << 20;

/// One tool as it was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: Box<str>,
    /// Of all that is said of it, in canonical form.
    pub(crate) definition: Sha256,
    /// `inputSchema`, as written.
    pub(crate) input: Option<Bytes>,
    /// `outputSchema`.
    pub(crate) output: Option<Bytes>,
}

impl Listed {
    fn bytes(&self) -> usize {
        let length = |schema: &Option<Bytes>| schema.as_ref().map_or(0, Bytes::len);
        self.name.len() + length(&self.input) + length(&self.output)
    }
}

/// Why a list is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The definition of this tool is not the one that is known.
    Changed(Box<str>),
    /// There is no room for all of it.
    Full,
}

/// The tools of one route's servers.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    servers: HashMap<Box<str>, HashMap<Box<str>, Arc<Listed>>>,
    tools: usize,
    bytes: usize,
}

impl Pins {
    /// The tool, as `server` listed it first.
    pub(crate) fn get(&self, server: &str, name: &str) -> Option<Arc<Listed>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.servers.get(server)?.get(name).cloned()
    }

    /// Takes a list, or a page of one. Gives the names of the tools that were known otherwise.
    ///
    /// # Errors
    /// Nothing of the list is remembered.
    pub(crate) fn take(
        &self,
        server: &str,
        listed: Vec<Listed>,
        changed: ChangedTools,
    ) -> Result<Vec<Box<str>>, Refused> {
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = known.others(server, &listed);
        if let Some(name) = others.first().filter(|_| changed == ChangedTools::Block) {
            return Err(Refused::Changed(name.clone()));
        }
        known.add(server, listed)?;
        Ok(others)
    }
}

impl Known {
    /// Names of tools that are known otherwise, or are defined in two ways.
    fn others(&self, server: &str, listed: &[Listed]) -> Vec<Box<str>> {
        let known = self.servers.get(server);
        let mut said: HashMap<&str, Sha256> = HashMap::new();
        let mut others = Vec::new();
        for tool in listed {
            let before = known.and_then(|tools| tools.get(&tool.name)).map(|tool| tool.definition);
            let first = *said.entry(&tool.name).or_insert(tool.definition);
            if [before.unwrap_or(first), first].iter().any(|other| *other != tool.definition) {
                others.push(tool.name.clone());
            }
        }
        others
    }

    fn add(&mut self, server: &str, listed: Vec<Listed>) -> Result<(), Refused> {
        let more: usize = listed.iter().map(Listed::bytes).sum();
        let new =
            |tool: &&Listed| self.servers.get(server).is_none_or(|tools| !tools.contains_key(&tool.name));
        if self.tools + listed.iter().filter(new).count() > TOOLS_MAX || self.bytes + more > BYTES_MAX {
            return Err(Refused::Full);
        }
        let tools = self.servers.entry(server.into()).or_default();
        for tool in listed {
            self.bytes += tool.bytes();
            match tools.insert(tool.name.clone(), Arc::new(tool)) {
                Some(before) => self.bytes -= before.bytes(),
                None => self.tools += 1,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, said: &str) -> Listed {
        let definition = Sha256::of(said.as_bytes());
        Listed { name: name.into(), definition, input: Some(Bytes::from(said.to_owned())), output: None }
    }

    fn input(pins: &Pins, server: &str, name: &str) -> Option<Bytes> {
        pins.get(server, name)?.input.clone()
    }

    #[test]
    fn what_is_seen_first_stays_and_pages_add() {
        let pins = Pins::default();
        assert_eq!(pins.take("/mcp", vec![tool("a", "1")], ChangedTools::Block), Ok(vec![]));
        assert_eq!(pins.take("/mcp", vec![tool("b", "2")], ChangedTools::Block), Ok(vec![]));
        assert_eq!(pins.take("/mcp", vec![tool("a", "1"), tool("b", "2")], ChangedTools::Block), Ok(vec![]));
        let changed = pins.take("/mcp", vec![tool("c", "3"), tool("a", "9")], ChangedTools::Block);
        assert_eq!(changed, Err(Refused::Changed("a".into())));
        assert_eq!(input(&pins, "/mcp", "a"), Some("1".into()));
        assert_eq!(input(&pins, "/mcp", "c"), None);
        assert_eq!(pins.take("/other", vec![tool("a", "9")], ChangedTools::Block), Ok(vec![]));
    }

    #[test]
    fn a_change_that_is_allowed_is_what_counts_from_then_on() {
        let pins = Pins::default();
        assert_eq!(pins.take("/", vec![tool("a", "1")], ChangedTools::Allow), Ok(vec![]));
        assert_eq!(pins.take("/", vec![tool("a", "2")], ChangedTools::Allow), Ok(vec!["a".into()]));
        assert_eq!(pins.take("/", vec![tool("a", "2")], ChangedTools::Allow), Ok(vec![]));
        assert_eq!(input(&pins, "/", "a"), Some("2".into()));
    }

    #[test]
    fn a_tool_that_one_list_defines_twice_has_changed() {
        let twice = vec![tool("a", "1"), tool("a", "2")];
        let pins = Pins::default();
        assert_eq!(pins.take("/", twice.clone(), ChangedTools::Block), Err(Refused::Changed("a".into())));
        assert_eq!(pins.take("/", vec![tool("a", "2")], ChangedTools::Block), Ok(vec![]));
        assert_eq!(pins.take("/", twice, ChangedTools::Allow), Ok(vec!["a".into(), "a".into()]));
    }

    #[test]
    fn a_list_that_does_not_fit_is_not_half_kept() {
        let pins = Pins::default();
        let many = |count: usize| (0..count).map(|at| tool(&at.to_string(), "x")).collect::<Vec<_>>();
        assert_eq!(pins.take("/", many(TOOLS_MAX + 1), ChangedTools::Block), Err(Refused::Full));
        assert_eq!(pins.get("/", "0"), None);
        assert_eq!(pins.take("/", many(TOOLS_MAX), ChangedTools::Block), Ok(vec![]));
        assert_eq!(pins.take("/", many(TOOLS_MAX), ChangedTools::Block), Ok(vec![]));
        assert_eq!(pins.take("/", vec![tool("new", "x")], ChangedTools::Block), Err(Refused::Full));
        let large = tool("0", &"x".repeat(BYTES_MAX));
        assert_eq!(pins.take("/2", vec![large.clone()], ChangedTools::Allow), Err(Refused::Full));
        assert_eq!(Pins::default().take("/", vec![large], ChangedTools::Allow), Err(Refused::Full));
    }
}
