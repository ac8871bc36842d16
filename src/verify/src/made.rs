//! Bundles and journals made for tests, by a plain writer that shares nothing with the product's.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const ISS: &str = "gw.example/main/1";
pub(crate) const RUN: &str = "0192a000-0000-7000-8000-000000000001";

pub(crate) fn sha(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn leaf(line: &[u8]) -> [u8; 32] {
    sha(&[&[0], line].concat())
}

/// RFC 6962 section 2.1, as it is written there.
pub(crate) fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => sha(b""),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            sha(&[&[1], &root(left)[..], &root(right)[..]].concat())
        }
    }
}

pub(crate) fn path(index: usize, leaves: &[[u8; 32]]) -> Vec<[u8; 32]> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut inner, sibling) = match index.checked_sub(left.len()) {
        None => (path(index, left), root(right)),
        Some(index) => (path(index, right), root(left)),
    };
    inner.push(sibling);
    inner
}

pub(crate) fn pae(kind: &str, body: &[u8]) -> Vec<u8> {
    [format!("DSSEv1 {} {kind} {} ", kind.len(), body.len()).as_bytes(), body].concat()
}

/// A key of a fixed seed.
#[derive(Clone)]
pub(crate) struct MadeKey(pub SigningKey);

impl MadeKey {
    pub(crate) fn new(seed: u8) -> Self {
        MadeKey(SigningKey::from_bytes(&[seed; 32]))
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        spki.extend(self.0.verifying_key().to_bytes());
        spki
    }

    pub(crate) fn id(&self) -> String {
        hex(&sha(&self.spki()))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    pub(crate) fn row(&self, usage: &str) -> Value {
        json!({"alg": "ed25519", "kid": self.id(), "spki": b64(&self.spki()), "use": usage})
    }

    pub(crate) fn note(&self, name: &str, text: &str) -> Vec<u8> {
        let preimage = [name.as_bytes(), b"\n\x01", &self.0.verifying_key().to_bytes()].concat();
        let blob = [&sha(&preimage)[..4], &self.sign(text.as_bytes())].concat();
        format!("{text}\n\u{2014} {name} {}\n", b64(&blob)).into_bytes()
    }

    pub(crate) fn checkpoint(&self, origin: &str, leaves: &[[u8; 32]]) -> Vec<u8> {
        self.note(ISS, &format!("{origin}\n{}\n{}\n", leaves.len(), b64(&root(leaves))))
    }

    pub(crate) fn envelope(&self, kind: &str, payload: &[u8]) -> Vec<u8> {
        canonical(&json!({
            "payload": b64(payload),
            "payloadType": kind,
            "signatures": [{"keyid": self.id(), "sig": b64(&self.sign(&pae(kind, payload)))}],
        }))
    }
}

/// serde_json sorts members by bytes, which is canonical for the names that the tests use.
pub(crate) fn canonical(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

pub(crate) fn trust(rows: &[(&MadeKey, &str)]) -> Vec<u8> {
    let rows: Vec<Value> = rows
        .iter()
        .map(|(key, usage)| {
            let mut row = key.row(usage);
            row["iss"] = json!(ISS);
            row
        })
        .collect();
    canonical(&json!({"keys": rows, "v": "pef-trust/v0"}))
}

/// The keys that everything made here is signed with.
#[derive(Clone)]
pub(crate) struct MadeKeys {
    pub receipt: MadeKey,
    pub checkpoint: MadeKey,
    pub manifest: MadeKey,
}

impl MadeKeys {
    pub(crate) fn new() -> Self {
        MadeKeys { receipt: MadeKey::new(1), checkpoint: MadeKey::new(2), manifest: MadeKey::new(3) }
    }

    pub(crate) fn trust(&self) -> Vec<u8> {
        trust(&[(&self.receipt, "receipt"), (&self.checkpoint, "checkpoint"), (&self.manifest, "manifest")])
    }
}

/// A run whose entries are chained and signed as they are pushed.
#[derive(Clone)]
pub(crate) struct MadeRun {
    pub run: String,
    pub sign: &'static str,
    pub receipt: MadeKey,
    pub lines: Vec<Vec<u8>>,
    pub signatures: Vec<[u8; 64]>,
    pub policy: Vec<u8>,
    counters: BTreeMap<&'static str, u64>,
}

impl MadeRun {
    pub(crate) fn new(run: &str, sign: &'static str, receipt: MadeKey) -> Self {
        let counters = ["allow", "block", "calls", "hold", "incomplete", "interrupted", "repair"];
        MadeRun {
            run: run.to_owned(),
            sign,
            receipt,
            lines: Vec::new(),
            signatures: Vec::new(),
            policy: br#"{"rules":[]}"#.to_vec(),
            counters: counters.into_iter().map(|name| (name, 0)).collect(),
        }
    }

    /// The members that every entry has.
    pub(crate) fn common(&self, kind: &str) -> Value {
        let seq = self.lines.len();
        let mut entry = json!({
            "v": "pef/v0", "kind": kind, "iss": ISS, "kid": self.receipt.id(), "run": self.run, "seq": seq,
            "ts": format!("2026-11-21T04:00:{:02}.000000Z", seq % 60), "mono_us": seq * 10,
        });
        if let Some(last) = self.lines.last() {
            entry["prev"] = json!(format!("leaf:{}", hex(&leaf(last))));
        }
        entry
    }

    pub(crate) fn push(&mut self, entry: &Value) -> &mut Self {
        self.push_line(canonical(entry))
    }

    pub(crate) fn push_line(&mut self, line: Vec<u8>) -> &mut Self {
        self.signatures.push(self.receipt.sign(&pae("application/vnd.estoppel.pef.entry.v0+json", &line)));
        self.lines.push(line);
        self
    }

    pub(crate) fn policy_hash(&self) -> String {
        format!("sha256:{}", hex(&sha(&self.policy)))
    }

    pub(crate) fn open(&mut self) -> &mut Self {
        let entry = self.open_entry();
        self.push(&entry)
    }

    pub(crate) fn open_entry(&self) -> Value {
        let mut entry = self.common("run.open");
        entry["build"] = json!({"name": "estoppeld", "version": "0.1.0"});
        entry["capture"] = json!({"commitment": format!("commit:{}", "ab".repeat(32)), "id": "ab".repeat(8)});
        entry["class"] = json!("caller");
        entry["config"] = json!(format!("sha256:{}", "cd".repeat(32)));
        entry["durability"] = json!("group");
        entry["name"] = json!("night \"batch\" \u{e9}");
        entry["policy"] = json!(self.policy_hash());
        entry["sign"] = json!(self.sign);
        entry
    }

    pub(crate) fn call_entry(&self, action: &str) -> Value {
        let mut entry = self.common("call");
        let seq = self.lines.len();
        let side = json!({"bytes": 10, "skipped": 0, "state": "judged"});
        entry["attempt"] = json!(1);
        entry["body"] = json!({"mode": "hmac"});
        entry["call"] = json!(format!("0192a000-0000-7000-8000-{seq:012x}"));
        entry["claims"] = json!({"agent": format!("a{}", seq % 3), "job_id": "nightly"});
        entry["evaluated"] = json!({"request": side, "response": side});
        entry["facts"] = json!({"model": "m-1", "stream": false, "usage": {"input": 12, "output": 34}});
        entry["identity"] = json!({"kind": "mtls", "subject": "svc"});
        entry["operation"] = json!("chat.completions");
        entry["outcome"] = json!({"client": "handed_over", "code": "OK", "complete": true});
        entry["policy"] = json!({"hash": self.policy_hash(), "rule": "default"});
        entry["request"] = json!({"bytes": 10, "method": "POST", "route": "chat"});
        entry["response"] = json!({"client": {"bytes": 10, "status": 200}});
        entry["time"] = json!({"total_us": 100 + seq * 7 % 5});
        entry["verdict"] = json!({"action": action, "mode": "enforce"});
        entry
    }

    pub(crate) fn call(&mut self, action: &'static str) -> &mut Self {
        self.count(action);
        self.count("calls");
        let entry = self.call_entry(action);
        self.push(&entry)
    }

    pub(crate) fn count(&mut self, name: &'static str) {
        *self.counters.entry(name).or_default() += 1;
    }

    pub(crate) fn interrupted(&mut self) -> &mut Self {
        self.count("interrupted");
        let mut entry = self.common("interrupted");
        entry["call"] = json!("0192a000-0000-7000-8000-0000000000ff");
        entry["reason"] = json!("CLIENT_GONE");
        self.push(&entry)
    }

    /// `by` signs the possession proof.
    pub(crate) fn rotate_entry(&self, usage: &str, old: &MadeKey, new: &MadeKey, by: &MadeKey) -> Value {
        let mut entry = self.common("key.rotate");
        let statement = json!({"iss": ISS, "new": new.id(), "old": old.id(), "run": self.run, "use": usage});
        let message = pae("application/vnd.estoppel.pef.possession.v0+json", &canonical(&statement));
        entry["alg"] = json!("ed25519");
        entry["new"] = json!(new.id());
        entry["old"] = json!(old.id());
        entry["possession"] = json!(b64(&by.sign(&message)));
        entry["spki"] = json!(b64(&new.spki()));
        entry["use"] = json!(usage);
        entry
    }

    pub(crate) fn leaves(&self) -> Vec<[u8; 32]> {
        self.lines.iter().map(|line| leaf(line)).collect()
    }

    pub(crate) fn seal_entry(&self) -> Value {
        let mut entry = self.common("run.seal");
        entry["count"] = json!(self.lines.len());
        entry["counters"] = json!(self.counters);
        entry["head"] = entry["prev"].clone();
        entry["reason"] = json!("clean");
        entry["root"] = json!(format!("root:{}", hex(&root(&self.leaves()))));
        entry
    }

    pub(crate) fn seal(&mut self) -> &mut Self {
        let entry = self.seal_entry();
        self.push(&entry)
    }
}

/// Path to bytes.
pub(crate) type MadeFiles = BTreeMap<String, Vec<u8>>;

/// A run, and what goes around it into a bundle.
#[derive(Clone)]
pub(crate) struct MadeBundle {
    pub keys: MadeKeys,
    pub run: MadeRun,
    /// Keys that the manifest lists beside the three.
    pub more_keys: Vec<Value>,
    pub checkpoint_key: MadeKey,
    pub externals: Vec<Value>,
    /// Files to add: path, role, bytes.
    pub more_files: Vec<(String, &'static str, Vec<u8>)>,
}

impl MadeBundle {
    /// A run with two calls and an interruption.
    pub(crate) fn small(sign: &'static str) -> Self {
        let mut made = Self::opened(sign);
        made.run.call("allow").call("block").interrupted().seal();
        made
    }

    /// A run that was only opened.
    pub(crate) fn opened(sign: &'static str) -> Self {
        let keys = MadeKeys::new();
        let mut run = MadeRun::new(RUN, sign, keys.receipt.clone());
        run.open();
        MadeBundle {
            checkpoint_key: keys.checkpoint.clone(),
            keys,
            run,
            more_keys: Vec::new(),
            externals: Vec::new(),
            more_files: Vec::new(),
        }
    }

    /// Adds an anchor: the run is written into an instance log after `before` other entries.
    pub(crate) fn anchor(&mut self, before: usize) -> &mut Self {
        let mut leaves: Vec<[u8; 32]> = (0..before).map(|n| sha(&n.to_le_bytes())).collect();
        leaves.extend(self.run.leaves());
        let index = leaves.len() - 1;
        leaves.push(sha(b"later"));
        let mut text = format!("c2sp.org/tlog-proof@v1\nindex {index}\n");
        for node in path(index, &leaves) {
            text.push_str(&b64(&node));
            text.push('\n');
        }
        text.push('\n');
        let note = self.checkpoint_key.checkpoint(ISS, &leaves);
        let bytes = [text.as_bytes(), &note].concat();
        self.more_files.push(("anchor.tlog-proof".to_owned(), "anchor", bytes));
        self
    }

    /// All files.
    pub(crate) fn files(&self) -> MadeFiles {
        self.files_with(|_| {})
    }

    /// All files; `change` may alter the manifest before it is signed.
    pub(crate) fn files_with(&self, change: impl FnOnce(&mut Value)) -> MadeFiles {
        let mut files = self.parts();
        let mut manifest = self.manifest(&files);
        change(&mut manifest);
        files.insert("manifest.json".to_owned(), canonical(&manifest));
        let statement = statement(&files, &manifest);
        self.close(&mut files, &statement);
        files
    }

    /// Signs `statement` and lists all files.
    pub(crate) fn close(&self, files: &mut MadeFiles, statement: &Value) {
        let envelope = self.keys.manifest.envelope("application/vnd.in-toto+json", &canonical(statement));
        files.insert("manifest.dsse.json".to_owned(), envelope);
        files.insert("SHA256SUMS".to_owned(), sums(files));
    }

    /// What the manifest lists.
    pub(crate) fn parts(&self) -> MadeFiles {
        let mut files = MadeFiles::new();
        let mut lines = self.run.lines.join(&b'\n');
        lines.push(b'\n');
        files.insert("receipts.ndjson".to_owned(), lines);
        if self.run.sign == "each" {
            files.insert("receipts.sig".to_owned(), self.run.signatures.concat());
        }
        let origin = format!("{ISS}/run/{}", self.run.run);
        files.insert("checkpoint".to_owned(), self.checkpoint_key.checkpoint(&origin, &self.run.leaves()));
        files.insert(format!("policy/{}.json", hex(&sha(&self.run.policy))), self.run.policy.clone());
        for (path, _, bytes) in &self.more_files {
            files.insert(path.clone(), bytes.clone());
        }
        files
    }

    fn role(&self, path: &str) -> &'static str {
        match path {
            "receipts.ndjson" => "entries",
            "receipts.sig" => "signatures",
            "checkpoint" => "checkpoint",
            _ => self.more_files.iter().find(|file| file.0 == path).map_or("policy", |file| file.1),
        }
    }

    /// The manifest that fits the files, from a second reading of the lines.
    pub(crate) fn manifest(&self, files: &MadeFiles) -> Value {
        let entries: Vec<Value> =
            self.run.lines.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let (open, seal) = (&entries[0], &entries[entries.len() - 1]);
        let calls: Vec<&Value> = entries.iter().filter(|entry| entry["kind"] == "call").collect();
        let mut claims: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut policies = vec![open["policy"].as_str().unwrap_or_default().to_owned()];
        for call in &calls {
            for (name, value) in call["claims"].as_object().into_iter().flatten() {
                claims.entry(name.clone()).or_default().extend(value.as_str().map(str::to_owned));
            }
            policies.extend(call["policy"]["hash"].as_str().map(str::to_owned));
        }
        for values in claims.values_mut().chain([&mut policies]) {
            values.sort();
            values.dedup();
        }
        claims.values_mut().for_each(|values| values.truncate(16));
        let mut totals: Vec<u64> =
            calls.iter().filter_map(|call| call["time"]["total_us"].as_u64()).collect();
        totals.sort_unstable();
        let rank = |percent: usize| totals.get((percent * totals.len()).div_ceil(100).wrapping_sub(1));
        let rows: Vec<Value> = files
            .iter()
            .map(|(path, bytes)| {
                let digest = format!("sha256:{}", hex(&sha(bytes)));
                json!({"bytes": bytes.len(), "path": path, "role": self.role(path), "sha256": digest})
            })
            .collect();
        let mut keys = vec![
            self.keys.receipt.row("receipt"),
            self.keys.checkpoint.row("checkpoint"),
            self.keys.manifest.row("manifest"),
        ];
        keys.extend(self.more_keys.iter().cloned());
        let mut manifest = json!({
            "v": "pef/v0", "run": self.run.run, "iss": ISS, "class": open["class"], "name": open["name"],
            "opened": open["ts"], "sealed": seal["ts"], "build": open["build"], "sign": open["sign"],
            "durability": open["durability"], "claims": claims, "policies": policies, "keys": keys,
            "tree": {"root": format!("root:{}", hex(&root(&self.run.leaves()))), "size": self.run.lines.len()},
            "counters": self.run.counters, "files": rows, "externals": self.externals,
            "seal_reason": seal.get("reason").cloned().unwrap_or(json!("clean")),
        });
        if !calls.is_empty() {
            manifest["metrics"] =
                json!({"total_p50_us": rank(50), "total_p95_us": rank(95), "total_p99_us": rank(99)});
        }
        manifest
    }
}

/// The statement that fits the files.
pub(crate) fn statement(files: &MadeFiles, manifest: &Value) -> Value {
    let subjects: Vec<Value> = files
        .iter()
        .filter(|(path, _)| *path != "manifest.dsse.json" && *path != "SHA256SUMS")
        .map(|(path, bytes)| json!({"digest": {"sha256": hex(&sha(bytes))}, "name": path}))
        .collect();
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": {
            "root": manifest["tree"]["root"], "run": manifest["run"], "size": manifest["tree"]["size"], "v": "pef/v0",
        },
        "predicateType": "urn:estoppel:pef:manifest:v0",
        "subject": subjects,
    })
}

pub(crate) fn sums(files: &MadeFiles) -> Vec<u8> {
    let lines = files.iter().filter(|(path, _)| *path != "SHA256SUMS");
    lines.map(|(path, bytes)| format!("{}  {path}\n", hex(&sha(bytes)))).collect::<String>().into_bytes()
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
        }
    }
    !crc
}

/// The one ZIP of these files.
pub(crate) fn zip(files: &MadeFiles) -> Vec<u8> {
    zip_of(&files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect::<Vec<_>>())
}

/// A ZIP of these entries, in this order, right or wrong.
pub(crate) fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut central) = (Vec::new(), Vec::new());
    for (path, bytes) in entries {
        let size = (bytes.len() as u32).to_le_bytes();
        let shared = [
            &[10, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..],
            &crc(bytes).to_le_bytes(),
            &size,
            &size,
            &(path.len() as u16).to_le_bytes(),
            &[0, 0],
        ]
        .concat();
        let offset = (out.len() as u32).to_le_bytes();
        central.extend(b"PK\x01\x02\x14\x03");
        central.extend(&shared);
        central.extend([0, 0, 0, 0, 0, 0, 0, 0, 0xa4, 0x81]);
        central.extend(offset);
        central.extend(path.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&shared);
        out.extend(path.as_bytes());
        out.extend(*bytes);
    }
    let count = (entries.len() as u16).to_le_bytes();
    let end = [
        &b"PK\x05\x06\0\0\0\0"[..],
        &count,
        &count,
        &(central.len() as u32).to_le_bytes(),
        &(out.len() as u32).to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    [out, central, end].concat()
}

/// A journal as it is written.
#[derive(Clone, Default)]
pub(crate) struct MadeJournal {
    /// Finished segments: name and bytes.
    pub segments: Vec<(String, Vec<u8>)>,
    pub leaves: Vec<[u8; 32]>,
}

impl MadeJournal {
    pub(crate) fn start_segment(&mut self) -> &mut Self {
        let mut header = b"PEFSEG0\n".to_vec();
        header.extend((self.leaves.len() as u64).to_le_bytes());
        header.extend(self.leaves.last().copied().unwrap_or_default());
        header.extend((ISS.len() as u16).to_le_bytes());
        header.extend(ISS.as_bytes());
        header.resize(252, 0);
        header.extend(crc(&header).to_le_bytes());
        self.segments.push((format!("{:020}.seg", self.leaves.len()), header));
        self
    }

    pub(crate) fn frame(&mut self, kind: u8, payload: &[u8]) -> &mut Self {
        let index = self.leaves.len() as u64;
        self.frame_at(index, kind, payload)
    }

    pub(crate) fn frame_at(&mut self, index: u64, kind: u8, payload: &[u8]) -> &mut Self {
        let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
        frame.push(kind);
        frame.extend(index.to_le_bytes());
        let crc = crc(&[&frame, payload].concat());
        frame.extend(crc.to_le_bytes());
        frame.extend(payload);
        self.segments.last_mut().unwrap().1.extend(frame);
        self
    }

    /// Writes the entry at `seq` of `run`.
    pub(crate) fn entry(&mut self, run: &MadeRun, seq: usize) -> &mut Self {
        let line = &run.lines[seq];
        let payload = match run.sign {
            "each" => [&[64], &run.signatures[seq][..], line].concat(),
            _ => [&[0], &line[..]].concat(),
        };
        self.frame(1, &payload);
        self.leaves.push(leaf(line));
        self
    }

    pub(crate) fn checkpoint(&mut self, key: &MadeKey) -> &mut Self {
        let note = key.checkpoint(ISS, &self.leaves);
        self.frame(3, &note)
    }

    pub(crate) fn end(&mut self) -> &mut Self {
        self.frame(4, &[0])
    }

    pub(crate) fn zeros(&mut self, count: usize) -> &mut Self {
        self.segments.last_mut().unwrap().1.extend(vec![0; count]);
        self
    }
}
