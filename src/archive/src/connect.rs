//! Connections to the service: TCP, and TLS where the endpoint says so.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::error::ArchiveError;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A host, and how it is spoken to.
pub(crate) struct Host {
    name: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Host {
    /// Of a URL; trusts the certificates in `ca`, or the web's roots.
    pub fn new(url: &Url, ca: Option<&Path>) -> Result<Self, ArchiveError> {
        let wrong = |why: &str| ArchiveError::Endpoint(why.to_owned());
        let name = url.host_str().ok_or_else(|| wrong("it has no host"))?.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().ok_or_else(|| wrong("it has no port"))?;
        let tls = (url.scheme() == "https").then(|| {
            let server = ServerName::try_from(name.clone())
                .map_err(|_| wrong("its host is no name that a certificate could have"))?;
            Ok((connector(ca)?, server))
        });
        Ok(Self { name, port, tls: tls.transpose()? })
    }

    /// Connects; the caller bounds the time.
    pub async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect((self.name.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(tcp),
            Some((connector, server)) => Box::new(connector.connect(server.clone(), tcp).await?),
        })
    }
}

/// Largest file with certificates.
const CA_BYTES_MAX: u64 = 1 << 20;

fn connector(ca: Option<&Path>) -> Result<TlsConnector, ArchiveError> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let wrong = |problem: String| ArchiveError::Endpoint(format!("`{}`: {problem}", path.display()));
            let pem = estoppel_journal::storage::read_plain(path, CA_BYTES_MAX);
            let pem = pem.map_err(|e| wrong(e.to_string()))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
                roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("there is no certificate in it".into()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ArchiveError::Endpoint(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
