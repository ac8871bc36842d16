//! Feeds: what is durable in the journal, told to SIEMs and other collectors.
//!
//! A *feed* follows the journal's segments and is fed by nothing else: each has a *cursor* that is stored, and the journal
//! itself is its spool. It turns entries into *documents* of a published format ([`Format`]) and gives them to its *sink*.
//! *Alerts* are findings that are made of many calls. Nothing here is on the data path: a collector that is slow, refuses or
//! is gone costs calls nothing.
//!
//! Promises: every entry that the format tells is delivered at least once, in the order of the log; `metadata.uid` (OCSF)
//! or `event.id` (ECS) is the key by which copies are known. What a feed could not tell is counted, and told as a
//! finding of its own. Documents hold what receipts say and never content of bodies.
//!
//! [`Messenger`] takes messages that do not come from the journal, for the same receivers.
//!
//! Left to others: what is recorded (gateway, journal); what a collector does with a document it took.

mod alert;
mod backoff;
mod cursor;
mod document;
mod ecs;
mod event;
mod feed;
mod finding;
mod messenger;
mod notice;
mod ocsf;
mod otlp;
mod own;
mod read;
mod secret;
mod settings;
mod sink;
mod stats;

pub use alert::{ALERTS_MAX, AlertSettings, Severity, Share, check_alerts};
pub use document::{DOCUMENT_BYTES_MAX, Document, Format, TEXT_CHARS_MAX, documents};
pub use event::Event;
pub use feed::{FeedError, Feeds};
pub use messenger::Messenger;
pub use settings::{Begin, FEEDS_MAX, FeedSettings, HookTo, SettingsError, check, is_name};
pub use sink::SinkError;
pub use stats::FeedMetrics;
