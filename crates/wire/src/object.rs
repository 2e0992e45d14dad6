//! Writes compact JSON objects in which zero values are left out.

/// An object being written: knows whether a comma is due.
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    fresh: bool,
}

/// Appends an object with the fields that `fill` writes.
pub(crate) fn object(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    fill(&mut Object { out: &mut *out, fresh: true });
    out.push(b'}');
}

impl Object<'_> {
    /// A text; left out when empty.
    pub(crate) fn text(&mut self, name: &'static str, text: &str) {
        if !text.is_empty() {
            self.exact_text(name, text);
        }
    }

    /// A text, be it empty.
    pub(crate) fn exact_text(&mut self, name: &'static str, text: &str) {
        put(self.field(name), text);
    }

    /// A number; left out when zero.
    pub(crate) fn number(&mut self, name: &'static str, number: u64) {
        if number != 0 {
            self.exact_number(name, number);
        }
    }

    /// A number, be it zero.
    pub(crate) fn exact_number(&mut self, name: &'static str, number: u64) {
        put(self.field(name), &number);
    }

    /// A truth value; left out when false.
    pub(crate) fn flag(&mut self, name: &'static str, flag: bool) {
        if flag {
            self.exact_flag(name, true);
        }
    }

    /// A truth value, be it false.
    pub(crate) fn exact_flag(&mut self, name: &'static str, flag: bool) {
        put(self.field(name), &flag);
    }

    /// A finished JSON value; left out when there are no bytes.
    pub(crate) fn json(&mut self, name: &'static str, json: &[u8]) {
        if !json.is_empty() {
            self.field(name).extend_from_slice(json);
        }
    }

    /// An object, be it empty.
    pub(crate) fn object(&mut self, name: &'static str, fill: impl FnOnce(&mut Self)) {
        self.field(name);
        self.inner(fill);
    }

    /// An object under a name that is data, such as a channel's.
    pub(crate) fn entry(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.comma();
        put(self.out, name);
        self.out.push(b':');
        self.inner(fill);
    }

    /// A text under a name that is data, such as a tag's.
    pub(crate) fn text_entry(&mut self, name: &str, text: &str) {
        self.comma();
        put(self.out, name);
        self.out.push(b':');
        put(self.out, text);
    }

    /// A list of texts, be it empty.
    pub(crate) fn texts(&mut self, name: &'static str, texts: &[String]) {
        put(self.field(name), texts);
    }

    /// A list of objects, be it empty.
    pub(crate) fn objects<T>(
        &mut self,
        name: &'static str,
        items: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Self, T),
    ) {
        self.field(name).push(b'[');
        for (n, item) in items.into_iter().enumerate() {
            if n > 0 {
                self.out.push(b',');
            }
            self.inner(|o| fill(o, item));
        }
        self.out.push(b']');
    }

    /// Writes an object inside this one, whose value is due.
    fn inner(&mut self, fill: impl FnOnce(&mut Self)) {
        self.out.push(b'{');
        self.fresh = true;
        fill(self);
        self.fresh = false;
        self.out.push(b'}');
    }

    fn field(&mut self, name: &'static str) -> &mut Vec<u8> {
        self.comma();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn comma(&mut self) {
        if !std::mem::take(&mut self.fresh) {
            self.out.push(b',');
        }
    }
}

fn put<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, scalar: &T) {
    serde_json::to_writer(out, scalar).expect("a Vec takes every write, and scalars always serialise");
}
