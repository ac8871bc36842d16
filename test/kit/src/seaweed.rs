//! A real S3 service that enforces object lock: SeaweedFS on loopback, its data in a scratch folder.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rusty_s3::{Bucket, Method, UrlStyle};

use crate::http::{Answer, HttpError, Request, send};
use crate::poll::until;
use crate::process::Process;
use crate::require::require_real_with;
use crate::scratch::Scratch;

const PATIENCE: Duration = Duration::from_secs(90);
const VENV: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv/bin");

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct SeaweedServer {
    program: PathBuf,
    /// Of S3 first.
    ports: Vec<u16>,
    more: Vec<String>,
    process: Process,
    scratch: Scratch,
    starts: u32,
}

impl SeaweedServer {
    /// What requests are signed with.
    pub const KEY: &str = "key-of-the-archive";
    pub const SECRET: &str = "secret-of-the-archive";

    /// Starts an empty one; `None` where none is installed, see [`crate::require_real`].
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(Vec::new())
    }

    /// As [`SeaweedServer::start`], and speaks TLS at [`SeaweedServer::secure_address`].
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    #[must_use]
    pub fn start_tls(certificate: &Path, key: &Path) -> Option<Self> {
        let (certificate, key) = (certificate.display(), key.display());
        Self::start_with(vec![format!("-s3.cert.file={certificate}"), format!("-s3.key.file={key}")])
    }

    #[track_caller]
    fn start_with(more: Vec<String>) -> Option<Self> {
        let program = require_real_with("weed", find)?;
        let scratch = Scratch::new("weed");
        let identities = format!(
            r#"{{"identities":[{{"name":"a","credentials":[{{"accessKey":"{}","secretKey":"{}"}}],"actions":["Admin","Read","Write","List"]}}]}}"#,
            Self::KEY,
            Self::SECRET
        );
        scratch.write("s3.json", identities.as_bytes());
        let ports = free_ports(9);
        let process = run(&program, &scratch, &ports, &more, 0);
        let server = Self { program, ports, more, process, scratch, starts: 1 };
        server.wait();
        Some(server)
    }

    /// Where S3 is spoken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[0]).into()
    }

    /// Where S3 is spoken over TLS.
    #[must_use]
    pub fn secure_address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[8]).into()
    }

    /// SIGKILL. What it has on disk stays.
    #[track_caller]
    pub fn kill_9(&mut self) {
        self.process.kill_9();
    }

    /// On the same data and at the same place.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill_9();
        self.process = run(&self.program, &self.scratch, &self.ports, &self.more, self.starts);
        self.starts += 1;
        self.wait();
    }

    #[track_caller]
    fn wait(&self) {
        // The bucket that is made last shows that the parts behind S3 have found one another.
        until("SeaweedFS", PATIENCE, || {
            self.try_ask(Method::Put, "ready", "", &[], b"")
                .is_ok_and(|answer| matches!(answer.status(), 200 | 409))
                .then_some(())
        });
        until("SeaweedFS takes objects", PATIENCE, || {
            self.try_ask(Method::Put, "ready", "object", &[], b"x")
                .is_ok_and(|answer| answer.status() == 200)
                .then_some(())
        });
    }

    /// Makes a bucket.
    #[track_caller]
    pub fn make_bucket(&self, name: &str, is_locked: bool) {
        let headers = [("x-amz-bucket-object-lock-enabled", "true")];
        let headers = if is_locked { &headers[..] } else { &[] };
        let made = self.ask(Method::Put, name, "", headers, b"");
        assert_eq!(made.status(), 200, "{}", made.text());
    }

    /// One signed request of its owner; `object` may have a query.
    #[track_caller]
    pub fn ask(
        &self,
        method: Method,
        bucket: &str,
        object: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.try_ask(method, bucket, object, headers, body).unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_ask(
        &self,
        method: Method,
        bucket: &str,
        object: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, HttpError> {
        let endpoint = format!("http://{}", self.address()).parse().expect("an address is a URL");
        let bucket =
            Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), "us-east-1").expect("it has a host");
        let (object, query) = object.split_once('?').unwrap_or((object, ""));
        let mut query: Vec<(&str, &str)> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect();
        query.sort_unstable();
        let mut headers = headers.to_vec();
        headers.sort_unstable();
        let url = match object {
            "" => bucket.base_url().clone(),
            object => bucket.object_url(object),
        };
        let now = std::time::SystemTime::now().try_into().expect("the clock is in range");
        let (key, secret) = (Self::KEY, Self::SECRET);
        let (query, signed) = (query.iter().copied(), headers.iter().copied());
        let url =
            rusty_s3::signing::sign(&now, method, url, key, secret, None, "us-east-1", 900, query, signed);
        let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let mut request = Request::new(method.to_str(), &target).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        send(self.address(), &request)
    }
}

impl Drop for SeaweedServer {
    /// It puts sockets of its own parts into `/tmp`, wherever its data is.
    fn drop(&mut self) {
        self.process.kill_9();
        for (part, port) in
            ["s3", "master", "volume", "filer"].iter().zip(self.ports.iter().skip(1).step_by(2))
        {
            let _ = std::fs::remove_file(format!("/tmp/seaweedfs-{part}-grpc-{port}.sock")); // some are never made
        }
    }
}

fn find() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from(VENV)).chain(std::env::split_paths(&path));
    let mut places = folders.map(|folder| folder.join("weed"));
    places.find(|path| path.is_file()).ok_or_else(|| "neither in .venv/bin nor in PATH".to_owned())
}

/// It binds no port 0 and prints no address. Between these are free and its start another may take one: then it does not come up, and the
/// test says so.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect()
}

#[track_caller]
fn run(program: &PathBuf, scratch: &Scratch, ports: &[u16], more: &[String], number: u32) -> Process {
    let names = [
        "s3.port",
        "s3.port.grpc",
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port.https",
    ];
    let mut command = Command::new(program);
    command.args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", "-volume.max=40"]);
    command.args(["-master.volumeSizeLimitMB=64", "-master.telemetry=false"]);
    command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
    command.arg(format!("-filer.localSocket={}", scratch.join("filer.sock").display()));
    command.arg(format!("-s3.localSocket={}", scratch.join("s3.sock").display()));
    command.arg(format!("-dir={}", scratch.path().display()));
    command.arg(format!("-s3.config={}", scratch.join("s3.json").display()));
    let names = names.iter().take(if more.is_empty() { 8 } else { 9 });
    command.args(names.zip(ports).map(|(name, port)| format!("-{name}={port}")));
    command.args(more);
    Process::start(&format!("weed-{number}"), command, scratch)
}
