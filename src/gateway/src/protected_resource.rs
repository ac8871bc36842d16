//! What a client is told of a route that needs a token: where tokens are given (RFC 9728), and in each 401 where that is said
//! (RFC 6750, RFC 9728 section 5.1). Which tokens the gateway itself takes is said in `identity.rs`.

use bytes::Bytes;
use estoppel_evidence::Reason;
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
    /// What a challenge says of it.
    said: Box<str>,
    scopes: Vec<String>,
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
        let said = format!("resource_metadata=\"{scheme}://{}{path}\"", resource.authority);
        if !settings.scopes_supported.is_empty() {
            document["scopes_supported"] = json!(settings.scopes_supported);
        }
        let scopes = settings.scopes_supported.clone();
        let resource =
            Self { path: path.into(), document: document.to_string().into(), said: said.into(), scopes };
        written(Vec::new(), Some(&resource), &[]).ok_or("its parts fit into no header")?;
        Ok(resource)
    }

    /// Whether a request asks for the metadata.
    pub(crate) fn is_asked(&self, method: &Method, path: &str) -> bool {
        matches!(*method, Method::GET | Method::HEAD) && *self.path == *path
    }

    pub(crate) fn document(&self) -> Bytes {
        self.document.clone()
    }
}

/// What an answer says that refuses a token, or asks for one (RFC 6750 section 3). `needed` are the scopes of the route; where it
/// names none, those that its metadata names.
pub(crate) fn challenge(
    reason: Reason,
    metadata: Option<&ProtectedResource>,
    needed: &[String],
) -> Option<HeaderValue> {
    let error = match reason {
        Reason::ScopeMissing => Some("insufficient_scope"),
        Reason::TokenInvalid
        | Reason::TokenExpired
        | Reason::TokenAudience
        | Reason::ApiKeyInvalid
        | Reason::IdentityRevoked
        | Reason::CredentialMissing => Some("invalid_token"),
        _ => None,
    };
    let said = match error {
        Some(error) => vec![format!("error=\"{error}\""), format!("error_description=\"{}\"", reason.text())],
        None => Vec::new(),
    };
    written(said, metadata, needed)
}

fn written(
    mut said: Vec<String>,
    metadata: Option<&ProtectedResource>,
    needed: &[String],
) -> Option<HeaderValue> {
    said.extend(metadata.map(|metadata| metadata.said.to_string()));
    let supported = metadata.map_or(&[][..], |metadata| &metadata.scopes);
    let scopes = if needed.is_empty() { supported } else { needed };
    if !scopes.is_empty() {
        said.push(format!("scope=\"{}\"", scopes.join(" ")));
    }
    HeaderValue::try_from(format!("Bearer {}", said.join(", ")).trim_end()).ok()
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
            challenge(Reason::IdentityRequired, Some(&tools), &[]).unwrap(),
            "Bearer resource_metadata=\"https://gw.example/.well-known/oauth-protected-resource/tools/mcp\", scope=\"read write\""
        );
        assert_eq!(
            challenge(Reason::ScopeMissing, None, &["write".into()]).unwrap(),
            "Bearer error=\"insufficient_scope\", error_description=\"the credential does not have a scope that this route needs\", scope=\"write\""
        );
        assert_eq!(challenge(Reason::IdentityRequired, None, &[]).unwrap(), "Bearer");
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
