//! Who may do what: people, their keys, and the roles of those keys (spec/ledger.md section 4).

use std::collections::{BTreeMap, BTreeSet};

use estoppel_evidence::envelope::{base64, from_base64};
use estoppel_evidence::{Alg, KeyId, PublicKey};
use serde::{Deserialize, Serialize};

use super::name;
use crate::code::{Code, Refusal};
use crate::environment;
use crate::generation::StageName;

/// Most keys that roles may name.
const KEYS_MAX: usize = 256;
/// Most environments that roles may bind to stages.
const ENVIRONMENTS_MAX: usize = 256;
/// Longest name of a person, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads, and signs exports.
    Auditor,
    /// Approves candidates and waives gates.
    Approver,
    /// Seals and amends generations.
    Author,
    /// Changes the roles.
    Owner,
    /// Promotes and rolls back.
    Releaser,
    /// Runs evolutions.
    Runner,
}

impl Role {
    pub const ALL: [Self; 6] =
        [Self::Auditor, Self::Approver, Self::Author, Self::Owner, Self::Releaser, Self::Runner];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auditor => "auditor",
            Self::Approver => "approver",
            Self::Author => "author",
            Self::Owner => "owner",
            Self::Releaser => "releaser",
            Self::Runner => "runner",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// The roles, as an event states them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// From which stage on an environment takes what was promoted; one that is not here takes releases.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    environments: BTreeMap<String, StageName>,
    keys: BTreeMap<KeyId, Person>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    name: String,
    roles: BTreeSet<Role>,
    spki: String,
}

impl Roles {
    /// Adds a key, or changes whose it is and what it may do.
    ///
    /// # Errors
    /// `ROLES_INVALID`: no Ed25519 key, a name that cannot be shown or that is taken for somebody else's, no role, or too many keys.
    pub fn grant(&mut self, key: &PublicKey, name: &str, roles: BTreeSet<Role>) -> Result<(), Refusal> {
        let others = self.keys.iter().filter(|(id, _)| **id != key.id());
        name::demand(name, others.map(|(_, person)| person.name.as_str()))?;
        let person = Person { name: name.to_owned(), roles, spki: base64(key.spki()) };
        self.keys.insert(key.id(), person);
        self.check()
    }

    /// Takes all roles from a key.
    ///
    /// # Errors
    /// `ROLES_INVALID`: it has none, or nobody would be left who can change the roles.
    pub fn revoke(&mut self, key: KeyId) -> Result<(), Refusal> {
        match self.keys.remove(&key) {
            Some(_) => self.check(),
            None => Err(Refusal::new(Code::RolesInvalid, format!("key {key} has no role"))),
        }
    }

    /// Says from which stage on an environment takes what was promoted.
    ///
    /// # Errors
    /// `ROLES_INVALID`: too many environments, or one that is none.
    pub fn bind(&mut self, environment: &str, stage: StageName) -> Result<(), Refusal> {
        self.environments.insert(environment.to_owned(), stage);
        self.check()
    }

    /// The stage that an environment asks for.
    pub fn stage_of(&self, environment: &str) -> StageName {
        self.environments.get(environment).copied().unwrap_or(StageName::Final)
    }

    /// The environments that are bound to a stage.
    pub fn environments(&self) -> &BTreeMap<String, StageName> {
        &self.environments
    }

    /// The public key, if it has any role.
    pub fn key(&self, id: KeyId) -> Option<PublicKey> {
        PublicKey::from_spki(&from_base64(&self.keys.get(&id)?.spki)?).ok()
    }

    pub fn has(&self, id: KeyId, role: Role) -> bool {
        self.keys.get(&id).is_some_and(|person| person.roles.contains(&role))
    }

    /// Whose key it is.
    pub fn name(&self, id: KeyId) -> Option<&str> {
        self.keys.get(&id).map(|person| person.name.as_str())
    }

    /// The keys with a role.
    pub fn with(&self, role: Role) -> impl Iterator<Item = PublicKey> + '_ {
        let keys = self.keys.iter().filter(move |(_, person)| person.roles.contains(&role));
        keys.filter_map(|(id, _)| self.key(*id))
    }

    /// Every key, whose it is and what it may do.
    pub fn rows(&self) -> impl Iterator<Item = (KeyId, &str, &BTreeSet<Role>)> {
        self.keys.iter().map(|(id, person)| (*id, person.name.as_str(), &person.roles))
    }

    /// Every key is the one that its id says, and there is somebody who can change the roles.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let wrong = |why: String| Err(Refusal::new(Code::RolesInvalid, why));
        if self.keys.len() > KEYS_MAX {
            return wrong(format!("roles are for at most {KEYS_MAX} keys"));
        }
        if self.environments.len() > ENVIRONMENTS_MAX {
            return wrong(format!("roles bind at most {ENVIRONMENTS_MAX} environments"));
        }
        if !self.environments.keys().all(|name| environment::is_name(name)) {
            return wrong("they bind something that names no environment".into());
        }
        for (id, person) in &self.keys {
            let is_key = self.key(*id).is_some_and(|key| key.id() == *id && key.alg() == Alg::Ed25519);
            if !is_key {
                return wrong(format!("key {id} is not the Ed25519 key that its id says"));
            }
            let is_shown = !person.name.is_empty() && !person.name.chars().any(char::is_control);
            if !is_shown || person.name.len() > NAME_BYTES_MAX {
                let said = format!("key {id} needs a name of 1 to {NAME_BYTES_MAX} bytes without controls");
                return wrong(said);
            }
            if person.roles.is_empty() {
                return wrong(format!("key {id} has no role"));
            }
        }
        if self.with(Role::Owner).next().is_none() {
            return wrong("nobody would be left who can change the roles: there is no `owner`".into());
        }
        Ok(())
    }
}
