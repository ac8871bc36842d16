//! The connection of a source, and the questions that go over it at once.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::try_join_all;
use tokio::task::AbortHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Settings;
use crate::catalog::OLDEST;
use crate::dsn::Dsn;
use crate::error::SnapshotError;

/// A connection that is driven by a task of its own, which ends with it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    client: Arc<Client>,
    _driver: Arc<Driver>,
    /// As `server_version_num` says.
    pub version: u32,
}

#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The rows of each statement of one message, in order; statements without rows have none.
pub(crate) type Answers = Vec<Vec<SimpleQueryRow>>;

impl Connection {
    /// `options` are set as the session starts, where no pooler refuses them.
    pub async fn open(dsn: &Dsn, settings: &Settings, options: Option<&str>) -> Result<Self, SnapshotError> {
        let mut config = dsn.config().clone();
        config.connect_timeout(settings.deadline).application_name("estoppel-snapshot");
        if let Some(options) = options {
            config.options(options);
        }
        let (client, version, driver) = match settings.tls.as_ref().filter(|_| dsn.tls()) {
            Some(tls) => {
                let connector = MakeRustlsConnect::new(tls.0.as_ref().clone());
                let (client, connection) = config.connect(connector).await.map_err(SnapshotError::Connect)?;
                let version = connection.parameter("server_version").map(version_of);
                (client, version, tokio::spawn(connection).abort_handle())
            }
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(SnapshotError::Connect)?;
                let version = connection.parameter("server_version").map(version_of);
                (client, version, tokio::spawn(connection).abort_handle())
            }
        };
        let driver = Arc::new(Driver(driver));
        let version = version.ok_or(SnapshotError::Unreadable("no version"))?;
        if version < OLDEST {
            return Err(SnapshotError::Version { major: version / 10_000 });
        }
        Ok(Self { client: Arc::new(client), _driver: driver, version })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// None while the connection is shared.
    pub fn client_alone(&mut self) -> Option<&mut Client> {
        Arc::get_mut(&mut self.client)
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Sends all messages before it waits for the first answer: one round trip. Each has its own outcome.
    pub async fn ask_all(&self, messages: &[&str]) -> Vec<Result<Answers, SnapshotError>> {
        self.ask_each(messages, SnapshotError::from).await
    }

    /// The same, of messages about rows of tables.
    pub async fn ask_all_rows(&self, messages: &[&str]) -> Vec<Result<Answers, SnapshotError>> {
        self.ask_each(messages, SnapshotError::of_rows).await
    }

    async fn ask_each(
        &self,
        messages: &[&str],
        failed: fn(tokio_postgres::Error) -> SnapshotError,
    ) -> Vec<Result<Answers, SnapshotError>> {
        let asked = messages.iter().map(|message| async move {
            let answered = self.client.simple_query(message).await;
            Ok::<_, std::convert::Infallible>(answered.map(by_statement).map_err(failed))
        });
        match try_join_all(asked).await {
            Ok(answers) => answers,
            Err(never) => match never {},
        }
    }

    /// One message about rows of tables.
    pub async fn ask_rows(&self, message: &str) -> Result<Answers, SnapshotError> {
        self.client.simple_query(message).await.map(by_statement).map_err(SnapshotError::of_rows)
    }

    /// Ends the transaction; nobody waits for it, and what is asked next comes after it.
    pub fn roll_back(&self) {
        // The first poll sends it.
        let _ = self.client.batch_execute("ROLLBACK").now_or_never();
    }
}

fn by_statement(messages: Vec<SimpleQueryMessage>) -> Answers {
    let mut answers = Vec::new();
    let mut rows = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => rows.push(row),
            SimpleQueryMessage::CommandComplete(_) => answers.push(std::mem::take(&mut rows)),
            _ => {}
        }
    }
    answers
}

/// `15.18 (Debian …)` as 150018, `18beta1` as 180000.
fn version_of(text: &str) -> u32 {
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end).and_then(|digits| digits.parse::<u32>().ok()).unwrap_or(0)
    };
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    number(major).saturating_mul(10_000).saturating_add(number(minor).min(9_999))
}

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn versions_are_read_as_servers_print_them() {
        assert_eq!(version_of("15.18 (Debian 15.18-0+deb12u1)"), 150_018);
        assert_eq!(version_of("18beta1"), 180_000);
        assert_eq!(version_of("13.23"), 130_023);
        assert_eq!(version_of("9.6.24"), 90_006);
        assert_eq!(version_of("?"), 0);
    }
}
