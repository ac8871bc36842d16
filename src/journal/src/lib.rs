//! API shim, to be replaced by the real crate.
use estoppel_evidence::entry::*;
use estoppel_evidence::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
pub struct SpillSettings { pub path: PathBuf, pub bytes_max: u64 }
pub struct Settings { pub dir: PathBuf, pub instance: Instance, pub durability: Durability, pub sign: Sign, pub segment_bytes: u64, pub queue_entries: usize, pub spill: Option<SpillSettings>, pub checkpoint_every: Duration, pub checkpoint_entries: u64, pub checkpoint_store: Option<PathBuf>, pub runs_max: usize, pub ambient_every: Duration, pub ambient_entries: u64, pub run_idle: Duration, pub policy: Sha256, pub config: Sha256, pub build: Build }
impl Settings { pub fn new(_dir: PathBuf, _instance: Instance) -> Self { unimplemented!() } }
pub struct Keys { pub receipt: Arc<dyn Signer>, pub checkpoint: Arc<dyn Signer>, pub manifest: Arc<dyn Signer>, pub capture: CaptureKey }
pub trait Clock: Send + Sync { fn unix_us(&self) -> u64; fn mono_us(&self) -> u64; }
pub struct SystemClock; impl SystemClock { pub fn new() -> Self { Self } } impl Clock for SystemClock { fn unix_us(&self) -> u64 {0} fn mono_us(&self) -> u64 {0} }
#[derive(Clone)] pub struct Journal;
#[derive(Debug)] pub enum Refused { Full { retry_after: Duration }, Failed(Reason), Closed }
#[derive(Debug, thiserror::Error)] #[error("x")] pub struct JournalError; impl JournalError { pub fn reason(&self) -> Reason { Reason::Internal } }
pub struct Slot; #[derive(Clone)] pub struct RunHandle;
impl RunHandle { pub fn id(&self) -> RunId { unimplemented!() } pub fn capture(&self) -> &RunCapture { unimplemented!() } }
pub struct Ack; #[derive(Debug)] pub struct AckError;
impl std::future::Future for Ack { type Output = Result<Leaf, AckError>; fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> { unimplemented!() } }
impl Slot { pub fn commit(self, _: &RunHandle, _: Box<CallRecord>) -> Ack { Ack } pub fn intent(&self, _: &RunHandle, _: Intent) -> Ack { Ack } }
#[derive(Default)] pub struct Stats { pub queue: usize, pub entries: u64, pub runs_open: usize, pub spilled: u64, pub batches: u64, pub sync_us: u64, pub failed: Option<Reason>, pub checkpoint_size: u64 }
#[derive(serde::Serialize)] pub struct Sealed { pub path: PathBuf }
#[derive(serde::Serialize)] pub struct RunSummary { pub name: String }
impl Journal {
 pub fn open(_: Settings, _: Keys, _: Arc<dyn Clock>) -> Result<Self, JournalError> { unimplemented!() }
 pub fn admit(&self) -> Result<Slot, Refused> { unimplemented!() }
 pub fn run(&self, _: Option<&str>) -> Result<RunHandle, Refused> { unimplemented!() }
 pub fn stats(&self) -> Stats { Stats::default() }
 pub fn runs(&self) -> Vec<RunSummary> { vec![] }
 pub async fn seal(&self, _: &str, _: SealReason) -> Result<Sealed, JournalError> { unimplemented!() }
 pub fn store_policy(&self, _: Sha256, _: &[u8]) -> Result<(), JournalError> { unimplemented!() }
 pub fn policy_loaded(&self, _: Option<Sha256>, _: Option<Reason>) {}
 pub fn close(&self, _: Duration) -> Result<(), JournalError> { unimplemented!() }
}
pub mod keys { use super::*; pub fn exist(_: &std::path::Path) -> bool { false } pub fn init(_: &std::path::Path, _: Alg) -> Result<(), JournalError> { Ok(()) } pub fn load(_: &std::path::Path) -> Result<Keys, JournalError> { unimplemented!() } }
