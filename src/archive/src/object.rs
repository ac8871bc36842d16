//! What is asked of a bucket with object lock, and what its answers mean.

use bytes::Bytes;
use estoppel_evidence::Sha256;
use estoppel_evidence::envelope::base64;
use estoppel_evidence::time::UnixMicros;
use http::{HeaderMap, Method, StatusCode};
use sha2::Digest as _;

use crate::client::{Answer, Ask, Client, element};
use crate::error::ArchiveError;
use crate::lock::{Lock, Mode, moment};

const XMLNS: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
const NO_VERSION: &str = "null";

/// A version of an object, as its head says.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub id: String,
    pub lock: Option<Lock>,
}

/// A version that was read whole.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub bytes: u64,
    pub sha256: Sha256,
    pub lock: Option<Lock>,
}

/// What became of an upload.
#[derive(Debug)]
pub(crate) enum Put {
    /// The id of the version that was made.
    Made(String),
    /// There is an object already.
    Taken,
    /// The upload is not known any more.
    Gone,
}

/// A part that the service has.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    pub etag: String,
    /// Base64, as S3 writes it.
    pub sha256: String,
}

impl Client {
    /// Whether what is put into the bucket can be kept from being changed.
    ///
    /// # Errors
    /// It cannot, there is no bucket, or nobody knows.
    pub async fn demand_lock(&mut self) -> Result<(), ArchiveError> {
        let mut ask = Ask::new(Method::GET, None);
        ask.query.push(("object-lock", ""));
        let answer = self.ask(ask).await?;
        let missing = ArchiveError::LockMissing { bucket: self.bucket().to_owned() };
        match (answer.status, answer.code()) {
            (StatusCode::OK, _) if element(&answer.text, "ObjectLockEnabled") == Some("Enabled") => Ok(()),
            (StatusCode::OK, _) | (_, "ObjectLockConfigurationNotFoundError") => Err(missing),
            _ => Err(self.failed(&answer)),
        }
    }

    /// The newest version of an object, or the one of that id.
    pub async fn head(&mut self, key: &str, id: Option<&str>) -> Result<Option<Version>, ArchiveError> {
        let mut ask = Ask::new(Method::HEAD, Some(key));
        ask.query.extend(id.map(|id| ("versionId", id)));
        let answer = self.ask(ask).await?;
        match answer.status {
            StatusCode::OK => {
                let id = self.version_of(&answer.headers)?;
                Ok(Some(Version { id, lock: lock_of(&answer.headers) }))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.failed(&answer)),
        }
    }

    /// Reads a version whole; none if it is not there. What is longer than `bytes_max` is cut, and so has another digest.
    pub async fn read(
        &mut self,
        key: &str,
        id: &str,
        bytes_max: u64,
    ) -> Result<Option<Content>, ArchiveError> {
        let mut ask = Ask::new(Method::GET, Some(key));
        ask.query.push(("versionId", id));
        let (status, headers, mut body) = self.open(ask).await?;
        if status != StatusCode::OK {
            let answer = self.whole(status, headers, body).await?;
            return match (status, answer.code()) {
                (_, "NoSuchBucket") => Err(self.failed(&answer)),
                (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, _) => Ok(None),
                _ => Err(self.failed(&answer)),
            };
        }
        let (mut digest, mut bytes) = (sha2::Sha256::new(), 0u64);
        while let Some(chunk) = self.next(&mut body).await? {
            bytes = bytes.saturating_add(chunk.len() as u64); // widening
            digest.update(&chunk);
            if bytes > bytes_max {
                break;
            }
        }
        Ok(Some(Content { bytes, sha256: Sha256(digest.finalize().into()), lock: lock_of(&headers) }))
    }

    /// Puts an object where there is none.
    pub async fn put(&mut self, key: &str, body: Bytes, lock: &Lock) -> Result<Put, ArchiveError> {
        let mut ask = Ask::new(Method::PUT, Some(key));
        ask.headers = lock_headers(lock);
        ask.headers.push(("if-none-match", "*".into()));
        ask.headers.push(("x-amz-checksum-sha256", base64(&Sha256::of(&body).0)));
        ask.body = body;
        let answer = self.ask(ask).await?;
        self.put_as(&answer)
    }

    /// Begins an upload in parts and gives its id.
    pub async fn begin(&mut self, key: &str, lock: &Lock) -> Result<String, ArchiveError> {
        let mut ask = Ask::new(Method::POST, Some(key));
        ask.query.push(("uploads", ""));
        ask.headers = lock_headers(lock);
        ask.headers.push(("x-amz-checksum-algorithm", "SHA256".into()));
        let answer = self.ask(ask).await?;
        match (answer.status, element(&answer.text, "UploadId")) {
            (StatusCode::OK, Some(id)) => Ok(id.to_owned()),
            (StatusCode::OK, None) => Err(unclear(&answer, "no upload id")),
            _ => Err(self.failed(&answer)),
        }
    }

    /// Sends part `number`, from 1; none if the upload is not known any more.
    pub async fn part(
        &mut self,
        key: &str,
        upload: &str,
        number: usize,
        body: Bytes,
    ) -> Result<Option<Part>, ArchiveError> {
        let (number, sha256) = (number.to_string(), base64(&Sha256::of(&body).0));
        let mut ask = Ask::new(Method::PUT, Some(key));
        ask.query = vec![("partNumber", &number), ("uploadId", upload)];
        ask.headers.push(("x-amz-checksum-sha256", sha256.clone()));
        ask.body = body;
        let answer = self.ask(ask).await?;
        match (answer.status, answer.header("etag")) {
            (StatusCode::OK, Some(etag)) => Ok(Some(Part { etag: etag.to_owned(), sha256 })),
            (StatusCode::OK, None) => Err(unclear(&answer, "no etag")),
            _ if answer.code() == "NoSuchUpload" => Ok(None),
            _ => Err(self.failed(&answer)),
        }
    }

    /// Makes one object of the parts.
    pub async fn complete(&mut self, key: &str, upload: &str, parts: &[Part]) -> Result<Put, ArchiveError> {
        let mut xml = format!("<CompleteMultipartUpload xmlns=\"{XMLNS}\">");
        for (number, part) in (1..).zip(parts) {
            let Part { etag, sha256 } = part;
            let etag = etag.replace('&', "&amp;").replace('<', "&lt;");
            xml.push_str(&format!(
                "<Part><ChecksumSHA256>{sha256}</ChecksumSHA256><ETag>{etag}</ETag><PartNumber>{number}</PartNumber></Part>"
            ));
        }
        xml.push_str("</CompleteMultipartUpload>");
        let mut ask = Ask::new(Method::POST, Some(key));
        ask.query.push(("uploadId", upload));
        ask.headers.push(("if-none-match", "*".into()));
        ask.body = xml.into();
        let answer = self.ask(ask).await?;
        self.put_as(&answer)
    }

    /// Lets go of an upload that is not wanted any more.
    pub async fn abort(&mut self, key: &str, upload: &str) -> Result<(), ArchiveError> {
        let mut ask = Ask::new(Method::DELETE, Some(key));
        ask.query.push(("uploadId", upload));
        let answer = self.ask(ask).await?;
        match answer.status.is_success() || answer.code() == "NoSuchUpload" {
            true => Ok(()),
            false => Err(self.failed(&answer)),
        }
    }

    /// Makes the retention of a version as long as `lock` says, and puts its legal hold on.
    pub async fn protect(&mut self, key: &str, id: &str, lock: &Lock) -> Result<(), ArchiveError> {
        let (mode, until) = (lock.mode.as_str(), lock.until_second());
        let retention = format!(
            "<Retention xmlns=\"{XMLNS}\"><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        let hold = format!("<LegalHold xmlns=\"{XMLNS}\"><Status>ON</Status></LegalHold>");
        let asked = [("retention", retention), ("legal-hold", hold)];
        for (what, xml) in asked.into_iter().take(if lock.legal_hold { 2 } else { 1 }) {
            let mut ask = Ask::new(Method::PUT, Some(key));
            ask.query = vec![(what, ""), ("versionId", id)];
            ask.headers.push(("x-amz-checksum-sha256", base64(&Sha256::of(xml.as_bytes()).0)));
            ask.body = xml.into();
            let answer = self.ask(ask).await?;
            if !answer.status.is_success() {
                return Err(self.failed(&answer));
            }
        }
        Ok(())
    }

    fn put_as(&self, answer: &Answer) -> Result<Put, ArchiveError> {
        match (answer.status, answer.code()) {
            (StatusCode::OK, "") => Ok(Put::Made(self.version_of(&answer.headers)?)),
            (StatusCode::PRECONDITION_FAILED, _) | (_, "PreconditionFailed") => Ok(Put::Taken),
            (_, "NoSuchUpload") => Ok(Put::Gone),
            (_, "InvalidRequest") if element(&answer.text, "Message").is_some_and(names_lock) => {
                Err(ArchiveError::LockMissing { bucket: self.bucket().to_owned() })
            }
            _ => Err(self.failed(answer)),
        }
    }

    /// A bucket with object lock has versions.
    fn version_of(&self, headers: &HeaderMap) -> Result<String, ArchiveError> {
        let id = headers.get("x-amz-version-id").and_then(|value| value.to_str().ok());
        let id = id.filter(|id| *id != NO_VERSION && (1..=1_024).contains(&id.len()));
        id.map(str::to_owned).ok_or_else(|| ArchiveError::LockMissing { bucket: self.bucket().to_owned() })
    }

    fn failed(&self, answer: &Answer) -> ArchiveError {
        let (status, bucket) = (answer.status.as_u16(), self.bucket().to_owned());
        let code = match answer.code() {
            "" => answer.status.canonical_reason().unwrap_or_default().to_owned(),
            code => code.chars().filter(|c| c.is_ascii_alphanumeric()).take(64).collect(),
        };
        match (status, code.as_str()) {
            (_, "NoSuchBucket") => ArchiveError::BucketMissing { bucket },
            (401 | 403, _) => ArchiveError::Denied { bucket, code },
            _ => ArchiveError::Answer { status, code },
        }
    }
}

fn names_lock(message: &str) -> bool {
    message.contains("ObjectLock") || message.contains("Object Lock")
}

fn unclear(answer: &Answer, what: &str) -> ArchiveError {
    ArchiveError::Answer { status: answer.status.as_u16(), code: what.to_owned() }
}

fn lock_headers(lock: &Lock) -> Vec<(&'static str, String)> {
    let hold = if lock.legal_hold { "ON" } else { "OFF" };
    vec![
        ("x-amz-object-lock-mode", lock.mode.as_str().to_owned()),
        ("x-amz-object-lock-retain-until-date", lock.until_second()),
        ("x-amz-object-lock-legal-hold", hold.to_owned()),
    ]
}

fn lock_of(headers: &HeaderMap) -> Option<Lock> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let legal_hold = text("x-amz-object-lock-legal-hold") == Some("ON");
    let mode = text("x-amz-object-lock-mode").and_then(Mode::parse);
    let until: Option<UnixMicros> = text("x-amz-object-lock-retain-until-date").and_then(moment);
    Some(Lock { mode: mode?, until: until?, legal_hold })
}
