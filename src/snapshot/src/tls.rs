//! Who may vouch for a server's certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The authorities that connections over TLS trust. The server's name is verified too.
#[derive(Clone, Debug)]
pub struct Tls(pub(crate) Arc<ClientConfig>);

/// Why a file of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("`{}` cannot be read as certificates in PEM form", .0.display())]
    Unreadable(PathBuf, #[source] rustls_pki_types::pem::Error),
    #[error("a certificate of `{}` cannot be used", .0.display())]
    Unusable(PathBuf, #[source] rustls::Error),
    #[error("there is no certificate in `{}`", .0.display())]
    Empty(PathBuf),
}

impl Tls {
    /// Trusts the certificates in a PEM file, or the web's roots.
    ///
    /// # Errors
    /// What [`TlsError`] says.
    pub fn trusting(ca: Option<&Path>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        match ca {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let unreadable = |error| TlsError::Unreadable(path.to_owned(), error);
                for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                    let certificate = certificate.map_err(unreadable)?;
                    roots.add(certificate).map_err(|error| TlsError::Unusable(path.to_owned(), error))?;
                }
                if roots.is_empty() {
                    return Err(TlsError::Empty(path.to_owned()));
                }
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the cipher suites of both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }
}
