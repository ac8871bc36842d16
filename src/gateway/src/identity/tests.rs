use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

const NOW_S: u64 = 1_795_233_600;
const NOW_US: u64 = NOW_S * 1_000_000;

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn signed(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = key().sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

fn claims(more: Value) -> Value {
    let mut claims = json!({ "iss": "https://login", "aud": ["gw", "x"], "sub": "anna", "exp": NOW_S + 60 });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn token(more: Value) -> String {
    signed(&json!({ "alg": "EdDSA", "kid": "one" }), &claims(more))
}

struct World {
    _folder: tempfile::TempDir,
    callers: Arc<Callers>,
}

/// With one issuer, one API key and a list of those who are revoked.
fn world(issuer: Value) -> World {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let x = URL_SAFE_NO_PAD.encode(key().public_key());
    let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "one", "x": x }] });
    let mut jwt = json!({
        "name": "corp", "issuer": "https://login", "audience": ["gw"], "jwks_file": write("jwks", &jwks.to_string()),
    });
    for (name, value) in issuer.as_object().unwrap() {
        jwt[name] = value.clone();
    }
    let settings: settings::Identity = serde_json::from_value(json!({
        "jwt": [jwt],
        "api_keys": { "file": write("keys", &serde_json::to_string(&api_key().1).unwrap()) },
        "revoked": { "file": write("revoked", "subject mallory\nsubject gone.test\njti stolen\nkid sha256:bad\n") },
        "certificates": { "tenants": [{ "name": "acme.test", "tenant": "acme" }] },
    }))
    .unwrap();
    World { callers: Callers::build(&settings, None).unwrap(), _folder: folder }
}

fn api_key() -> (String, ApiKey) {
    let (text, key) = ApiKey::new([9; 40], "nightly", Some("acme"));
    (text, ApiKey { scopes: vec!["read".into()], ..key })
}

fn certificate(subject: &str, kid: &str) -> Identity {
    Identity { kid: Some(kid.into()), kind: IdentityKind::Mtls, subject: Some(subject.into()) }
}

async fn prove(world: &World, headers: &[(&'static str, &str)], peer: &Identity) -> Result<Caller, Reason> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let presented = world.callers.presented(&map);
    world.callers.prove(&presented, peer, NOW_US).await.map_err(|unproven| unproven.reason)
}

async fn bearer(world: &World, token: &str) -> Result<Caller, Reason> {
    prove(world, &[("authorization", &format!("Bearer {token}"))], &Identity::default()).await
}

#[tokio::test]
async fn a_token_says_who_calls_and_for_whom() {
    let world = world(json!({ "subject_prefix": "corp:", "tenant_claim": "org" }));
    let caller = bearer(
        &world,
        &token(json!({
            "org": "acme", "scope": "read write", "act": { "sub": "agent", "act": { "sub": "planner" } }, "jti": "1",
        })),
    )
    .await
    .unwrap();
    assert_eq!(caller.identity.kind, IdentityKind::Token);
    assert_eq!(caller.identity.subject.as_deref(), Some("corp:anna"));
    assert_eq!(caller.identity.kid.as_deref(), Some("one"));
    assert_eq!(caller.tenant.as_deref(), Some("acme"));
    assert_eq!(caller.scopes.join(" "), "read write");
    let details = caller.details.unwrap();
    assert_eq!(details.actors.join(" "), "corp:agent corp:planner");
    assert_eq!(details.issuer.as_deref(), Some("corp"));
    assert_eq!(bearer(&world, &token(json!({}))).await.unwrap_err(), Reason::TokenInvalid, "no tenant");
}

#[tokio::test]
async fn each_thing_that_is_wrong_with_a_token_refuses_it() {
    let world = world(json!({ "required_claims": [{ "claim": "azp", "value": "app" }] }));
    let good = json!({ "azp": "app" });
    assert!(bearer(&world, &token(good.clone())).await.is_ok());
    let with = |more: Value| {
        let mut all = good.clone();
        more.as_object().unwrap().iter().for_each(|(name, value)| all[name] = value.clone());
        token(all)
    };
    for (more, reason) in [
        (json!({ "aud": "other" }), Reason::TokenAudience),
        (json!({ "aud": [] }), Reason::TokenAudience),
        (json!({ "aud": null }), Reason::TokenAudience),
        (json!({ "exp": NOW_S - 30 }), Reason::TokenExpired),
        (json!({ "exp": 0 }), Reason::TokenExpired),
        (json!({ "exp": null }), Reason::TokenInvalid),
        (json!({ "exp": "9999999999" }), Reason::TokenInvalid),
        (json!({ "nbf": NOW_S + 31 }), Reason::TokenExpired),
        (json!({ "nbf": "soon" }), Reason::TokenInvalid),
        (json!({ "azp": "other" }), Reason::TokenInvalid),
        (json!({ "azp": null }), Reason::TokenInvalid),
        (json!({ "sub": "" }), Reason::TokenInvalid),
        (json!({ "sub": 7 }), Reason::TokenInvalid),
        (json!({ "sub": null }), Reason::TokenInvalid),
        (json!({ "sub": "a\nb" }), Reason::TokenInvalid),
        (json!({ "sub": "x".repeat(129) }), Reason::TokenInvalid),
        (json!({ "scope": 7 }), Reason::TokenInvalid),
        (json!({ "jti": 7 }), Reason::TokenInvalid),
        (json!({ "act": "agent" }), Reason::TokenInvalid),
        (json!({ "act": { "sub": 7 } }), Reason::TokenInvalid),
        (json!({ "cnf": { "jkt": "abc" } }), Reason::TokenInvalid),
        (json!({ "cnf": {} }), Reason::TokenInvalid),
        (json!({ "jti": "stolen" }), Reason::IdentityRevoked),
        (json!({ "sub": "mallory" }), Reason::IdentityRevoked),
        (json!({ "act": { "sub": "agent", "act": { "sub": "mallory" } } }), Reason::IdentityRevoked),
    ] {
        assert_eq!(bearer(&world, &with(more.clone())).await.unwrap_err(), reason, "{more}");
    }
    for more in
        [json!({ "exp": NOW_S - 29 }), json!({ "nbf": NOW_S + 30 }), json!({ "exp": NOW_S as f64 + 0.5 })]
    {
        assert!(bearer(&world, &with(more.clone())).await.is_ok(), "{more}: within the leeway");
    }
}

#[tokio::test]
async fn a_token_is_bound_to_the_certificate_that_it_names() {
    let world = world(json!({}));
    let digest = Sha256::of(b"certificate");
    let bound = token(json!({ "cnf": { "x5t#S256": URL_SAFE_NO_PAD.encode(digest.0) } }));
    let authorization = format!("Bearer {bound}");
    let headers = [("authorization", authorization.as_str())];
    let own = certificate("edge.acme.test", &digest.to_string());
    let caller = prove(&world, &headers, &own).await.unwrap();
    assert_eq!(caller.identity.subject.as_deref(), Some("anna"), "the token says who calls");
    assert_eq!(caller.details.unwrap().certificate.as_deref(), Some("edge.acme.test"));
    assert_eq!(caller.tenant, None, "nor does the certificate say for whom");
    for peer in [Identity::default(), certificate("edge.acme.test", "sha256:00")] {
        assert_eq!(prove(&world, &headers, &peer).await.unwrap_err(), Reason::TokenInvalid);
    }
    let revoked = certificate("gone.test", &digest.to_string());
    assert_eq!(prove(&world, &headers, &revoked).await.unwrap_err(), Reason::IdentityRevoked);
}

#[tokio::test]
async fn credentials_are_told_from_those_of_others() {
    let world = world(json!({}));
    let (key, _) = api_key();
    let nobody = Identity::default();
    let as_key = ["x-api-key", "api-key", "x-goog-api-key", "estoppel-key"];
    for name in as_key {
        let caller = prove(&world, &[(name, &key)], &nobody).await.unwrap();
        assert_eq!(caller.identity.subject.as_deref(), Some("nightly"), "{name}");
        assert_eq!(caller.header.unwrap(), name);
        assert_eq!(caller.tenant.as_deref(), Some("acme"));
    }
    assert!(bearer(&world, &key).await.is_ok());
    for spelled in [format!("bEARER   {key} "), format!("Bearer\t{key}")] {
        assert_eq!(
            prove(&world, &[("authorization", &spelled)], &nobody).await.unwrap().identity.kind,
            IdentityKind::ApiKey
        );
    }
    let own = token(json!({}));
    assert!(prove(&world, &[("estoppel-key", &own)], &nobody).await.is_ok());
    let (basic, other) =
        (format!("Basic {key}"), format!("Bearer {}", token(json!({ "iss": "https://other" }))));
    for theirs in [
        &[("authorization", "Bearer sk-123")][..],
        &[("authorization", &basic)],
        &[("authorization", &other)],
        &[("x-api-key", &own)],
        &[("x-api-key", "sk-ant-1")],
        &[("x-forwarded-user", "admin"), ("estoppel-agent", "admin")],
        &[],
    ] {
        let caller = prove(&world, theirs, &nobody).await.unwrap();
        assert_eq!((caller.identity.kind, caller.header), (IdentityKind::None, None), "{theirs:?}");
    }
    for unknown in ["anything", &format!("Bearer {other}")] {
        let refused = prove(&world, &[("estoppel-key", unknown)], &nobody).await.unwrap_err();
        assert_eq!(refused, Reason::ApiKeyInvalid, "what is said to us has to be right");
    }
    for several in
        [[("x-api-key", key.as_str()), ("estoppel-key", &key)], [("api-key", &key), ("estoppel-key", "what")]]
    {
        assert_eq!(prove(&world, &several, &nobody).await.unwrap_err(), Reason::HeaderInvalid);
    }
}

#[tokio::test]
async fn a_bad_credential_is_not_passed_over_for_a_good_certificate() {
    let world = world(json!({}));
    let peer = certificate("svc.acme.test", "sha256:00");
    let caller = prove(&world, &[], &peer).await.unwrap();
    assert_eq!((caller.identity.kind, caller.tenant.as_deref()), (IdentityKind::Mtls, Some("acme")));
    let forged = token(json!({})).replacen('.', "x.", 1);
    let forged = format!("Bearer {}x", &forged[..forged.len() - 1]);
    let real = token(json!({}));
    let (message, _) = real.rsplit_once('.').unwrap();
    let unsigned = format!("Bearer {message}.");
    for headers in [[("authorization", unsigned.as_str())], [("x-api-key", "esk_0909090909090909_x")]] {
        assert!(prove(&world, &headers, &peer).await.is_err(), "{headers:?}");
    }
    // What cannot be read as a token of ours is the upstream's, and proves nothing.
    let caller = prove(&world, &[("authorization", &forged)], &Identity::default()).await.unwrap();
    assert_eq!(caller.identity.kind, IdentityKind::None);
    for gone in [certificate("gone.test", "sha256:00"), certificate("x.test", "sha256:bad")] {
        assert_eq!(prove(&world, &[], &gone).await.unwrap_err(), Reason::IdentityRevoked);
    }
}

#[test]
fn a_certificate_is_of_the_tenant_above_it() {
    let tenant = CertificateTenant { name: "acme.test".into(), tenant: "acme".into() };
    assert!(is_of(&tenant, "acme.test") && is_of(&tenant, "a.b.Acme.Test"));
    assert!(!is_of(&tenant, "notacme.test") && !is_of(&tenant, "test") && !is_of(&tenant, "acme.test.evil"));
}

#[test]
fn a_reload_keeps_the_keys_of_issuers_that_are_as_before() {
    let World { callers, _folder } = world(json!({}));
    assert!(Arc::ptr_eq(&Callers::build(&callers.settings, Some(&callers)).unwrap(), &callers));
    let mut settings = callers.settings.clone();
    settings.revoked = None;
    let without_list = Callers::build(&settings, Some(&callers)).unwrap();
    assert!(Arc::ptr_eq(&without_list.issuers[0], &callers.issuers[0]));
    settings.jwt[0].leeway_s = 1;
    let other = Callers::build(&settings, Some(&callers)).unwrap();
    assert!(!Arc::ptr_eq(&other.issuers[0], &callers.issuers[0]));
}

#[test]
fn what_a_file_said_holds_until_it_says_something_that_can_be_read() {
    let world = world(json!({}));
    let path = world._folder.path().join("revoked");
    let revoked = |world: &World| {
        let list = world.callers.revoked.as_ref().unwrap();
        list.look_again().map(|read| read.map(|_| ()).map_err(|problem| problem.contains("line 1")))
    };
    assert_eq!(revoked(&world), None);
    let holds = || world.callers.by_certificate(&certificate("gone.test", "k")).is_err();
    std::fs::write(&path, "gone.test\n").unwrap();
    assert_eq!(revoked(&world), Some(Err(true)));
    assert_eq!(revoked(&world), None, "it is told once");
    assert!(holds());
    std::fs::write(&path, "jti x\n").unwrap();
    assert_eq!(revoked(&world), Some(Ok(())));
    assert!(!holds());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(revoked(&world), Some(Err(false)));
}
