//! Which of a request's headers has a credential that is meant for the gateway. Others are the upstream's, and are left alone.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::token::{self, Form};
use super::{Callers, api_keys};

/// Header of the gateway's own: whatever is in it is meant for the gateway, and it never goes on.
const OWN: HeaderName = HeaderName::from_static("estoppel-key");
/// Headers in which the clients of one vendor or another send their keys.
const KEYS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// A credential that a request brings.
#[derive(Debug)]
pub(crate) enum Presented {
    /// None that is meant for the gateway.
    Nothing {
        /// There is a bearer token of somebody else's.
        foreign: bool,
    },
    Key(HeaderName, api_keys::PresentedKey),
    Token(HeaderName, Bearer),
    /// Something in the gateway's own header that is neither.
    Unknown,
    /// More than one: who calls is not clear.
    Several,
}

/// A token in the header that it came in.
pub(crate) struct Bearer(HeaderValue);

impl Bearer {
    pub(super) fn text(&self) -> &str {
        let text = self.0.to_str().unwrap_or_default();
        bearer(text).unwrap_or(text)
    }
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(***)")
    }
}

impl Presented {
    pub(super) fn find(headers: &HeaderMap, callers: &Callers) -> Self {
        let mut found = Self::Nothing { foreign: false };
        for name in [&AUTHORIZATION, &OWN].into_iter().chain(&KEYS) {
            for value in headers.get_all(name) {
                found = match (found, Self::read(name, value, callers)) {
                    (Self::Nothing { foreign }, Self::Nothing { foreign: also }) => {
                        Self::Nothing { foreign: foreign || also }
                    }
                    (Self::Nothing { .. }, one) | (one, Self::Nothing { .. }) => one,
                    _ => return Self::Several,
                };
            }
        }
        found
    }

    fn read(name: &HeaderName, value: &HeaderValue, callers: &Callers) -> Self {
        let text = value.to_str().unwrap_or_default();
        let credential = match bearer(text) {
            Some(credential) if *name == AUTHORIZATION || *name == OWN => credential,
            None if *name == AUTHORIZATION => return Self::Nothing { foreign: false },
            _ => text.trim(),
        };
        if callers.takes_keys()
            && let Some(key) = api_keys::PresentedKey::read(credential)
        {
            return Self::Key(name.clone(), key);
        }
        let may_be_token = *name == AUTHORIZATION || *name == OWN;
        if may_be_token && callers.takes_tokens() {
            let ours = match token::form(credential) {
                Form::Opaque => false,
                // No reader could know whose it is.
                Form::Of(None) => true,
                Form::Of(Some(iss)) => callers.issuer(&iss).is_some(),
            };
            if ours {
                return Self::Token(name.clone(), Bearer(value.clone()));
            }
        }
        if *name == OWN { Self::Unknown } else { Self::Nothing { foreign: *name == AUTHORIZATION } }
    }
}

/// What follows the scheme of a bearer token (RFC 6750 section 2.1).
fn bearer(text: &str) -> Option<&str> {
    let (scheme, token) = text.trim().split_once([' ', '\t'])?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
