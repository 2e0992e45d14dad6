//! The form a message is written in: one description of what is said, written as JSON or as Protobuf.

use crate::object::Object;

/// A field of a message: its name in JSON and its number in Protobuf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field(pub(crate) &'static str, pub(crate) u32);

/// A message being written. Zero values are left out, as both forms have it, unless a method says otherwise.
pub(crate) trait Form {
    /// A text.
    fn text(&mut self, field: Field, text: &str);

    /// A text that JSON shows even when it is empty; Protobuf cannot tell the two apart.
    fn exact_text(&mut self, field: Field, text: &str);

    /// A number.
    fn number(&mut self, field: Field, number: u64);

    /// A number that JSON shows even when it is zero.
    fn exact_number(&mut self, field: Field, number: u64);

    /// A truth value.
    fn flag(&mut self, field: Field, flag: bool);

    /// A finished JSON value: embedded in JSON, as bytes in Protobuf. Left out when there are no bytes.
    fn body(&mut self, field: Field, json: &[u8]);

    /// A message, there even when it is empty.
    fn message(&mut self, field: Field, fill: impl FnOnce(&mut Self));

    /// A list of messages.
    fn messages<T>(
        &mut self,
        field: Field,
        items: impl IntoIterator<Item = T>,
        fill: impl FnMut(&mut Self, T),
    );

    /// Messages by names that are data, such as a channel's; JSON shows the map even when it is empty.
    fn map<'k, T>(
        &mut self,
        field: Field,
        entries: impl IntoIterator<Item = (&'k str, T)>,
        fill: impl FnMut(&mut Self, T),
    );

    /// Texts by names that are data, such as a tag's.
    fn texts<'k>(&mut self, field: Field, entries: impl IntoIterator<Item = (&'k str, &'k str)>);
}

impl Form for Object<'_> {
    fn text(&mut self, field: Field, text: &str) {
        Object::text(self, field.0, text);
    }

    fn exact_text(&mut self, field: Field, text: &str) {
        Object::exact_text(self, field.0, text);
    }

    fn number(&mut self, field: Field, number: u64) {
        Object::number(self, field.0, number);
    }

    fn exact_number(&mut self, field: Field, number: u64) {
        Object::exact_number(self, field.0, number);
    }

    fn flag(&mut self, field: Field, flag: bool) {
        Object::flag(self, field.0, flag);
    }

    fn body(&mut self, field: Field, json: &[u8]) {
        Object::json(self, field.0, json);
    }

    fn message(&mut self, field: Field, fill: impl FnOnce(&mut Self)) {
        Object::object(self, field.0, fill);
    }

    fn messages<T>(
        &mut self,
        field: Field,
        items: impl IntoIterator<Item = T>,
        fill: impl FnMut(&mut Self, T),
    ) {
        self.objects(field.0, items, fill);
    }

    fn map<'k, T>(
        &mut self,
        field: Field,
        entries: impl IntoIterator<Item = (&'k str, T)>,
        mut fill: impl FnMut(&mut Self, T),
    ) {
        Object::object(self, field.0, |o| {
            entries.into_iter().for_each(|(name, value)| o.entry(name, |o| fill(o, value)));
        });
    }

    fn texts<'k>(&mut self, field: Field, entries: impl IntoIterator<Item = (&'k str, &'k str)>) {
        Object::object(self, field.0, |o| {
            entries.into_iter().for_each(|(name, text)| o.text_entry(name, text))
        });
    }
}
