//! What a client is told of a route that needs a token: where tokens are given (RFC 9728), and in each 401 where that is said
//! (RFC 6750, RFC 9728 section 5.1). The gateway tells what its configuration says; it checks no token.

use bytes::Bytes;
use http::{HeaderValue, Method};
use serde_json::json;

use crate::settings::{self, origin};

/// Where such metadata is (RFC 9728 section 3.1); the resource's own path follows.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The metadata of one route.
#[derive(Clone)]
pub(crate) struct ProtectedResource {
    path: Box<str>,
    document: Bytes,
    challenge: HeaderValue,
    challenge_invalid: HeaderValue,
}

impl ProtectedResource {
    /// # Errors
    /// The resource is not a URL, or its parts fit into no header.
    pub(crate) fn new(settings: &settings::ProtectedResource) -> Result<Self, String> {
        let resource = origin(&settings.resource)?;
        let path = format!("{WELL_KNOWN}{}", resource.base);
        let scheme = if resource.tls { "https" } else { "http" };
        let mut document = json!({
            "resource": settings.resource,
            "authorization_servers": settings.authorization_servers,
            "bearer_methods_supported": ["header"],
        });
        let mut said = format!("resource_metadata=\"{scheme}://{}{path}\"", resource.authority);
        if !settings.scopes_supported.is_empty() {
            document["scopes_supported"] = json!(settings.scopes_supported);
            said.push_str(&format!(", scope=\"{}\"", settings.scopes_supported.join(" ")));
        }
        let value = |text: String| HeaderValue::try_from(text).map_err(|error| error.to_string());
        Ok(Self {
            path: path.into(),
            document: document.to_string().into(),
            challenge: value(format!("Bearer {said}"))?,
            challenge_invalid: value(format!("Bearer error=\"invalid_token\", {said}"))?,
        })
    }

    /// Whether a request asks for the metadata.
    pub(crate) fn is_asked(&self, method: &Method, path: &str) -> bool {
        matches!(*method, Method::GET | Method::HEAD) && *self.path == *path
    }

    pub(crate) fn document(&self) -> Bytes {
        self.document.clone()
    }

    /// What a 401 says; `brought` if there was a token that is no good.
    pub(crate) fn challenge(&self, brought: bool) -> HeaderValue {
        if brought { self.challenge_invalid.clone() } else { self.challenge.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(resource: &str, scopes: &[&str]) -> ProtectedResource {
        let settings = settings::ProtectedResource {
            resource: resource.into(),
            authorization_servers: vec!["https://login.example".into()],
            scopes_supported: scopes.iter().map(ToString::to_string).collect(),
        };
        ProtectedResource::new(&settings).unwrap()
    }

    #[test]
    fn the_path_of_the_resource_follows_the_well_known_one() {
        let tools = of("https://gw.example/tools/mcp", &["read", "write"]);
        assert!(tools.is_asked(&Method::GET, "/.well-known/oauth-protected-resource/tools/mcp"));
        assert!(!tools.is_asked(&Method::POST, "/.well-known/oauth-protected-resource/tools/mcp"));
        assert!(!tools.is_asked(&Method::GET, "/.well-known/oauth-protected-resource"));
        assert_eq!(
            tools.challenge(false),
            "Bearer resource_metadata=\"https://gw.example/.well-known/oauth-protected-resource/tools/mcp\", scope=\"read write\""
        );
        assert!(of("http://127.0.0.1:8080", &[]).is_asked(&Method::GET, WELL_KNOWN));
    }

    #[test]
    fn the_document_names_the_resource_and_who_gives_tokens() {
        let document: serde_json::Value =
            serde_json::from_slice(&of("https://a.example/", &[]).document()).unwrap();
        assert_eq!(document["resource"], "https://a.example/");
        assert_eq!(document["authorization_servers"], json!(["https://login.example"]));
        assert!(document.get("scopes_supported").is_none());
    }
}
