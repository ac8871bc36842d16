//! The file in which a route's pins outlive the process. It holds what a server has said first, so whoever can write it decides
//! what counts as unchanged; it lies beside the journal, mode 0600, and is replaced whole. One that cannot be read keeps the
//! daemon from starting: to go on without it would let whatever is said next count as first.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::Sha256;
use serde_json::{Value, json};

use crate::pins::{BYTES_MAX, Listed, NAMED_MAX, Servers};

/// The name of the format.
const FORMAT: &str = "estoppel-pins/v1";
/// Longest file that is read: every byte of the schemas escaped, and the digests.
const FILE_BYTES_MAX: u64 = 8 * (NAMED_MAX as u64 + 1) * BYTES_MAX as u64;

/// Where the pins of one route are kept.
#[derive(Debug)]
pub(crate) struct PinFile {
    path: PathBuf,
    /// The upstream whose servers they are of.
    origin: Box<str>,
}

/// A file of pins that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinFileError {
    #[error("cannot read the pins in `{path}`: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the pins in `{path}` cannot be understood; remove the file to pin anew")]
    Malformed { path: PathBuf },
}

impl PinFile {
    /// The file of `route` in `dir`, and what it holds. Pins of another upstream do not count.
    ///
    /// # Errors
    /// There is a file, and it cannot be read whole.
    pub(crate) fn open(dir: &Path, route: &str, origin: &str) -> Result<(Self, Servers), PinFileError> {
        let path = dir.join(format!("{route}.json"));
        let file = Self { path: path.clone(), origin: origin.into() };
        let mut text = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text));
        match read {
            Err(error) if is_absent(&error) => return Ok((file, Servers::new())),
            Err(source) => return Err(PinFileError::Read { path, source }),
            Ok(_) => {}
        }
        let value: Option<Value> = serde_json::from_slice(&text).ok();
        let value = value.filter(|value| value["format"] == FORMAT && value["origin"].is_string());
        let Some(value) = value else { return Err(PinFileError::Malformed { path }) };
        if value["origin"] != *file.origin {
            return Ok((file, Servers::new()));
        }
        match servers(&value["servers"]) {
            Some(servers) => Ok((file, servers)),
            None => Err(PinFileError::Malformed { path }),
        }
    }

    /// Replaces the file; it survives a power cut once this returns.
    pub(crate) fn write(&self, servers: &Servers) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let next = self.path.with_extension("next");
        let text = serde_json::to_vec(&document(&self.origin, servers))?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&next, &self.path)?;
        File::open(dir)?.sync_all()
    }
}

/// Nothing is there; that its folder cannot be made is for the journal to say.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn document(origin: &str, servers: &Servers) -> Value {
    let schema = |text: &Option<Bytes>| text.as_ref().map(|text| String::from_utf8_lossy(text).into_owned());
    let tool = |tool: &Arc<Listed>| {
        json!({
            "definition": tool.definition.to_string(),
            "input": schema(&tool.input),
            "output": schema(&tool.output),
        })
    };
    let servers: serde_json::Map<_, _> = servers
        .iter()
        .map(|(server, tools)| {
            let tools = tools.iter().map(|(name, listed)| (name.to_string(), tool(listed))).collect();
            (server.to_string(), Value::Object(tools))
        })
        .collect();
    json!({ "format": FORMAT, "origin": origin, "servers": servers })
}

fn servers(value: &Value) -> Option<Servers> {
    value
        .as_object()?
        .iter()
        .map(|(server, value)| Some((Box::<str>::from(server.as_str()), tools(value)?)))
        .collect()
}

fn tools(value: &Value) -> Option<BTreeMap<Box<str>, Arc<Listed>>> {
    let tools = value.as_object()?.iter();
    tools.map(|(name, tool)| Some((Box::from(name.as_str()), Arc::new(listed(name, tool)?)))).collect()
}

fn listed(name: &str, value: &Value) -> Option<Listed> {
    let schema = |value: &Value| match value {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(Bytes::from(text.clone()))),
        _ => None,
    };
    Some(Listed {
        name: name.into(),
        definition: Sha256::parse(value["definition"].as_str()?)?,
        input: schema(value.get("input")?)?,
        output: schema(value.get("output")?)?,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use estoppel_policy::ChangedTools;

    use super::*;
    use crate::pins::{Pins, Refused};

    fn tool(name: &str, said: &str) -> Listed {
        let definition = Sha256::of(said.as_bytes());
        Listed { name: name.into(), definition, input: Some(Bytes::from(said.to_owned())), output: None }
    }

    fn opened(dir: &Path, origin: &str) -> Pins {
        let (file, servers) = PinFile::open(dir, "r", origin).unwrap();
        Pins::kept(file, servers)
    }

    #[test]
    fn pins_outlive_the_process_that_made_them() {
        let dir = tempfile::tempdir().unwrap();
        let dir = &dir.path().join("pins");
        let first = opened(dir, "http://a");
        first.take("/mcp", vec![tool("a", "1\u{e9}"), tool("b", "2")], ChangedTools::Block).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(dir), mode(&dir.join("r.json"))), (0o700, 0o600));
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1, "nothing temporary is left");
        let second = opened(dir, "http://a");
        assert_eq!(second.get("/mcp", "a"), first.get("/mcp", "a"));
        let changed = second.take("/mcp", vec![tool("a", "3")], ChangedTools::Block);
        assert_eq!(changed, Err(Refused::Changed("a".into())));
        assert_eq!(second.accept("/mcp", "a", Sha256::of(b"3")), Ok(()));
        assert_eq!(second.forget("/mcp", "b"), Ok(()));
        let third = opened(dir, "http://a");
        assert_eq!(third.get("/mcp", "a"), second.get("/mcp", "a"));
        assert_eq!(third.get("/mcp", "b"), None);
        assert_eq!(opened(dir, "http://b").get("/mcp", "a"), None, "another upstream");
    }

    #[test]
    fn a_file_that_is_damaged_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        opened(dir.path(), "o").take("/", vec![tool("a", "1")], ChangedTools::Block).unwrap();
        let path = dir.path().join("r.json");
        let good = std::fs::read_to_string(&path).unwrap();
        for bad in
            [&good[..good.len() - 1], "", "{}", &good.replace("sha256:", "x"), &good.replace("/v1", "/v2")]
        {
            std::fs::write(&path, bad).unwrap();
            assert!(PinFile::open(dir.path(), "r", "o").is_err(), "{bad}");
        }
    }
}
