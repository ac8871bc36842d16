//! One issuer of tokens, and what its tokens have to say.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use estoppel_evidence::entry::{Identity, IdentityDetails, IdentityKind};
use estoppel_evidence::{Reason, Sha256};
use serde_json::Value;

use super::Caller;
use super::claims::{Object, says, words};
use super::issuer_keys::IssuerKeys;
use super::token::Token;
use crate::settings::{Jwt, is_noted_whole};

/// Most that may act for a subject, one for another.
const ACTORS_MAX: usize = 4;
/// Most scopes of a token.
const SCOPES_MAX: usize = 256;

pub(super) struct Issuer {
    settings: Jwt,
    pub(super) keys: IssuerKeys,
}

/// What a token proves.
pub(super) struct Proven {
    pub(super) caller: Caller,
    pub(super) jti: Option<String>,
    /// Digest of the certificate that the token is bound to (RFC 8705).
    pub(super) bound_to: Option<String>,
}

impl Issuer {
    /// # Errors
    /// A file that cannot be read, or a URL that cannot be asked.
    pub(super) fn new(settings: &Jwt) -> Result<Self, String> {
        let keys = IssuerKeys::new(settings);
        let keys = keys.map_err(|problem| format!("identity.jwt `{}`: {problem}", settings.name))?;
        Ok(Self { settings: settings.clone(), keys })
    }

    /// Whether it may serve these settings, with the keys that it has. Not where there are files of certificates, which may have
    /// changed.
    pub(super) fn may_stay(&self, settings: &Jwt) -> bool {
        self.settings == *settings && settings.ca.is_none()
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    pub(super) fn iss(&self) -> &str {
        &self.settings.issuer
    }

    /// What a token of this issuer proves.
    ///
    /// # Errors
    /// Why it is not taken. That it has expired, or is for somebody else, is said only of tokens that the issuer signed.
    pub(super) async fn check(&self, text: &str, now_us: u64) -> Result<Proven, Reason> {
        let token = Token::read(text).ok_or(Reason::TokenInvalid)?;
        if !self.settings.algorithms.contains(&token.algorithm) {
            return Err(Reason::TokenInvalid);
        }
        let keys = self.keys.of(&token).await?;
        let mut keys = keys.of(token.kid.as_deref(), token.algorithm);
        let key = keys.find(|key| token.is_signed_by(key)).ok_or(Reason::TokenInvalid)?;
        self.read(&token.claims, key.kid(), now_us)
    }

    /// What the claims of a signed token say.
    fn read(&self, claims: &Object, kid: Option<&str>, now_us: u64) -> Result<Proven, Reason> {
        let settings = &self.settings;
        if claims.get("iss").and_then(Value::as_str) != Some(&settings.issuer) {
            return Err(Reason::TokenInvalid);
        }
        if !settings.audience.iter().any(|name| says(claims.get("aud"), name)) {
            return Err(Reason::TokenAudience);
        }
        in_time(claims, now_us, settings.leeway_s)?;
        if !settings.required_claims.iter().all(|need| says(claims.get(&need.claim), &need.value)) {
            return Err(Reason::TokenInvalid);
        }
        self.proven(claims, kid).ok_or(Reason::TokenInvalid)
    }

    /// None if the token does not say who calls in a way that can be written down.
    fn proven(&self, claims: &Object, kid: Option<&str>) -> Option<Proven> {
        let settings = &self.settings;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let subject = self.subject(text(&settings.subject_claim)?)?;
        let tenant = match (&settings.tenant, &settings.tenant_claim) {
            (Some(tenant), _) => Some(tenant.as_str()),
            (None, Some(claim)) => Some(text(claim).filter(|tenant| is_noted_whole(tenant))?),
            (None, None) => None,
        };
        let scopes = words(claims.get(&settings.scope_claim)).filter(|list| list.len() <= SCOPES_MAX)?;
        let jti = match claims.get("jti") {
            None => None,
            Some(jti) => Some(jti.as_str()?.to_owned()),
        };
        let details = IdentityDetails {
            actors: self.actors(claims.get("act"))?,
            certificate: None,
            issuer: Some(settings.name.as_str().into()),
        };
        let kid = kid.map(|kid| estoppel_evidence::text::name(kid).into());
        Some(Proven {
            bound_to: bound_to(claims.get("cnf"))?,
            caller: Caller {
                identity: Identity { kid, kind: IdentityKind::Token, subject: Some(subject.into()) },
                tenant: tenant.map(Into::into),
                scopes: scopes.into_iter().map(Into::into).collect(),
                details: Some(Box::new(details)),
                header: None,
            },
            jti,
        })
    }

    fn subject(&self, name: &str) -> Option<String> {
        let subject = format!("{}{name}", self.settings.subject_prefix);
        (!name.is_empty() && is_noted_whole(&subject)).then_some(subject)
    }

    /// Who acts for the subject (RFC 8693 section 4.1), the one that calls first.
    fn actors(&self, act: Option<&Value>) -> Option<Vec<Box<str>>> {
        let (mut actors, mut act) = (Vec::new(), act);
        while let Some(actor) = act {
            let actor = actor.as_object().filter(|_| actors.len() < ACTORS_MAX)?;
            actors.push(self.subject(actor.get("sub")?.as_str()?)?.into());
            act = actor.get("act");
        }
        Some(actors)
    }
}

/// RFC 7519 sections 4.1.4 and 4.1.5. A token has to end.
fn in_time(claims: &Object, now_us: u64, leeway_s: u64) -> Result<(), Reason> {
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(time) => time.as_f64().filter(|time| time.is_finite()).map(Some).ok_or(Reason::TokenInvalid),
    };
    let (ends, begins) = (time("exp")?.ok_or(Reason::TokenInvalid)?, time("nbf")?);
    let now = Duration::from_micros(now_us).as_secs_f64();
    let leeway = Duration::from_secs(leeway_s).as_secs_f64();
    if now >= ends + leeway || begins.is_some_and(|begins| now + leeway < begins) {
        return Err(Reason::TokenExpired);
    }
    Ok(())
}

/// The certificate that has to come with the token (RFC 8705 section 3.1). The outer None: it is bound to something that we
/// cannot look for.
fn bound_to(confirmation: Option<&Value>) -> Option<Option<String>> {
    let Some(confirmation) = confirmation else { return Some(None) };
    let members = confirmation.as_object().filter(|members| members.len() == 1)?;
    let digest = URL_SAFE_NO_PAD.decode(members.get("x5t#S256")?.as_str()?);
    let digest: [u8; 32] = digest.ok()?.try_into().ok()?;
    Some(Some(Sha256(digest).to_string()))
}
