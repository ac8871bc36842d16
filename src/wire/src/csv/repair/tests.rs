use proptest::prelude::*;

use super::*;
use crate::csv::{Field, Form, Limits, Reader, Visitor};
use crate::splits::every_split;

fn repair(chunks: &[&[u8]]) -> (Vec<u8>, Vec<Edit>) {
    let mut repair = Repair::new(Delimiter::Comma, EDITS_MAX);
    let mut out = Vec::new();
    chunks.iter().for_each(|chunk| repair.feed(chunk, &mut out).unwrap());
    repair.finish(&mut out).unwrap();
    (out, repair.edits().to_vec())
}

/// What the edits make of the body.
fn replay(body: &[u8], edits: &[Edit]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    for edit in edits {
        let offset = usize::try_from(edit.offset).unwrap();
        out.extend_from_slice(&body[at..offset]);
        out.extend_from_slice(edit.inserted);
        at = offset + usize::from(edit.deleted);
    }
    out.extend_from_slice(&body[at..]);
    out
}

/// Repairs the whole, and asserts what is promised of every repair.
fn check(body: &[u8]) -> (Vec<u8>, Vec<Edit>) {
    let whole = repair(&[body]);
    every_split(body, |chunks| assert_eq!(repair(chunks), whole, "{chunks:?}"));
    assert_eq!(replay(body, &whole.1), whole.0, "the edits are the difference");
    assert_eq!(repair(&[&whole.0]), (whole.0.clone(), Vec::new()), "twice is once");
    whole
}

struct Any;

impl Visitor for Any {
    fn field(&mut self, _: u32, _: Field<'_>) -> Result<(), Finding> {
        Ok(())
    }
}

fn well_formed(body: &[u8]) -> bool {
    let mut reader = Reader::new(Form::default(), Limits::default());
    reader.feed(body, &mut Any).is_ok() && reader.finish(&mut Any).is_ok()
}

#[test]
fn each_edit_is_made_and_listed() {
    let (out, edits) = check(b"\xef\xbb\xbfa,b\r\n1,\"x\ny\"\n2,3\r\n4,5");
    assert_eq!(out, b"a,b\r\n1,\"x\ny\"\r\n2,3\r\n4,5");
    let edit = |offset, class, deleted, inserted| Edit { offset, class, deleted, inserted };
    let expected = [edit(0, EditClass::ByteOrderMark, 3, b""), edit(15, EditClass::LineEnd, 0, b"\r")];
    assert_eq!(edits, expected);
    assert!(well_formed(&out));
    let (out, edits) = check(b"a\n1\r\n\"2\"\r\n3\n");
    assert_eq!(out, b"a\n1\n\"2\"\n3\n");
    assert_eq!(edits, [edit(3, EditClass::LineEnd, 1, b""), edit(8, EditClass::LineEnd, 1, b"")]);
}

#[test]
fn what_is_well_formed_is_left_alone() {
    for body in [
        &b"a,b\n1,2\n"[..],
        b"a\r\n\"x\ny\"\r\n",
        b"a\n\"x\r\ny\"\n",
        b"a\n\"\"\"\"\n",
        "\"ä\"\nß\n".as_bytes(),
    ] {
        assert_eq!(check(body), (body.to_vec(), Vec::new()));
    }
}

#[test]
fn nothing_else_is_repaired() {
    let bodies: [&[u8]; 10] = [
        b"",
        b"a\r1\r",
        b"a\r\r\n1\r\r\n",
        b"a\n\"1",
        b"a\n\"1\r",
        b"a\n1\r",
        b"a\n\"x\ry\"\n",
        b"a\n\n1\n",
        b"a\n1\r\r\n",
        b"a\n\"1\"x\"\n",
    ];
    for body in bodies {
        assert_eq!(check(body), (body.to_vec(), Vec::new()), "{body:?}");
        assert!(!well_formed(body), "{body:?}");
    }
}

#[test]
fn marks_are_removed_wherever_the_body_begins_again_with_one() {
    assert_eq!(check(b"\xef\xbb\xbf\xef\xbb\xbfa\n").0, b"a\n");
    assert_eq!(check(b"\xef\xbb\xbf").0, b"");
    assert_eq!(check(b"\xef\xbba\n").0, b"\xef\xbba\n");
    assert_eq!(check(b"\xef\xbb").0, b"\xef\xbb");
    assert_eq!(check(b"\xef\xbb\xbf\"a\nb\"\r\n1\n").0, b"\"a\nb\"\r\n1\r\n");
}

#[test]
fn more_edits_than_allowed_end_it() {
    let mut repair = Repair::new(Delimiter::Comma, 2);
    let mut out = Vec::new();
    repair.feed(b"a\n1\r\n2\r\n", &mut out).unwrap();
    assert_eq!(repair.feed(b"3\r\n", &mut out), Err(Finding::EditsMax));
    assert_eq!(repair.feed(b"4\n", &mut out), Err(Finding::EditsMax));
    assert_eq!(repair.finish(&mut out), Err(Finding::EditsMax));
    assert_eq!(repair.edits().len(), 2);
}

proptest! {
    #[test]
    fn any_bytes_keep_the_promises(pieces in proptest::collection::vec(
        prop_oneof![
            4 => Just(&b"a"[..]), 2 => Just(&b","[..]), 3 => Just(&b"\n"[..]), 3 => Just(&b"\r\n"[..]), 1 => Just(&b"\r"[..]),
            3 => Just(&b"\""[..]), 1 => Just(&b"\xef\xbb\xbf"[..]), 1 => Just(&b"\xef"[..]), 1 => Just(&b"\x00"[..]),
        ],
        0..24,
    )) {
        let body = pieces.concat();
        let (out, _) = check(&body);
        if well_formed(&body) {
            prop_assert_eq!(out, body);
        }
    }
}
