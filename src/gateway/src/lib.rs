//! The data plane: listeners, the tower stack, bodies, the upstream pool, the admin listener and metrics.
//!
//! A call's way through this crate is `serve.rs` → `stack.rs` → `layer/*.rs` in order → `upstream/` → `body/`.
//! Nothing here decides what is evidence (that is `estoppel-evidence`) or writes it (`estoppel-journal`); nothing here
//! knows what a rule says (`estoppel-policy`).
//!
//! Absent on purpose: queues without a bound, a task per call, response caching, compression, protocol upgrades.

pub mod admin;
mod body;
pub mod bridge;
mod bypass;
mod call;
mod chain;
mod context;
mod contracts;
mod controls;
mod credential;
mod database;
mod detecting;
mod exchange;
mod headers;
mod holds;
mod idempotency;
pub mod identity;
mod judging;
mod layer;
mod mcp;
mod members;
mod metrics;
pub mod offline;
pub mod packs;
mod pins;
mod protected_resource;
mod provenance;
mod reask;
mod recent;
pub mod recorded;
mod respond;
mod retained;
mod rules;
mod serve;
pub mod settings;
mod shadow;
mod snapshot;
mod stack;
mod store;
mod switches;
pub mod tls;
mod trace_context;
mod upstream;

pub use contracts::{ContractError, ContractPlace, contract_errors, language};
pub use metrics::Metrics;
pub use rules::{rule_errors, rule_warnings};
pub use serve::{Gateway, GatewayError, Listening};
pub use settings::Settings;
pub use shadow::Shadow;
pub use snapshot::Snapshot;
