//! What is in the arguments of a call or in a body: its JSON, where it leads, and which classes of data are in it.
//!
//! Where two readers could take the bytes for two things, or there is more than is looked at, nothing is known of them,
//! and a rule that would have to know leaves the call not evaluated.

mod json;
mod links;

use std::sync::Arc;

use serde_json::Value;

use crate::host::Host;
use crate::provenance::{Earlier, Reuse};

pub use json::{VALUES_MAX, read as read_json};
pub use links::DESTINATIONS_MAX;

/// The content of a call or of a body, as far as it could be read.
#[derive(Clone, Debug, Default)]
pub struct Content {
    json: Option<Value>,
    destinations: Destinations,
    data: Option<Data>,
    reuse: Option<Reuse>,
}

/// Classes of data, as far as somebody looked.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub found: Vec<Box<str>>,
    /// Classes that would have been found; none: every one.
    pub looked_for: Option<Arc<[&'static str]>>,
}

/// Hosts that texts lead to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Destinations {
    /// At most [`DESTINATIONS_MAX`], each once.
    pub hosts: Vec<Host>,
    /// There are others, which nobody knows.
    pub others: bool,
}

/// What of a content is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// Hosts that its texts lead to. Where they are not looked for, there are none.
    pub destinations: bool,
}

impl Content {
    /// Reads one JSON text. What cannot be read is [`Self::unread`].
    pub fn read(text: &[u8], wanted: Wanted) -> Self {
        let Some(json) = json::read(text) else { return Self::unread() };
        let destinations =
            if wanted.destinations { links::destinations(&json) } else { Destinations::default() };
        Self { json: Some(json), destinations, data: None, reuse: None }
    }

    /// Nobody knows what is in it.
    pub fn unread() -> Self {
        let destinations = Destinations { hosts: Vec::new(), others: true };
        Self { json: None, destinations, data: None, reuse: None }
    }

    /// With the classes of data that are in it. Until they are given, nobody has looked.
    #[must_use]
    pub fn with_data(self, classes: Vec<Box<str>>) -> Self {
        Self { data: Some(Data { found: classes, looked_for: None }), ..self }
    }

    /// With the classes that were found by those who look for `looked_for` and nothing else.
    #[must_use]
    pub fn with_data_of(self, classes: Vec<Box<str>>, looked_for: Arc<[&'static str]>) -> Self {
        Self { data: Some(Data { found: classes, looked_for: Some(looked_for) }), ..self }
    }

    /// With what of it stood in earlier results. Until that is given, nobody has listened to any.
    #[must_use]
    pub fn with_earlier(self, earlier: &Earlier) -> Self {
        Self { reuse: Some(earlier.reuse(self.json.as_ref().unwrap_or(&Value::Null))), ..self }
    }

    pub(crate) fn json(&self) -> Option<&Value> {
        self.json.as_ref()
    }

    pub(crate) fn destinations(&self) -> &Destinations {
        &self.destinations
    }

    /// None: nobody has looked.
    pub(crate) fn data(&self) -> Option<&Data> {
        self.data.as_ref()
    }

    /// None: nobody has listened.
    pub(crate) fn reuse(&self) -> Option<&Reuse> {
        self.reuse.as_ref()
    }
}

/// Whether readers may take it for the text of a JSON object or array.
pub(crate) fn is_container(text: &str) -> bool {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    text.starts_with('{') && text.ends_with('}') || text.starts_with('[') && text.ends_with(']')
}
