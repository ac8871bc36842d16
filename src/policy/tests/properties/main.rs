//! Claims about every policy, checked on random ones.
#![allow(clippy::unwrap_used, reason = "what a test builds itself is what it says")]

mod generate;
mod hash;
mod judgement;
mod reading;
mod reference;
