//! Bodies on their way: the request to the upstream, the answer to the client.

mod answer;
mod drain;
mod held;
mod kept;
mod room;
mod screen;
mod upload;

pub(crate) use answer::AnswerBody;
pub(crate) use drain::{Drains, Followed};
pub(crate) use held::HeldBody;
pub(crate) use kept::Kept;
pub(crate) use room::Room;
pub(crate) use screen::{Mode, Screened, ScreenedBody, Step};
pub(crate) use upload::{ReadError, Upload, UpstreamBody, read_next};

/// What ends a body before its time. The transport is cut; the text goes nowhere but to the log.
#[derive(Debug, thiserror::Error)]
#[error("the body was cut: {0}")]
pub(crate) struct Cut(pub(crate) estoppel_evidence::Reason);
