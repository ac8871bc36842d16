use zeroize::Zeroizing;

use super::*;
use crate::encryption::{CommandHook, FileHook};

fn hook(byte: u8) -> FileHook {
    FileHook::new(Zeroizing::new([byte; 32]))
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 7 % 251) as u8).collect() // below 251
}

fn sealed(length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(encrypt(&hook(1), &mut &content(length)[..], &mut out).unwrap(), length as u64);
    out
}

fn opened(by: &FileHook, sealed: &[u8]) -> Result<Vec<u8>, EncryptionError> {
    let mut out = Vec::new();
    decrypt(by, &mut &sealed[..], &mut out).map(|_| out)
}

/// Where the first chunk begins.
fn start(sealed: &[u8]) -> usize {
    12 + u32::from_le_bytes(sealed[8..12].try_into().unwrap()) as usize
}

#[test]
fn content_comes_back_at_every_length_around_a_chunk() {
    for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1]
    {
        let sealed = sealed(length);
        assert_eq!(opened(&hook(1), &sealed).unwrap(), content(length), "{length}");
        let chunks = length.div_ceil(CHUNK_BYTES).max(1);
        assert_eq!(sealed.len(), start(&sealed) + length + chunks * TAG_BYTES, "{length}");
    }
}

#[test]
fn the_frozen_vector_opens_and_another_key_does_not() {
    let vector = include_bytes!("../../../../../spec/encryption-vector/content.enc");
    let key = include_str!("../../../../../spec/encryption-vector/key");
    let key = estoppel_evidence::hash::from_hex::<32>(key.trim_end()).unwrap();
    let found = opened(&FileHook::new(Zeroizing::new(key)), vector).unwrap();
    assert_eq!(found.len(), 2 * CHUNK_BYTES + 1);
    for (at, block) in found.chunks(32).enumerate() {
        let expected = estoppel_evidence::Sha256::of(&(at as u64).to_le_bytes()).0;
        assert_eq!(block, &expected[..block.len()], "block {at}");
    }
    assert!(matches!(opened(&hook(1), vector), Err(EncryptionError::Key { .. })));
}

fn shared_key() -> DataKey {
    DataKey::new(&hook(1)).unwrap()
}

fn shared(key: &DataKey, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encryptor = Encryptor::shared(key, &mut out).unwrap();
    parts.iter().for_each(|part| encryptor.push(part, &mut out).unwrap());
    encryptor.finish(&mut out).unwrap();
    out
}

#[test]
fn files_of_one_data_key_open_however_they_were_pushed_and_share_no_key() {
    let key = shared_key();
    for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 1] {
        let content = content(length);
        for piece in [1_000, CHUNK_BYTES, 3 * CHUNK_BYTES] {
            let sealed = shared(&key, &content.chunks(piece).collect::<Vec<_>>());
            assert_eq!(opened(&hook(1), &sealed).unwrap(), content, "{length} by {piece}");
            let decryptor = Decryptor::new(&hook(1), &sealed[..]).unwrap();
            assert_eq!(decryptor.content_bytes(sealed.len() as u64), length as u64);
        }
    }
    let [first, second] = [shared(&key, &[b"same"]), shared(&key, &[b"same"])];
    assert_ne!(first[start(&first)..], second[start(&second)..]);
    let mixed = [&first[..start(&first)], &second[start(&second)..]].concat();
    assert!(matches!(opened(&hook(1), &mixed), Err(EncryptionError::Chunk { index: 0 })));
}

#[test]
fn the_frozen_vector_of_a_shared_key_opens() {
    let vector = include_bytes!("../../../../../spec/encryption-vector/shared.enc");
    let key = include_str!("../../../../../spec/encryption-vector/key");
    let key = estoppel_evidence::hash::from_hex::<32>(key.trim_end()).unwrap();
    let found = opened(&FileHook::new(Zeroizing::new(key)), vector).unwrap();
    let own = include_bytes!("../../../../../spec/encryption-vector/content.enc");
    assert_eq!(found, opened(&FileHook::new(Zeroizing::new(key)), own).unwrap());
}

#[test]
fn every_byte_matters_where_the_key_is_shared() {
    let sealed = shared(&shared_key(), &[&content(300)]);
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(opened(&hook(1), &changed).is_err(), "byte {at}");
    }
}

#[test]
fn a_header_whose_key_is_called_what_no_key_is_called_is_refused() {
    for id in ["", "\u{1b}[2J", "a b", &"a".repeat(129)] {
        let wrapped = Wrapped { id: id.into(), bytes: vec![1] };
        let head = written(&Header::of(&wrapped, None)).unwrap();
        let refused = opened(&hook(1), &[&head[..], &[0; 16]].concat());
        assert!(matches!(refused, Err(EncryptionError::Header { .. })), "{id:?}: {refused:?}");
    }
}

#[test]
fn every_byte_matters() {
    let sealed = sealed(300);
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(opened(&hook(1), &changed).is_err(), "byte {at}");
    }
}

#[test]
fn what_is_cut_off_added_or_put_in_another_order_is_found() {
    let (length, full) = (3 * CHUNK_BYTES + 5, CHUNK_BYTES + TAG_BYTES);
    let sealed = sealed(length);
    let (head, chunks) = sealed.split_at(start(&sealed));
    let chunks: Vec<&[u8]> = chunks.chunks(full).collect();
    let with = |order: &[usize]| {
        [head, &order.iter().flat_map(|at| chunks[*at]).copied().collect::<Vec<u8>>()].concat()
    };
    assert!(opened(&hook(1), &with(&[0, 1, 2, 3])).is_ok());
    for order in [&[1, 0, 2, 3][..], &[0, 1, 2], &[0, 1], &[], &[0, 2, 3], &[0, 1, 2, 2, 3], &[0, 1, 2, 3, 3]]
    {
        assert!(matches!(opened(&hook(1), &with(order)), Err(EncryptionError::Chunk { .. })), "{order:?}");
    }
    for length in 0..head.len() {
        assert!(
            matches!(opened(&hook(1), &sealed[..length]), Err(EncryptionError::Header { .. })),
            "{length}"
        );
    }
    for length in [sealed.len() - 1, sealed.len() - 6, head.len() + 1] {
        assert!(
            matches!(opened(&hook(1), &sealed[..length]), Err(EncryptionError::Chunk { .. })),
            "{length}"
        );
    }
    let other = self::sealed(length);
    let other = &other[start(&other)..];
    let mixed = [head, other].concat();
    assert!(
        matches!(opened(&hook(1), &mixed), Err(EncryptionError::Chunk { index: 0 })),
        "chunks of another file"
    );
}

#[test]
fn the_digest_of_the_content_is_not_in_it_and_no_two_are_alike() {
    let digest = estoppel_evidence::Sha256::of(&content(10)).hex();
    let [first, second] = [sealed(10), sealed(10)];
    assert!(!String::from_utf8_lossy(&first).contains(&digest));
    assert_ne!(first[start(&first)..], second[start(&second)..]);
}

proptest::proptest! {
    #[test]
    fn what_was_not_encrypted_is_refused(mut noise in proptest::collection::vec(0u8.., 0..300), cut in 0usize..40) {
        proptest::prop_assert!(opened(&hook(1), &noise).is_err());
        let sealed = sealed(20);
        let mut mixed = sealed[..cut].to_vec();
        mixed.append(&mut noise);
        proptest::prop_assert!(mixed == sealed || opened(&hook(1), &mixed).is_err());
    }
}

fn command(script: &str, timeout_ms: u64) -> CommandHook {
    let argv = ["sh", "-c", script].map(String::from).to_vec();
    CommandHook::new(argv, std::time::Duration::from_millis(timeout_ms)).unwrap()
}

#[test]
fn a_program_wraps_and_unwraps() {
    // It gives the key itself as what is wrapped, which is enough to be asked both ways.
    let script = r#"read line; case "$line" in
        *'"op":"wrap"'*) echo "$line" | sed 's/.*"key":"\([^"]*\)".*/{"id":"kms:7","wrapped":"\1"}/' ;;
        *'"id":"kms:7"'*) echo "$line" | sed 's/.*"wrapped":"\([^"]*\)".*/{"key":"\1"}/' ;;
        *) exit 1 ;; esac"#;
    let hook = command(script, 20_000);
    let mut sealed = Vec::new();
    encrypt(&hook, &mut &content(100)[..], &mut sealed).unwrap();
    let mut found = Vec::new();
    decrypt(&hook, &mut &sealed[..], &mut found).unwrap();
    assert_eq!(found, content(100));
}

#[test]
fn a_program_that_fails_hangs_or_talks_nonsense_is_no_key() {
    for (script, timeout_ms) in [
        ("exit 1", 20_000),
        ("sleep 60", 20),
        ("echo nonsense", 20_000),
        (r#"echo '{"id":"","wrapped":"AAAA"}'"#, 20_000),
        (r#"echo '{"id":"a\nb","wrapped":"AAAA"}'"#, 20_000),
        (r#"echo '{"id":"a","wrapped":"?"}'"#, 20_000),
        (r#"echo '{"key":"AAAA"}'"#, 20_000),
    ] {
        let hook = command(script, timeout_ms);
        let refused = encrypt(&hook, &mut &content(1)[..], &mut Vec::new());
        assert!(matches!(refused, Err(EncryptionError::Hook { .. })), "{script}: {refused:?}");
        let wrapped = Wrapped { id: "a".into(), bytes: vec![1] };
        let refused = hook.unwrap(&wrapped);
        assert!(matches!(refused, Err(EncryptionError::Hook { .. })), "{script}");
    }
}
