//! Writes Protobuf messages in which zero values are left out.

use crate::form::{Field, Form};

/// Wire types (Protobuf encoding guide, "Message Structure").
const VARINT: u32 = 0;
const DELIMITED: u32 = 2;

/// A message being written.
pub(super) struct Message<'a> {
    out: &'a mut Vec<u8>,
}

/// Appends a message behind its own length, as each message of a frame stands.
pub(super) fn message(out: &mut Vec<u8>, fill: impl FnOnce(&mut Message<'_>)) {
    Message { out }.delimited(fill);
}

impl Message<'_> {
    fn key(&mut self, number: u32, wire_type: u32) {
        put_varint(self.out, u64::from(number << 3 | wire_type));
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.key(number, DELIMITED);
        put_varint(self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn nested(&mut self, number: u32, fill: impl FnOnce(&mut Self)) {
        self.key(number, DELIMITED);
        self.delimited(fill);
    }

    /// Writes what `fill` writes behind its length. Most messages are shorter than 128 bytes and their length is one byte; what is
    /// longer is moved once it is known how long it is.
    fn delimited(&mut self, fill: impl FnOnce(&mut Self)) {
        let at = self.out.len();
        self.out.push(0);
        fill(self);
        let len = self.out.len() - at - 1;
        if len < 0x80 {
            self.out[at] = len as u8;
            return;
        }
        let mut prefix = Vec::with_capacity(5);
        put_varint(&mut prefix, len as u64);
        self.out.splice(at..=at, prefix);
    }
}

impl Form for Message<'_> {
    fn text(&mut self, field: Field, text: &str) {
        self.body(field, text.as_bytes());
    }

    fn exact_text(&mut self, field: Field, text: &str) {
        self.text(field, text);
    }

    fn number(&mut self, field: Field, number: u64) {
        if number != 0 {
            self.key(field.1, VARINT);
            put_varint(self.out, number);
        }
    }

    fn exact_number(&mut self, field: Field, number: u64) {
        self.number(field, number);
    }

    fn flag(&mut self, field: Field, flag: bool) {
        self.number(field, flag.into());
    }

    fn body(&mut self, field: Field, json: &[u8]) {
        if !json.is_empty() {
            self.bytes(field.1, json);
        }
    }

    fn message(&mut self, field: Field, fill: impl FnOnce(&mut Self)) {
        self.nested(field.1, fill);
    }

    fn messages<T>(
        &mut self,
        field: Field,
        items: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Self, T),
    ) {
        items.into_iter().for_each(|item| self.nested(field.1, |o| fill(o, item)));
    }

    fn map<'k, T>(
        &mut self,
        field: Field,
        entries: impl IntoIterator<Item = (&'k str, T)>,
        mut fill: impl FnMut(&mut Self, T),
    ) {
        for (name, value) in entries {
            self.nested(field.1, |entry| {
                entry.bytes(1, name.as_bytes());
                entry.nested(2, |o| fill(o, value));
            });
        }
    }

    fn texts<'k>(&mut self, field: Field, entries: impl IntoIterator<Item = (&'k str, &'k str)>) {
        for (name, text) in entries {
            self.nested(field.1, |entry| {
                entry.bytes(1, name.as_bytes());
                entry.bytes(2, text.as_bytes());
            });
        }
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
