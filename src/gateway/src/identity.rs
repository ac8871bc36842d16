//! Who calls, by what a request brings: an API key of the gateway's own, or a bearer token of an issuer that the configuration names;
//! else by the certificate of its connection. What proves nothing here says nothing: a credential of somebody else's is the
//! upstream's, and no header that a client writes about itself is read.
//!
//! Files are looked at every [`LOOK`], so what is revoked is refused within a second; what they say now is kept when they cannot be
//! read, and each change of what they say is an entry of the journal.

pub mod api_keys;
mod claims;
mod follow;
mod followed;
mod issuer;
mod issuer_keys;
mod key_set;
mod presented;
mod revocations;
mod token;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use estoppel_evidence::entry::{Identity, IdentityDetails, IdentityKind};
use estoppel_evidence::{Reason, Sha256};
use http::{HeaderMap, HeaderName};

use self::api_keys::{ApiKey, ApiKeys};
pub(crate) use self::follow::follow;
use self::followed::Followed;
use self::issuer::Issuer;
pub(crate) use self::presented::Presented;
use self::revocations::{Revocable, Revocations};
use crate::settings::{self, CertificateTenant};

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// A caller that has proven who it is.
#[derive(Debug, Default)]
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    pub(crate) tenant: Option<Arc<str>>,
    pub(crate) scopes: Vec<Box<str>>,
    pub(crate) details: Option<Box<IdentityDetails>>,
    /// Where its credential was, if it brought one.
    pub(crate) header: Option<HeaderName>,
}

/// Why somebody is not let in.
#[derive(Debug)]
pub(crate) struct Unproven {
    pub(crate) reason: Reason,
    /// Who it is, where that is proven all the same.
    pub(crate) caller: Option<Box<Caller>>,
}

impl From<Reason> for Unproven {
    fn from(reason: Reason) -> Self {
        Self { reason, caller: None }
    }
}

/// All that callers can prove who they are by.
#[derive(Default)]
pub(crate) struct Callers {
    settings: settings::Identity,
    keys: Option<Kept<ApiKeys>>,
    revoked: Option<Kept<Revocations>>,
    issuers: Vec<Arc<Issuer>>,
}

/// A file of what is taken, or not.
struct Kept<T> {
    file: Followed,
    now: ArcSwap<Said<T>>,
    /// Digest of the bytes that were read last, whether or not they could be used.
    seen: Mutex<Option<Sha256>>,
    parse: fn(&[u8]) -> Result<T, String>,
}

/// What a file says, and the digest of its bytes.
#[derive(Default)]
struct Said<T> {
    what: T,
    digest: Option<Sha256>,
}

impl<T: Default> Kept<T> {
    fn open(path: &Path, parse: fn(&[u8]) -> Result<T, String>) -> Result<Self, String> {
        let kept = Self { file: Followed::new(path), now: ArcSwap::default(), seen: Mutex::default(), parse };
        kept.look_again().transpose()?;
        Ok(kept)
    }

    /// Reads it if it says something else than before; gives what it said then.
    fn look_again(&self) -> Option<Result<Arc<Said<T>>, String>> {
        let problem = |problem: String| format!("`{}`: {problem}", self.file.path().display());
        let bytes = match self.file.again()? {
            Ok(bytes) => bytes,
            Err(error) => return Some(Err(problem(error.to_string()))),
        };
        let digest = Some(Sha256::of(&bytes));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == digest {
            return None;
        }
        *seen = digest;
        let what = (self.parse)(&bytes).map_err(problem);
        Some(what.map(|what| self.now.swap(Arc::new(Said { what, digest }))))
    }
}

fn parse_keys(bytes: &[u8]) -> Result<ApiKeys, String> {
    api_keys::read(bytes).map(ApiKeys::new).map_err(|error| error.to_string())
}

impl Callers {
    /// What `settings` says. Where it says the same, `before` is kept, with the keys that were fetched.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn build(
        settings: &settings::Identity,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, String> {
        let keyed = |key: &'static str| move |problem: String| format!("identity.{key}: {problem}");
        if let Some(before) = before.filter(|before| before.settings == *settings) {
            return Ok(before.clone());
        }
        let keys = settings.api_keys.as_ref().map(|said| Kept::open(&said.file, parse_keys));
        let revoked = settings.revoked.as_ref().map(|said| Kept::open(&said.file, Revocations::read));
        let known = |jwt| before?.issuers.iter().find(|issuer| issuer.may_stay(jwt)).cloned();
        let issuer = |jwt| known(jwt).map_or_else(|| Issuer::new(jwt).map(Arc::new), Ok);
        let issuers = settings.jwt.iter().map(issuer).collect::<Result<_, _>>()?;
        Ok(Arc::new(Self {
            settings: settings.clone(),
            keys: keys.transpose().map_err(keyed("api_keys"))?,
            revoked: revoked.transpose().map_err(keyed("revoked"))?,
            issuers,
        }))
    }

    fn takes_keys(&self) -> bool {
        self.keys.is_some()
    }

    fn takes_tokens(&self) -> bool {
        !self.issuers.is_empty()
    }

    /// Whether headers are looked into at all.
    pub(crate) fn takes_credentials(&self) -> bool {
        self.takes_keys() || self.takes_tokens()
    }

    fn issuer(&self, iss: &str) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|issuer| issuer.iss() == iss)
    }

    /// The credential of a request that is meant for the gateway.
    pub(crate) fn presented(&self, headers: &HeaderMap) -> Presented {
        if !self.takes_credentials() {
            return Presented::Nothing { foreign: false };
        }
        Presented::find(headers, self)
    }

    /// Whoever the certificate of the connection says, if anybody.
    ///
    /// # Errors
    /// It has been revoked.
    pub(crate) fn by_certificate(&self, certificate: &Identity) -> Result<Caller, Unproven> {
        let tenants = &self.settings.certificates.tenants;
        let subject = certificate.subject.as_deref();
        let found = tenants.iter().find(|tenant| subject.is_some_and(|subject| is_of(tenant, subject)));
        let tenant = found.map(|found| found.tenant.as_str().into());
        self.unless_revoked(Caller { identity: certificate.clone(), tenant, ..Caller::default() }, None)
    }

    /// Whoever brings `presented` over a connection with this certificate.
    ///
    /// # Errors
    /// Why it is not taken. A credential that is no good is never passed over for another proof.
    pub(crate) async fn prove(
        &self,
        presented: &Presented,
        certificate: &Identity,
        now_us: u64,
    ) -> Result<Caller, Unproven> {
        let (header, mut caller, jti) = match presented {
            Presented::Nothing { .. } => return self.by_certificate(certificate),
            Presented::Several => return Err(Reason::HeaderInvalid.into()),
            Presented::Unknown => {
                let reason = if self.takes_keys() { Reason::ApiKeyInvalid } else { Reason::TokenInvalid };
                return Err(reason.into());
            }
            Presented::Key(header, key) => {
                let keys = self.keys.as_ref().ok_or(Reason::ApiKeyInvalid)?;
                let keys = keys.now.load();
                let key = keys.what.find(key)?;
                if let Some(reason) = key.is_over(now_us) {
                    return Err(Unproven { reason, caller: Some(Box::new(of_key(key))) });
                }
                (header, of_key(key), None)
            }
            Presented::Token(header, bearer) => {
                let text = bearer.text();
                let token::Form::Of(Some(iss)) = token::form(text) else {
                    return Err(Reason::TokenInvalid.into());
                };
                let issuer = self.issuer(&iss).ok_or(Reason::TokenInvalid)?;
                let proven = issuer.check(text, now_us).await?;
                if proven.bound_to.is_some() && proven.bound_to.as_deref() != certificate.kid.as_deref() {
                    return Err(Reason::TokenInvalid.into());
                }
                (header, proven.caller, proven.jti)
            }
        };
        caller.header = Some(header.clone());
        if certificate.kind == IdentityKind::Mtls {
            self.by_certificate(certificate)?;
            caller.details.get_or_insert_default().certificate = certificate.subject.clone();
        }
        self.unless_revoked(caller, jti.as_deref())
    }

    fn unless_revoked(&self, caller: Caller, jti: Option<&str>) -> Result<Caller, Unproven> {
        let Some(revoked) = &self.revoked else { return Ok(caller) };
        let revoked = &revoked.now.load().what;
        let Identity { kid, subject, .. } = &caller.identity;
        let actors = caller.details.iter().flat_map(|details| &details.actors).map(|actor| &**actor);
        let is_revoked =
            subject.as_deref().into_iter().chain(actors).any(|name| revoked.holds(Revocable::Subject, name))
                || kid.as_deref().is_some_and(|kid| revoked.holds(Revocable::Kid, kid))
                || jti.is_some_and(|jti| revoked.holds(Revocable::Jti, jti));
        if is_revoked {
            return Err(Unproven { reason: Reason::IdentityRevoked, caller: Some(Box::new(caller)) });
        }
        Ok(caller)
    }
}

fn of_key(key: &ApiKey) -> Caller {
    let subject = Some(key.subject.clone());
    Caller {
        identity: Identity { kid: Some(key.id.as_str().into()), kind: IdentityKind::ApiKey, subject },
        tenant: key.tenant.clone(),
        scopes: key.scopes.clone(),
        details: None,
        header: None,
    }
}

/// Whether a certificate's subject is the tenant's name, or below it.
fn is_of(tenant: &CertificateTenant, subject: &str) -> bool {
    let (name, subject) = (tenant.name.as_bytes(), subject.as_bytes());
    let Some(at) = subject.len().checked_sub(name.len()) else { return false };
    subject[at..].eq_ignore_ascii_case(name) && (at == 0 || subject[at - 1] == b'.')
}

#[cfg(test)]
mod tests;
