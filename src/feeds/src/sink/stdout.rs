//! One document a line on the daemon's standard output, for those who collect what containers print.

use std::io::Write as _;

use super::SinkError;
use crate::document::Document;

/// The standard output. Whoever does not read it stops this feed and nothing else.
pub(crate) struct StdoutSink;

impl StdoutSink {
    pub fn deliver(&mut self, documents: &[Document]) -> Result<(), SinkError> {
        let mut lines = Vec::new();
        for document in documents {
            lines.extend_from_slice(&document.json);
            lines.push(b'\n');
        }
        let mut out = std::io::stdout().lock();
        out.write_all(&lines).and_then(|()| out.flush()).map_err(SinkError::Stdout)
    }
}
