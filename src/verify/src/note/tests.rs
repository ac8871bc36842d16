use proptest::prelude::*;

use super::*;
use crate::made::{ISS, MadeKey, MadeKeys, b64, leaf, path, root};
use crate::view::View;

fn good() -> String {
    let leaves: Vec<_> = (0..5u8).map(|n| leaf(&[n])).collect();
    String::from_utf8(MadeKeys::new().checkpoint.checkpoint(ISS, &leaves)).unwrap()
}

fn keys(rows: &[(&MadeKey, &str)]) -> Keys {
    let rows: Vec<_> = rows.iter().map(|(key, usage)| key.row(usage)).collect();
    Keys::read(View::of(serde_json::to_vec(&rows).unwrap().leak())).unwrap()
}

#[test]
fn a_checkpoint_is_read_and_verified() {
    let note = good();
    let checkpoint = Checkpoint::read(note.as_bytes()).unwrap();
    assert_eq!((checkpoint.origin, checkpoint.size, checkpoint.name), (ISS, 5, ISS));
    let made = MadeKeys::new();
    assert!(checkpoint.signer(&keys(&[(&made.checkpoint, "checkpoint")]), ISS).is_ok());
    assert!(checkpoint.signer(&keys(&[(&made.checkpoint, "receipt")]), ISS).is_err(), "another use");
    assert!(checkpoint.signer(&keys(&[(&made.receipt, "checkpoint")]), ISS).is_err(), "another key");
    assert!(checkpoint.signer(&keys(&[(&made.checkpoint, "checkpoint")]), "gw.example/main/2").is_err());
}

#[test]
fn the_worked_example_of_go_verifies() {
    // The package documentation of golang.org/x/mod/sumdb/note: `PeterNeumann+c74f20a3+ARpc…`.
    let bytes = base64_decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").unwrap();
    let spki =
        [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], &bytes[1..]].concat();
    let public = crate::keys::PublicKey::of_spki(&spki).unwrap();
    let text = "If you think cryptography is the answer to your problem,\n\
                then you don't know what your problem is.\n";
    let line = "\u{2014} PeterNeumann \
                x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
    let (name, key_id, signature) = signature_line(line).unwrap();
    assert!(public.verifies(text.as_bytes(), &signature));
    let keys = Keys::single(public, Usage::Checkpoint);
    assert_eq!(keys.iter().next().unwrap().note_id(name), Some(key_id));
    assert_eq!(crate::made::hex(&key_id), "c74f20a3");
}

#[test]
fn any_other_form_is_refused() {
    let note = good();
    let lines: Vec<&str> = note.split('\n').collect();
    let replace = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        lines.join("\n")
    };
    let signature = lines[4];
    let blob = signature.rsplit(' ').next().unwrap();
    for bad in [
        String::new(),
        note.trim_end().to_owned(),
        format!("{note}\n"),
        format!("\n{note}"),
        format!("{note}{signature}\n"),
        note.replace('\n', "\r\n"),
        replace(0, ""),
        replace(0, "a\tb"),
        replace(1, "05"),
        replace(1, "+5"),
        replace(1, "-5"),
        replace(1, ""),
        replace(1, "99999999999999999999"),
        replace(2, ""),
        replace(2, &lines[2][..40]),
        replace(2, &b64(&[0; 31])),
        replace(3, "extension"),
        replace(3, " "),
        replace(4, &signature.replace('\u{2014}', "-")),
        replace(4, &format!("\u{2014} {blob}")),
        replace(4, &format!("\u{2014}  {blob}")),
        replace(4, &format!("\u{2014} a+b {blob}")),
        replace(4, &format!("\u{2014} {ISS} {}", b64(&[0; 67]))),
        replace(4, &format!("\u{2014} {ISS} {}", b64(&[0; 69]))),
        replace(4, &format!("{signature} ")),
        replace(4, &format!("{signature} x")),
    ] {
        assert!(Checkpoint::read(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(Checkpoint::read(&[note.as_bytes(), b"\xff"].concat()).is_err());
    assert!(Checkpoint::read_of(note.as_bytes(), "gw.example/main/2").is_err());
}

#[test]
fn a_changed_text_does_not_verify() {
    let note = good().replacen("\n5\n", "\n6\n", 1);
    let made = MadeKeys::new();
    let checkpoint = Checkpoint::read(note.as_bytes()).unwrap();
    assert!(checkpoint.signer(&keys(&[(&made.checkpoint, "checkpoint")]), ISS).is_err());
}

fn proof() -> String {
    let leaves: Vec<_> = (0..5u8).map(|n| leaf(&[n])).collect();
    let nodes: String = path(2, &leaves).iter().map(|node| format!("{}\n", b64(node))).collect();
    format!("c2sp.org/tlog-proof@v1\nindex 2\n{nodes}\n{}", good())
}

#[test]
fn a_proof_leads_to_the_root() {
    let text = proof();
    let proof = Proof::read(text.as_bytes()).unwrap();
    let found = crate::tree::root_of_path(Hash(leaf(&[2])), proof.index, proof.checkpoint.size, &proof.path);
    let leaves: Vec<_> = (0..5u8).map(|n| leaf(&[n])).collect();
    assert_eq!(found, Some(Hash(root(&leaves))));
    assert_eq!(found, Some(proof.checkpoint.root));
}

#[test]
fn any_other_form_of_a_proof_is_refused() {
    let text = proof();
    let line = b64(&[0; 32]) + "\n";
    for bad in [
        String::new(),
        text.replace("@v1", "@v2"),
        text.replace("index 2", "index 02"),
        text.replace("index 2", "index"),
        text.replace("index 2", "extra AA==\nindex 2"),
        text.replace("index 2\n", "index 2\nAA==\n"),
        text.replace("index 2\n", "index 2\n\n"),
        text.replace("\n\n\u{2014}", "\n\u{2014}"),
        format!(" {text}"),
        format!("{text}\n"),
        text.replace("index 2\n", &format!("index 2\n{}", line.repeat(61))),
        format!("c2sp.org/tlog-proof@v1\nindex 2\n{}", line.repeat(3)),
    ] {
        assert!(Proof::read(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(
        Proof::read(text.replace("index 2\n", &format!("index 2\n{}", line.repeat(60))).as_bytes()).is_ok()
    );
}

proptest! {
    #[test]
    fn any_change_of_a_note_is_noticed(at in 0usize..300, byte: u8) {
        let mut note = good().into_bytes();
        let at = at % note.len();
        prop_assume!(note[at] != byte);
        note[at] = byte;
        let made = MadeKeys::new();
        let keys = keys(&[(&made.checkpoint, "checkpoint")]);
        let refused = Checkpoint::read_of(&note, ISS).and_then(|note| note.signer(&keys, ISS).map(drop)).is_err();
        prop_assert!(refused);
    }

    #[test]
    fn any_bytes_are_a_note_or_not(bytes: Vec<u8>) {
        crate::fuzz_note(&bytes);
        crate::fuzz_note(&[b"c2sp.org/tlog-proof@v1\nindex ", &bytes[..]].concat());
    }
}
