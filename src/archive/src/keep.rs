//! Content that is no file, under its digest in the bucket.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use estoppel_evidence::Sha256;
use estoppel_journal::Clock;

use crate::client::Client;
use crate::error::ArchiveError;
use crate::object::Put;
use crate::settings::ArchiveSettings;
use crate::upload::Uploader;

/// Keeps content in a bucket with object lock, one after the other. There is no index: the key is `sha256/` and the digest.
pub struct Keeper<'a>(Uploader<'a>);

impl<'a> Keeper<'a> {
    /// Connects, and sees that what is put there is kept.
    ///
    /// # Errors
    /// The bucket has no object lock or is not there; the connection, the credentials.
    pub async fn open(settings: &'a ArchiveSettings, clock: Arc<dyn Clock>) -> Result<Self, ArchiveError> {
        let mut client = Client::new(settings, clock)?;
        client.demand_lock().await?;
        Ok(Self(Uploader { client, settings, folder: Path::new("") }))
    }

    /// Puts content there, unless it is there already, and reads it back. Small content alone: it is sent at once.
    ///
    /// # Errors
    /// It is not there afterwards, or not kept as the settings say.
    pub async fn keep(&mut self, content: &[u8]) -> Result<(), ArchiveError> {
        let Self(uploader) = self;
        let sha256 = Sha256::of(content);
        let key = format!("{}sha256/{}", uploader.settings.prefix, sha256.hex());
        let asked = uploader.asked();
        let made = match uploader.client.head(&key, None).await? {
            Some(version) => Some(version.id),
            None => match uploader.client.put(&key, Bytes::copy_from_slice(content), &asked).await? {
                Put::Made(version) => Some(version),
                Put::Taken | Put::Gone => uploader.client.head(&key, None).await?.map(|version| version.id),
            },
        };
        let missing = || ArchiveError::Missing { key: key.clone(), version: String::new() };
        let version = made.ok_or_else(missing)?;
        let bytes = content.len() as u64; // a length fits
        uploader.confirm(&key, &version, bytes, sha256, &asked).await.map(drop)
    }
}
