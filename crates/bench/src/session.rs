//! One client's session with the server, in Centrifuge JSON.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use crate::socket::Socket;

/// A session that is connected.
pub struct Session {
    /// Its connection.
    pub socket: Socket,
    next_id: u32,
}

impl Session {
    /// Connects with a token.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn connect(to: SocketAddr, index: u32, token: &str) -> Result<Session> {
        let mut session = Session { socket: Socket::open(to, index).await?, next_id: 0 };
        session.call(&format!(r#""connect":{{"token":"{token}"}}"#)).await?;
        Ok(session)
    }

    /// Connects and subscribes.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn subscriber(to: SocketAddr, index: u32, token: &str, channel: &str) -> Result<Session> {
        let mut session = Session::connect(to, index, token).await?;
        session.subscribe(channel).await?;
        Ok(session)
    }

    /// Subscribes.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn subscribe(&mut self, channel: &str) -> Result<()> {
        self.call(&format!(r#""subscribe":{{"channel":"{channel}"}}"#)).await?;
        Ok(())
    }

    /// Sends one command and waits for its reply. Nothing else may be under way.
    ///
    /// # Errors
    /// The server refuses, or sends something else.
    pub async fn call(&mut self, command: &str) -> Result<String> {
        self.next_id += 1;
        let begins = format!(r#"{{"id":{},"#, self.next_id);
        self.socket.send([format!("{begins}{command}}}").as_bytes()]).await?;
        let mut reply = String::new();
        while reply.is_empty() {
            let taken = self.socket.receive(|payload| {
                reply.push_str(std::str::from_utf8(payload)?);
                Ok(())
            });
            taken.await?;
        }
        ensure!(
            reply.starts_with(&begins) && !is_refusal(reply.as_bytes()),
            "{command} was answered {reply}"
        );
        Ok(reply)
    }
}

/// True for a reply that is an error.
pub fn is_refusal(reply: &[u8]) -> bool {
    let after_id = reply.iter().position(|byte| *byte == b',').map_or(reply, |comma| &reply[comma..]);
    after_id.starts_with(br#","error""#)
}

/// The number behind `name` in `message`, searched from the end: `"offset":7`, also as a text, `"n":"0007"`.
pub fn number_after(message: &[u8], name: &[u8]) -> Option<u64> {
    let at = message.windows(name.len()).rposition(|window| window == name)? + name.len();
    let mut digits = message[at..].iter().skip_while(|byte| matches!(byte, b':' | b'"')).peekable();
    digits.peek().filter(|byte| byte.is_ascii_digit())?;
    Some(digits.take_while(|byte| byte.is_ascii_digit()).fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_from_the_end() {
        let message = br#"{"push":{"channel":"a","pub":{"data":{"n":"0012","offset":1},"offset":34}}}"#;
        assert_eq!(number_after(message, br#""offset""#), Some(34));
        assert_eq!(number_after(message, br#""n""#), Some(12));
        assert_eq!(number_after(message, br#""m""#), None);
        assert_eq!(number_after(br#"{"n":x}"#, br#""n""#), None);
    }

    #[test]
    fn errors_are_known_by_their_place() {
        assert!(is_refusal(br#"{"id":1,"error":{"code":103}}"#));
        assert!(!is_refusal(br#"{"id":1,"rpc":{"data":{"error":1}}}"#));
    }
}
