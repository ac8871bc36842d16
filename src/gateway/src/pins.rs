//! What MCP servers said of their tools when they first listed them. A server that says something else later is found out.
//!
//! Kept by route, and in it by the path that the upstream is asked at, which is where one server ends and another begins. Kept
//! over restarts in a [`PinFile`]; bounded, and a list that does not fit is refused rather than half kept. Nothing is forgotten to
//! make room, so the paths that a route names have room of their own, which lists at other paths cannot take. A definition that
//! was refused waits for an operator, who may take it in the place of the known one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use estoppel_evidence::Sha256;
use estoppel_policy::ChangedTools;
use serde_json::{Value, json};

use crate::mcp::pin_file::PinFile;

/// Most tools that are remembered of a path that the route names, and of all others together.
pub(crate) const TOOLS_MAX: usize = 4_096;
/// Most bytes of their names and schemas.
pub(crate) const BYTES_MAX: usize = 8 << 20;
/// Most paths that a route names.
pub(crate) const NAMED_MAX: usize = 2;
/// Another path has at most this part of what all others have together.
const SHARES: usize = 8;
/// Most refused definitions of one route that wait for an operator. Further ones are refused and do not wait.
const OFFERED_MAX: usize = 256;

/// What is known of each server's tools.
pub(crate) type Servers = BTreeMap<Box<str>, BTreeMap<Box<str>, Arc<Listed>>>;

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
pub(crate) struct Pins {
    known: Mutex<Known>,
    /// Where they are kept over restarts, if they are.
    file: Option<PinFile>,
}

#[derive(Debug, Default)]
struct Known {
    servers: Servers,
    /// Paths with room of their own.
    named: Vec<Box<str>>,
    /// Definitions that were refused, by server and tool.
    offered: BTreeMap<(Box<str>, Box<str>), Listed>,
}

/// What is remembered, and how much may be.
#[derive(Clone, Copy, Default)]
struct Room {
    tools: usize,
    bytes: usize,
}

impl Room {
    const MAX: Self = Self { tools: TOOLS_MAX, bytes: BYTES_MAX };
    const SHARE: Self = Self { tools: TOOLS_MAX / SHARES, bytes: BYTES_MAX / SHARES };

    fn of<'t>(tools: impl IntoIterator<Item = &'t Arc<Listed>>) -> Self {
        let add =
            |sum: Self, tool: &Arc<Listed>| Self { tools: sum.tools + 1, bytes: sum.bytes + tool.bytes() };
        tools.into_iter().fold(Self::default(), add)
    }

    fn and(self, other: Self) -> Self {
        Self { tools: self.tools + other.tools, bytes: self.bytes + other.bytes }
    }

    /// What is no more than before always fits.
    fn fits(self, before: Self, max: Self) -> bool {
        self.tools <= max.tools.max(before.tools) && self.bytes <= max.bytes.max(before.bytes)
    }
}

/// Why an operator's word changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotThere;

impl Pins {
    /// What `file` holds.
    pub(crate) fn kept(file: PinFile, servers: Servers) -> Self {
        let known = Known { servers, ..Known::default() };
        Self { known: Mutex::new(known), file: Some(file) }
    }

    /// These paths, at most [`NAMED_MAX`], have room that no other takes.
    pub(crate) fn reserve(&self, mut named: Vec<Box<str>>) {
        named.truncate(NAMED_MAX);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).named = named;
    }

    /// The tool, as `server` listed it first.
    pub(crate) fn get(&self, server: &str, name: &str) -> Option<Arc<Listed>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let others = known.others(server, &listed);
        if let Some(name) = others.first().filter(|_| changed == ChangedTools::Block).cloned() {
            known.offer(server, listed, &others);
            return Err(Refused::Changed(name));
        }
        if known.add(server, listed)? {
            self.keep(&known);
        }
        Ok(others)
    }

    /// Takes the definition with this digest, which was refused, in the place of the known one.
    ///
    /// # Errors
    /// No such definition waits.
    pub(crate) fn accept(&self, server: &str, tool: &str, definition: Sha256) -> Result<(), NotThere> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (server.into(), tool.into());
        if known.offered.get(&key).is_none_or(|offered| offered.definition != definition) {
            return Err(NotThere);
        }
        let offered = known.offered.remove(&key).ok_or(NotThere)?;
        known.add(server, vec![offered]).map_err(|_| NotThere)?;
        self.keep(&known);
        Ok(())
    }

    /// Forgets a tool: what its server says next counts.
    ///
    /// # Errors
    /// It is not known.
    pub(crate) fn forget(&self, server: &str, tool: &str) -> Result<(), NotThere> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let tools = known.servers.get_mut(server).ok_or(NotThere)?;
        tools.remove(tool).ok_or(NotThere)?;
        if tools.is_empty() {
            known.servers.remove(server);
        }
        known.offered.remove(&(server.into(), tool.into()));
        self.keep(&known);
        Ok(())
    }

    /// What is known, for operators; of `route`.
    pub(crate) fn rows(&self, route: &str) -> Vec<Value> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let tools =
            known.servers.iter().flat_map(|(server, tools)| tools.values().map(move |tool| (server, tool)));
        tools
            .map(|(server, tool)| {
                let offered = known.offered.get(&(server.clone(), tool.name.clone()));
                json!({
                    "route": route, "server": server, "tool": tool.name,
                    "definition": tool.definition.to_string(),
                    "offered": offered.map(|offered| offered.definition.to_string()),
                })
            })
            .collect()
    }

    /// Writes the file before what was listed leaves, so that a restart does not undo it. A file that cannot be written is
    /// told; what is known counts until the process ends.
    fn keep(&self, known: &Known) {
        let Some(file) = &self.file else { return };
        if let Err(error) = file.write(&known.servers) {
            tracing::error!(%error, "pins of MCP tools could not be kept");
        }
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

    /// Whether anything is new.
    fn add(&mut self, server: &str, listed: Vec<Listed>) -> Result<bool, Refused> {
        let names: Vec<Box<str>> = listed.iter().map(|tool| tool.name.clone()).collect();
        let old = self.servers.get(server);
        let is_known = |tool: &Listed| {
            old.and_then(|tools| tools.get(&tool.name)).is_some_and(|old| old.definition == tool.definition)
        };
        let is_new = !listed.iter().all(is_known);
        if is_new {
            let mut tools = old.cloned().unwrap_or_default();
            let before = Room::of(tools.values());
            tools.extend(listed.into_iter().map(|tool| (tool.name.clone(), Arc::new(tool))));
            if !self.has_room(server, before, Room::of(tools.values())) {
                return Err(Refused::Full);
            }
            self.servers.insert(server.into(), tools);
        }
        names.into_iter().for_each(|name| drop(self.offered.remove(&(server.into(), name))));
        Ok(is_new)
    }

    fn has_room(&self, server: &str, before: Room, after: Room) -> bool {
        let is_named = |server: &str| self.named.iter().any(|named| **named == *server);
        if is_named(server) {
            return after.fits(before, Room::MAX);
        }
        let others = self.servers.iter().filter(|(other, _)| ***other != *server && !is_named(other));
        let others = Room::of(others.flat_map(|(_, tools)| tools.values()));
        after.fits(before, Room::SHARE) && others.and(after).fits(others.and(before), Room::MAX)
    }

    /// The definitions of `others` wait for an operator. Of one that a list has twice none does.
    fn offer(&mut self, server: &str, listed: Vec<Listed>, others: &[Box<str>]) {
        let mut times: HashMap<Box<str>, usize> = HashMap::new();
        listed.iter().for_each(|tool| *times.entry(tool.name.clone()).or_default() += 1);
        for tool in listed {
            let waits = others.contains(&tool.name) && times.get(&tool.name) == Some(&1);
            let key = (server.into(), tool.name.clone());
            if waits && (self.offered.len() < OFFERED_MAX || self.offered.contains_key(&key)) {
                self.offered.insert(key, tool);
            }
        }
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
    fn an_operator_takes_what_was_refused_by_its_digest() {
        let pins = Pins::default();
        pins.take("/", vec![tool("a", "1")], ChangedTools::Block).unwrap();
        assert_eq!(pins.accept("/", "a", Sha256::of(b"2")), Err(NotThere));
        pins.take("/", vec![tool("a", "2")], ChangedTools::Block).unwrap_err();
        assert_eq!(pins.rows("r")[0]["offered"], Sha256::of(b"2").to_string());
        assert_eq!(pins.accept("/", "a", Sha256::of(b"3")), Err(NotThere));
        assert_eq!(pins.accept("/", "a", Sha256::of(b"2")), Ok(()));
        assert_eq!(input(&pins, "/", "a"), Some("2".into()));
        assert_eq!(pins.take("/", vec![tool("a", "2")], ChangedTools::Block), Ok(vec![]));
        assert!(pins.rows("r")[0]["offered"].is_null());
    }

    #[test]
    fn what_is_forgotten_counts_anew_and_a_twofold_definition_is_not_offered() {
        let pins = Pins::default();
        pins.take("/", vec![tool("a", "1")], ChangedTools::Block).unwrap();
        pins.take("/", vec![tool("a", "2"), tool("a", "3")], ChangedTools::Block).unwrap_err();
        assert!(pins.rows("r")[0]["offered"].is_null());
        assert_eq!(pins.forget("/", "b"), Err(NotThere));
        assert_eq!(pins.forget("/", "a"), Ok(()));
        assert!(pins.rows("r").is_empty() && pins.known.lock().unwrap().servers.is_empty());
        assert_eq!(pins.take("/", vec![tool("a", "2")], ChangedTools::Block), Ok(vec![]));
    }

    fn many(count: usize) -> Vec<Listed> {
        (0..count).map(|at| tool(&at.to_string(), "x")).collect()
    }

    #[test]
    fn a_list_that_does_not_fit_is_not_half_kept() {
        let pins = Pins::default();
        pins.reserve(vec!["/".into()]);
        assert_eq!(pins.take("/", many(TOOLS_MAX + 1), ChangedTools::Block), Err(Refused::Full));
        assert_eq!(pins.get("/", "0"), None);
        assert_eq!(pins.take("/", many(TOOLS_MAX), ChangedTools::Block), Ok(vec![]));
        assert_eq!(pins.take("/", many(TOOLS_MAX), ChangedTools::Block), Ok(vec![]));
        assert_eq!(pins.take("/", vec![tool("new", "x")], ChangedTools::Block), Err(Refused::Full));
        let large = tool("0", &"x".repeat(BYTES_MAX));
        assert_eq!(pins.take("/2", vec![large.clone()], ChangedTools::Allow), Err(Refused::Full));
        let fresh = Pins::default();
        fresh.reserve(vec!["/".into()]);
        assert_eq!(fresh.take("/", vec![large], ChangedTools::Allow), Err(Refused::Full));
    }

    #[test]
    fn lists_at_other_paths_take_no_room_of_the_route_s_own() {
        let pins = Pins::default();
        pins.reserve(vec!["/mcp".into()]);
        for at in 0..SHARES {
            assert_eq!(
                pins.take(&format!("/mcp/{at}"), many(TOOLS_MAX / SHARES), ChangedTools::Block),
                Ok(vec![])
            );
        }
        assert_eq!(pins.take("/mcp/x", vec![tool("a", "1")], ChangedTools::Block), Err(Refused::Full));
        assert_eq!(pins.take("/mcp/0", many(TOOLS_MAX / SHARES), ChangedTools::Block), Ok(vec![]));
        assert_eq!(pins.take("/mcp", many(TOOLS_MAX), ChangedTools::Block), Ok(vec![]));
    }

    #[test]
    fn one_other_path_leaves_room_for_the_rest() {
        let pins = Pins::default();
        assert_eq!(pins.take("/a", many(TOOLS_MAX / SHARES + 1), ChangedTools::Block), Err(Refused::Full));
        let large = tool("0", &"x".repeat(BYTES_MAX / SHARES));
        assert_eq!(pins.take("/a", vec![large], ChangedTools::Block), Err(Refused::Full));
        assert_eq!(pins.take("/b", many(TOOLS_MAX / SHARES), ChangedTools::Block), Ok(vec![]));
    }

    #[test]
    fn what_was_kept_before_there_were_shares_stays_and_may_be_listed_again() {
        let pins = Pins::default();
        pins.reserve(vec!["/mcp".into()]);
        pins.take("/mcp", many(TOOLS_MAX), ChangedTools::Block).unwrap();
        pins.reserve(vec!["/other".into()]);
        assert_eq!(pins.take("/mcp", many(TOOLS_MAX), ChangedTools::Block), Ok(vec![]));
        assert_eq!(pins.take("/mcp", vec![tool("0", "y")], ChangedTools::Allow), Ok(vec!["0".into()]));
        assert_eq!(pins.take("/mcp", vec![tool("new", "x")], ChangedTools::Block), Err(Refused::Full));
    }
}
