//! TLS on both sides: what listeners present and accept, what upstreams must present.
//!
//! Provider: aws-lc-rs. Versions: 1.2 and 1.3. Files are read here and nowhere else, at start and on reload.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::settings::{Http2, ListenerTls, Upstream};

/// Why TLS material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {what} from `{path}`: {source}", path = path.display())]
    Pem { what: &'static str, path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("there is no certificate in `{path}`", path = path.display())]
    Empty { path: PathBuf },
    #[error("the certificate and key in `{path}` cannot be used: {source}", path = path.display())]
    Unusable { path: PathBuf, source: rustls::Error },
    #[error("the client authorities in `{path}` cannot be used: {problem}", path = path.display())]
    ClientAuthorities { path: PathBuf, problem: String },
}

/// What all TLS here is made with.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |source| TlsError::Pem { what: "certificates", path: path.into(), source };
    let list =
        CertificateDer::pem_file_iter(path).map_err(pem)?.collect::<Result<Vec<_>, _>>().map_err(pem)?;
    if list.is_empty() { Err(TlsError::Empty { path: path.into() }) } else { Ok(list) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::Pem {
        what: "a private key",
        path: path.into(),
        source,
    })
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|source| TlsError::Unusable { path: path.into(), source })?;
    }
    Ok(store)
}

/// What a listener presents and accepts.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn listener(tls: &ListenerTls, http2: bool) -> Result<Arc<ServerConfig>, TlsError> {
    let unusable = |source| TlsError::Unusable { path: tls.cert.clone(), source };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider());
            if tls.client_required == Some(false) {
                verifier = verifier.allow_unauthenticated();
            }
            let problem = |e: rustls::server::VerifierBuilderError| TlsError::ClientAuthorities {
                path: path.clone(),
                problem: e.to_string(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(problem)?)
        }
    };
    let mut config =
        builder.with_single_cert(certificates(&tls.cert)?, private_key(&tls.key)?).map_err(unusable)?;
    config.alpn_protocols =
        if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(Arc::new(config))
}

/// What an upstream must present, and what it is shown.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn upstream(upstream: &Upstream) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match &upstream.ca {
        Some(path) => roots(path)?,
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    };
    let path = || upstream.client.as_ref().map(|c| c.cert.clone()).unwrap_or_default();
    let unusable = |source| TlsError::Unusable { path: path(), source };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots);
    let mut config = match &upstream.client {
        None => builder.with_no_client_auth(),
        Some(client) => builder
            .with_client_auth_cert(certificates(&client.cert)?, private_key(&client.key)?)
            .map_err(unusable)?,
    };
    config.alpn_protocols = match upstream.http2 {
        Http2::Never => vec![b"http/1.1".to_vec()],
        Http2::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Http2::Always => vec![b"h2".to_vec()],
    };
    Ok(Arc::new(config))
}
