//! Numbers and texts as bytes: little-endian, varints as in LEB128, every read checked against what is there.

use std::sync::Arc;

use bytes::Bytes;

/// Bytes that are not what they should be; says which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed {}", self.0)
    }
}

/// What can be appended to a buffer.
pub(crate) trait Put {
    fn put_u8(&mut self, n: u8);
    fn put_u32(&mut self, n: u32);
    fn put_u64(&mut self, n: u64);
    fn put_u128(&mut self, n: u128);
    fn put_varint(&mut self, n: u64);
    fn put_bytes(&mut self, bytes: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, n: u8) {
        self.push(n);
    }

    fn put_u32(&mut self, n: u32) {
        self.extend_from_slice(&n.to_le_bytes());
    }

    fn put_u64(&mut self, n: u64) {
        self.extend_from_slice(&n.to_le_bytes());
    }

    fn put_u128(&mut self, n: u128) {
        self.extend_from_slice(&n.to_le_bytes());
    }

    fn put_varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.push(n as u8);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }
}

/// Reads what [`Put`] wrote; slices share the memory they were read into.
pub(crate) struct Reader {
    data: Bytes,
    at: usize,
}

type Got<T> = Result<T, Malformed>;

impl Reader {
    pub fn new(data: Bytes) -> Self {
        Reader { data, at: 0 }
    }

    pub fn left(&self) -> usize {
        self.data.len() - self.at
    }

    pub fn take(&mut self, len: usize, what: &'static str) -> Got<Bytes> {
        if len > self.left() {
            return Err(Malformed(what));
        }
        let slice = self.data.slice(self.at..self.at + len);
        self.at += len;
        Ok(slice)
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Got<[u8; N]> {
        let end = self.at.checked_add(N).filter(|end| *end <= self.data.len()).ok_or(Malformed(what))?;
        let mut out = [0; N];
        out.copy_from_slice(&self.data[self.at..end]);
        self.at = end;
        Ok(out)
    }

    pub fn u8(&mut self, what: &'static str) -> Got<u8> {
        Ok(self.array::<1>(what)?[0])
    }

    pub fn u32(&mut self, what: &'static str) -> Got<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub fn u64(&mut self, what: &'static str) -> Got<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub fn u128(&mut self, what: &'static str) -> Got<u128> {
        Ok(u128::from_le_bytes(self.array(what)?))
    }

    pub fn varint(&mut self, what: &'static str) -> Got<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(Malformed(what));
            }
            n |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(Malformed(what))
    }

    pub fn bytes(&mut self, what: &'static str) -> Got<Bytes> {
        let len = self.varint(what)?;
        self.take(usize::try_from(len).map_err(|_| Malformed(what))?, what)
    }

    pub fn text(&mut self, what: &'static str) -> Got<Arc<str>> {
        let bytes = self.bytes(what)?;
        std::str::from_utf8(&bytes).map(Arc::from).map_err(|_| Malformed(what))
    }

    /// How many items may follow, given that each takes at least `least` bytes: a bound for what is allocated.
    pub fn count(&mut self, least: usize, what: &'static str) -> Got<usize> {
        let n = usize::try_from(self.varint(what)?).map_err(|_| Malformed(what))?;
        if n.saturating_mul(least) > self.left() {
            return Err(Malformed(what));
        }
        Ok(n)
    }

    pub fn end(&self, what: &'static str) -> Got<()> {
        if self.left() == 0 { Ok(()) } else { Err(Malformed(what)) }
    }
}
