//! A repository with a ledger and a sealed generation, for tests.

use std::collections::BTreeSet;

use estoppel_evidence::time::UnixMicros;
use estoppel_evidence::{Signer as _, SoftKey};
use serde_json::{Value, json};

use crate::code::Refusal;
use crate::evolution::{self, Plan, Unwatched, Wanted};
use crate::generation::{Generation, StageName};
use crate::git::{Git, ObjectId, tests::repository};
use crate::ledger::{Appended, Body, Contracted, EvolutionFinished, Hand, Role, Roles, Store};
use crate::version::Version;

pub(crate) fn key(seed: u8) -> SoftKey {
    SoftKey::ed25519(&[seed; 32])
}

/// Owner with every role: 1. Others: 2 author, 3 approver, 4 approver and author, 5 releaser and runner.
pub(crate) fn roles() -> Roles {
    let mut roles = Roles::default();
    let all: [(u8, &[Role]); 5] = [
        (1, &Role::ALL),
        (2, &[Role::Author]),
        (3, &[Role::Approver]),
        (4, &[Role::Approver, Role::Author]),
        (5, &[Role::Releaser, Role::Runner]),
    ];
    for (seed, of) in all {
        let of: BTreeSet<Role> = of.iter().copied().collect();
        roles.grant(key(seed).public(), &format!("person {seed}"), of).unwrap();
    }
    roles
}

pub(crate) struct Scene {
    _dir: tempfile::TempDir,
    pub git: Git,
    pub remote: Option<String>,
}

pub(crate) fn now() -> UnixMicros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMicros(u64::try_from(since.as_micros()).unwrap())
}

pub(crate) fn random() -> [u8; 26] {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [7; 26];
    bytes[..8].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    bytes
}

impl Scene {
    pub(crate) fn new() -> Self {
        let (dir, git) = repository();
        let scene = Self { _dir: dir, git, remote: None };
        let key = key(1);
        scene.store().begin(Body::RolesSet(roles()), &hand(&key)).unwrap();
        scene
    }

    /// A clone of this repository that trusts its ledger.
    pub(crate) fn cloned(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("clone");
        let mut command = std::process::Command::new("git");
        let from = self.git.top().join(".git");
        assert!(command.arg("clone").arg("-q").args([&from, &to]).output().unwrap().status.success());
        let clone = Self { git: Git::open(&to).unwrap(), _dir: dir, remote: Some("origin".into()) };
        clone.store().trust(self.store().read().unwrap().genesis().unwrap()).unwrap();
        clone.store().fetch().unwrap();
        clone
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(self.git.clone(), self.remote.clone(), now)
    }

    pub(crate) fn head(&self) -> ObjectId {
        self.git.commit("HEAD").unwrap().unwrap()
    }

    /// Commits a file.
    pub(crate) fn commit(&self, name: &str, text: &str) -> ObjectId {
        let path = self.git.top().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        self.git.text(&["add", "--", name]).unwrap();
        self.git.text(&["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "next"]).unwrap();
        self.head()
    }

    fn place(&self, id: &ObjectId) -> std::path::PathBuf {
        let (folder, file) = id.as_str().split_at(2);
        self.git.top().join(".git/objects").join(folder).join(file)
    }

    /// Puts other bytes where the clone keeps an object, as whoever can write there does.
    pub(crate) fn alter(&self, id: &ObjectId, kind: &str, bytes: &[u8]) {
        let other = self.git.write(kind, bytes).unwrap();
        std::fs::remove_file(self.place(id)).unwrap();
        std::fs::copy(self.place(&other), self.place(id)).unwrap();
    }

    /// Puts its own bytes there again.
    pub(crate) fn restore(&self, id: &ObjectId, kind: &str, bytes: &[u8]) {
        // Git writes no object that is there.
        std::fs::remove_file(self.place(id)).unwrap();
        assert_eq!(self.git.write(kind, bytes).unwrap(), *id);
    }

    pub(crate) fn write(&self, seed: u8, body: Body) -> Result<Appended, Refusal> {
        let key = key(seed);
        self.store().append(&hand(&key), &mut |_| Ok(body.clone().into()))
    }

    pub(crate) fn seal(&self, document: Value) -> Generation {
        let (generation, contracted) = contracted(document, None);
        self.write(2, Body::GenerationSealed(contracted)).unwrap();
        generation
    }

    pub(crate) fn amend(&self, document: Value) -> Generation {
        let version = document["version"].as_str().unwrap().parse().unwrap();
        let from = self.store().read().unwrap().contract(&version).unwrap().1.contract;
        let (generation, contracted) = contracted(document, Some(from));
        self.write(2, Body::GenerationAmended(contracted)).unwrap();
        generation
    }

    pub(crate) fn evolve(&self, version: &str, wanted: &[&str]) -> EvolutionFinished {
        self.try_evolve(version, wanted, &self.head()).unwrap()
    }

    pub(crate) fn try_evolve(
        &self,
        version: &str,
        wanted: &[&str],
        commit: &ObjectId,
    ) -> Result<EvolutionFinished, Refusal> {
        let version: Version = version.parse().unwrap();
        let these = wanted.iter().map(|id| (*id).to_owned()).collect();
        let plan = Plan {
            version: &version,
            wanted: if wanted.is_empty() { Wanted::All } else { Wanted::These(these) },
            commit: commit.clone(),
            jobs: 4,
            random: random(),
        };
        let key = key(5);
        evolution::start(&self.store(), &hand(&key), &plan, &Unwatched).map(|(finished, _)| finished)
    }
}

pub(crate) fn hand(key: &SoftKey) -> Hand<'_> {
    Hand { signer: key, host: "host", now: &now }
}

pub(crate) fn contracted(
    document: Value,
    from: Option<estoppel_evidence::Sha256>,
) -> (Generation, Box<Contracted>) {
    let generation = Generation::from_document(document).unwrap_or_else(|errors| panic!("{errors:?}"));
    let digests =
        generation.changes.iter().map(|change| (change.id.to_string(), generation.change_digest(change)));
    let contracted = Contracted {
        changes: digests.collect(),
        contract: generation.digest(),
        document: generation.document().clone(),
        reason: from.map(|_| "because".into()),
        from,
        version: generation.version.clone(),
    };
    (generation, Box::new(contracted))
}

/// A generation with two changes, each proven by a step of its own.
pub(crate) fn document(version: &str, a: &str, b: &str) -> Value {
    let step = |id: &str, change: &str, script: &str| json!({ "id": id, "kind": "unit", "run": ["sh", "-c", script], "proves": [change] });
    json!({
        "generation": 1, "version": version, "description": "d", "author": { "name": "person 2" },
        "changes": [
            { "id": "A-1", "type": "fix", "title": "a" },
            { "id": "B-2", "type": "add", "title": "b" },
        ],
        "steps": [step("a", "A-1", a), step("b", "B-2", b)],
    })
}

/// Promotes a version whose gates look at the ledger alone.
pub(crate) fn promote(scene: &Scene, version: &str) {
    climb(scene, version, StageName::Final);
}

/// The same to a stage.
pub(crate) fn climb(scene: &Scene, version: &str, stage: StageName) {
    use crate::promotion::{Bundle, Left, Wanted, Witness};
    struct Nobody;
    impl Witness for Nobody {
        fn bundle(&self, _: Left<'_>, _: &[u8]) -> Result<Bundle, String> {
            Err("nobody looks".into())
        }

        fn subject(&self, _: Left<'_>) -> Option<String> {
            None
        }

        fn certificate(
            &self,
            _: Left<'_>,
            _: Left<'_>,
            _: &[u8],
            _: &[estoppel_evidence::PublicKey],
        ) -> Result<(), String> {
            Err("nobody looks".into())
        }

        fn regress(
            &self,
            _: &crate::git::Files,
            _: &crate::generation::RegressGate,
            _: Option<&[u8]>,
        ) -> Result<String, String> {
            Err("nobody looks".into())
        }

        fn policy(
            &self,
            _: &crate::git::Files,
            _: &crate::generation::PolicyGate,
        ) -> Result<estoppel_evidence::Sha256, String> {
            Err("nobody looks".into())
        }
    }
    let version: Version = version.parse().unwrap();
    let wanted = Wanted {
        version: &version,
        stage,
        candidate: None,
        contract: None,
        folders: &[],
        resume: false,
        dry: false,
    };
    let key = key(5);
    let judged = crate::promotion::promote(&scene.store(), &hand(&key), &wanted, &Nobody).unwrap();
    assert!(judged.promoted.is_some(), "{:#?}", judged.rows);
}
