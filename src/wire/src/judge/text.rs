//! JSON strings, read and written.

use crate::json::{Capture, Limits, Tokenizer, Visitor};

/// Collects the content of one string.
struct Content<'a>(&'a mut Vec<u8>, bool);

impl Visitor for Content<'_> {
    type Place = ();

    fn member(&mut self, _: (), _: &[u8]) -> Option<()> {
        None
    }

    fn element(&mut self, _: ()) -> Option<()> {
        None
    }

    fn string(&mut self, _: ()) -> Capture {
        self.1 = true;
        Capture::Take
    }

    fn text(&mut self, _: (), piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }
}

/// Appends what the JSON string `literal`, quotes included, stands for. Says whether it is one.
pub(super) fn decode(literal: &[u8], out: &mut Vec<u8>) -> bool {
    let mut content = Content(out, false);
    let mut tokenizer = Tokenizer::new(Limits::default(), Some(()));
    let read = tokenizer.feed(literal, &mut content).and_then(|()| tokenizer.finish(&mut content));
    read.is_ok() && content.1
}

/// Appends `text`, which is UTF-8, as a JSON string.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
