//! Writes a line's JSON (RFC 8785) in one pass, for the few kinds of values that entries have.
//!
//! Members come in canonical order from the structs themselves, and their names need no escape, so a line costs little
//! more than copying it. `serde_json` writes the same bytes (a property test says so) at several times the price: it
//! looks for escapes in every name and formats every value in pieces.

use std::fmt;
use std::io::Write as _;

use serde::ser::{Impossible, SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

use super::INTEGER_MAX;

/// An entry has a kind of value that lines cannot hold: a mistake of ours, never of input's.
#[derive(Debug, thiserror::Error)]
#[error("{0} cannot stand in an entry")]
pub(super) struct Unwritable(String);

impl serde::ser::Error for Unwritable {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Appends `value` to `out`.
pub(super) fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Unwritable> {
    value.serialize(Line { out })
}

/// Methods of [`Serializer`] for kinds of values that no entry has.
macro_rules! unwritable {
    ($($method:ident($($type:ty),*) -> $ok:ty;)*) => {
        $(fn $method(self, $(_: $type),*) -> Result<$ok, Unwritable> {
            Err(Unwritable(stringify!($method).replace("serialize_", "")))
        })*
    };
}

struct Line<'a> {
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    fn number(self, number: impl itoa::Integer) -> Result<(), Unwritable> {
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        Ok(())
    }
}

/// An array or an object that is being written.
struct Open<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Open<'_> {
    fn separate(&mut self) {
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(b',');
        }
    }
}

impl SerializeSeq for Open<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unwritable> {
        self.separate();
        write(self.out, value)
    }

    fn end(self) -> Result<(), Unwritable> {
        self.out.push(b']');
        Ok(())
    }
}

impl SerializeStruct for Open<'_> {
    type Ok = ();
    type Error = Unwritable;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        debug_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        write(self.out, value)
    }

    fn end(self) -> Result<(), Unwritable> {
        self.out.push(b'}');
        Ok(())
    }
}

fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |plain, b| plain & (b >= 0x20) & (b != b'"') & (b != b'\\'))
}

impl<'a> Serializer for Line<'a> {
    type Ok = ();
    type Error = Unwritable;
    type SerializeSeq = Open<'a>;
    type SerializeStruct = Open<'a>;
    type SerializeTuple = Impossible<(), Unwritable>;
    type SerializeTupleStruct = Impossible<(), Unwritable>;
    type SerializeTupleVariant = Impossible<(), Unwritable>;
    type SerializeMap = Impossible<(), Unwritable>;
    type SerializeStructVariant = Impossible<(), Unwritable>;

    fn serialize_str(self, text: &str) -> Result<(), Unwritable> {
        if !is_plain(text) {
            return serde_json::to_writer(self.out, text).map_err(serde::ser::Error::custom);
        }
        self.out.reserve(text.len() + 2);
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
        Ok(())
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Unwritable> {
        self.serialize_str(&value.to_string())
    }

    fn serialize_bool(self, value: bool) -> Result<(), Unwritable> {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Unwritable> {
        self.number(value)
    }

    fn serialize_u32(self, value: u32) -> Result<(), Unwritable> {
        self.number(value)
    }

    fn serialize_u64(self, value: u64) -> Result<(), Unwritable> {
        self.number(value.min(INTEGER_MAX))
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Unwritable> {
        write!(self.out, "\"{variant}\"").map_err(serde::ser::Error::custom)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unwritable> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unwritable> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open<'a>, Unwritable> {
        self.out.push(b'[');
        Ok(Open { out: self.out, first: true })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Open<'a>, Unwritable> {
        self.out.push(b'{');
        Ok(Open { out: self.out, first: true })
    }

    fn serialize_none(self) -> Result<(), Unwritable> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Result<(), Unwritable> {
        Err(Unwritable(format!("the variant `{variant}` with a value")))
    }

    unwritable! {
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u8(u8) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        OneOf,
    }

    #[derive(Serialize)]
    struct Id(u64);

    #[derive(Serialize)]
    struct Entry<'a> {
        absent: Option<u64>,
        flag: bool,
        id: Id,
        kind: Kind,
        list: &'a [&'a str],
        #[serde(skip_serializing_if = "Option::is_none")]
        skipped: Option<u64>,
        status: u16,
        text: &'a str,
    }

    proptest! {
        #[test]
        fn it_writes_what_serde_json_writes(text in "\\PC*|[\\x00-\\x7f]*", flag: bool, id in 0..=INTEGER_MAX, status: u16, n in 0..3usize) {
            let list = [&*text, "plain"];
            let list = &list[..n.min(2)];
            let (kind, id) = (Kind::OneOf, Id(id));
            let entry = Entry { absent: None, flag, id, kind, list, skipped: None, status, text: &text };
            let mut line = Vec::new();
            write(&mut line, &entry).unwrap();
            prop_assert_eq!(String::from_utf8(line).unwrap(), serde_json::to_string(&entry).unwrap());
        }
    }

    #[test]
    fn kinds_that_no_entry_has_are_refused() {
        for refused in
            [write(&mut Vec::new(), &1.5), write(&mut Vec::new(), &-1i64), write(&mut Vec::new(), &())]
        {
            assert!(refused.is_err());
        }
    }
}
