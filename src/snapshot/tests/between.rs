//! What may stand between: TLS to a real server, and a real pooler.

#![allow(clippy::unwrap_used, reason = "a test that cannot read an answer fails")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use estoppel_kit::{PgBouncer, PostgresServer, Scratch as Folder};
use estoppel_snapshot::{
    Cause, Dsn, Scratch, ScratchError, ScratchSettings, Settings, Snapshot, SnapshotError, Source, State,
    Tls, examine, role_sql,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Deadlines are the subject of other tests.
fn patient(tls: Option<Tls>) -> Settings {
    Settings {
        deadline: Duration::from_secs(30),
        statement: Duration::from_secs(20),
        tls,
        ..Settings::default()
    }
}

fn source(url: &str, tls: Option<Tls>) -> Source {
    let (source, task) = Source::new(Dsn::parse(url).unwrap(), patient(tls));
    tokio::spawn(task.run());
    source
}

async fn take(url: &str, tls: Option<Tls>) -> Result<Arc<Snapshot>, Arc<SnapshotError>> {
    source(url, tls).take().await
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn identity(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn trusted(&self) -> Tls {
        let folder = Folder::new("ca");
        Tls::trusting(Some(&folder.write("ca.pem", self.0.pem()))).unwrap()
    }
}

#[tokio::test]
async fn a_server_is_spoken_to_over_tls_and_only_if_it_is_the_one() {
    let authority = Authority::new();
    let identity = |address: Ipv4Addr| authority.identity(&address.to_string());
    let Some((server, address)) = PostgresServer::start_encrypted(identity) else { return };
    server.sql("postgres", "CREATE TABLE orders (id int)");
    let url = |mode: &str| format!("postgresql://postgres@{address}/postgres?sslmode={mode}");
    let plain = take(&server.url("postgres", "postgres"), None).await.unwrap();
    for mode in ["verify-full", "require"] {
        let encrypted = take(&url(mode), Some(authority.trusted())).await.unwrap();
        assert_eq!(encrypted.schema.digest(), plain.schema.digest());
        assert!(encrypted.server.is_same(&plain.server));
    }
    let watched = source(&url("verify-full"), Some(authority.trusted()));
    watched.take().await.unwrap();
    let sessions = "SELECT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'estoppel-snapshot' AND ssl";
    assert_eq!(server.sql("postgres", sessions), "t|TLSv1.3");
    let checks =
        examine(&Dsn::parse(&url("verify-full")).unwrap(), &patient(Some(authority.trusted())), &[]).await;
    let is_fit =
        |check: &estoppel_snapshot::Check| check.state != State::Bad && !check.what.contains("encrypted");
    assert!(checks.iter().all(is_fit), "{checks:?}");

    let stranger = take(&url("verify-full"), Some(Authority::new().trusted())).await;
    assert_eq!(stranger.map(|_| ()).unwrap_err().cause(), Cause::Connect, "of another authority");
    let unencrypted = take(&url("disable"), Some(authority.trusted())).await;
    assert_eq!(unencrypted.map(|_| ()).unwrap_err().cause(), Cause::Connect, "the server wants TLS");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_also_where_only_encryption_was_asked_for() {
    let authority = Authority::new();
    let identity = |_: Ipv4Addr| authority.identity("db.example");
    let Some((_server, address)) = PostgresServer::start_encrypted(identity) else { return };
    for mode in ["verify-full", "require"] {
        let url = format!("postgresql://postgres@{address}/postgres?sslmode={mode}");
        let refused = take(&url, Some(authority.trusted())).await;
        assert_eq!(refused.map(|_| ()).unwrap_err().cause(), Cause::Connect, "{mode}");
    }
}

#[tokio::test]
async fn snapshots_work_through_a_pooler_whatever_it_pools() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", "CREATE TABLE orders (id int)");
    let direct = take(&server.url("postgres", "postgres"), None).await.unwrap();
    for mode in ["session", "transaction", "statement"] {
        let Some(pooler) = PgBouncer::start(&server, mode) else { return };
        let pooled = source(&pooler.url("postgres", "postgres"), None);
        let first = pooled.take().await.unwrap();
        assert_eq!((first.schema.digest(), &first.state), (direct.schema.digest(), &direct.state), "{mode}");
        let again = pooled.take().await.unwrap();
        assert!(again.before.is_some() && again.before >= first.before, "{mode}");
        drop(pooled);
        let checks =
            examine(&Dsn::parse(&pooler.url("postgres", "postgres")).unwrap(), &patient(None), &[]).await;
        let warned = checks.iter().find(|check| check.what.contains("pooler")).unwrap();
        assert_eq!(warned.state, State::Warn, "{mode}");
        assert!(checks.iter().all(|check| check.state != State::Bad), "{mode}: {checks:?}");
    }
}

#[tokio::test]
async fn two_sources_share_one_pooled_connection_and_leave_no_setting_behind() {
    let Some(server) = PostgresServer::start() else { return };
    server.sql("postgres", "CREATE TABLE orders (id int)");
    let Some(pooler) = PgBouncer::start(&server, "transaction") else { return };
    let url = pooler.url("postgres", "postgres");
    let (one, two) = (source(&url, None), source(&url, None));
    for _ in 0..5 {
        let (one, two) = tokio::join!(one.take(), two.take());
        assert_eq!(one.unwrap().schema.digest(), two.unwrap().schema.digest());
    }
    server.sql("postgres", "ALTER TABLE orders ADD note text");
    assert_eq!(one.take().await.unwrap().schema.digest(), two.take().await.unwrap().schema.digest());
}

#[tokio::test]
async fn a_replay_is_not_taken_through_a_pooler() {
    let Some(server) = PostgresServer::start() else { return };
    let url = server.url("postgres", "postgres");
    server.sql("postgres", &role_sql(&Dsn::parse(&url).unwrap()));
    let schema = take(&url, None).await.unwrap().schema.clone();
    for mode in ["session", "transaction"] {
        let Some(pooler) = PgBouncer::start(&server, mode) else { return };
        let pooled = Dsn::parse(&pooler.url("estoppel_replay", "postgres")).unwrap();
        let refused = Scratch::open(&pooled, ScratchSettings::default(), &schema, "public", 7).await;
        assert!(matches!(refused, Err(ScratchError::Connect(_))), "{mode}: {refused:?}");
    }
}
