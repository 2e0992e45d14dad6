//! How a backend knows that a question is ours: an HMAC over the time and the body, in one header.

use aws_lc_rs::hmac;

/// The header that bears it.
pub(super) const HEADER: &str = "fireside-signature";

/// `t=<unix seconds>,v1=<hex of HMAC-SHA256 over "<unix seconds>.<body>">`.
pub(super) fn sign(key: &hmac::Key, now_s: u64, body: &[u8]) -> String {
    let mut signed = hmac::Context::with_key(key);
    signed.update(format!("{now_s}.").as_bytes());
    signed.update(body);
    let hex: String = signed.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={now_s},v1={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_covers_time_and_body() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"a secret of thirty-two bytes or more");
        // Made by: printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac 'a secret of thirty-two bytes or more'
        let known = "t=1700000000,v1=63cb1c436d494f6ba7d75662a41e2487f5efc1e73221692a0136c59dabc194df";
        assert_eq!(sign(&key, 1_700_000_000, br#"{"a":1}"#), known);
        assert_ne!(sign(&key, 1_700_000_001, br#"{"a":1}"#)[13..], known[13..]);
        assert_ne!(sign(&key, 1_700_000_000, br#"{"a":2}"#), known);
    }
}
