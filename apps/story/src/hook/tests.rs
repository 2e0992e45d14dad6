use super::*;

const SECRET: &[u8] = b"a secret of thirty-two bytes or more";
const NOW: u64 = 1_700_000_000;

fn hook() -> Hook {
    // Nothing listens on the discard port.
    Hook::new(SECRET, Log::new("127.0.0.1:9".parse().expect("an address"), "key".to_owned()))
}

fn asked(question: &Value, at: u64) -> Request<Bytes> {
    let body = question.to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Request::post("/story-hooks/publish")
        .header("Fireside-Signature", format!("t={at},v1={hex}"))
        .body(Bytes::from(body))
        .expect("a request")
}

fn question(role: &str, data: Value) -> Value {
    json!({ "hook": "publish", "user": "tobias", "channel": "story:lamp", "data": data, "meta": { "role": role } })
}

#[test]
fn a_signature_is_of_this_secret_and_body_and_of_now() {
    let header = "t=1700000000,v1=63cb1c436d494f6ba7d75662a41e2487f5efc1e73221692a0136c59dabc194df";
    let hook = hook();
    assert!(hook.is_signed(header, br#"{"a":1}"#, NOW + 300));
    assert!(!hook.is_signed(header, br#"{"a":1}"#, NOW + 301));
    assert!(!hook.is_signed(header, br#"{"a":2}"#, NOW));
    assert!(!hook.is_signed(&header.replace("17", "18"), br#"{"a":1}"#, NOW));
    for bad in
        ["", "t=1700000000", "t=x,v1=00", "t=1700000000,v1=", "t=1700000000,v1=0", "t=1700000000,v1=zz"]
    {
        assert!(!hook.is_signed(bad, br#"{"a":1}"#, NOW), "{bad}");
    }
}

#[tokio::test]
async fn every_writer_writes_and_only_a_host_names_the_story() {
    let title = json!({ "type": "title", "text": "The Lamp" });
    for (role, data, is_written) in [
        ("writer", json!({ "type": "paragraph", "id": "p", "text": "It blinked." }), true),
        ("host", title.clone(), true),
        ("writer", title, false),
        ("host", json!({ "type": "remove", "of": 3 }), true),
    ] {
        let answer = hook().answer(&asked(&question(role, data), NOW), NOW).await.expect("an answer");
        assert_eq!(answer.get("result").is_some(), is_written, "{answer}");
        assert_eq!(answer["error"]["code"] == AGAINST_THE_RULES, !is_written, "{answer}");
    }
}

#[tokio::test]
async fn what_cannot_be_looked_up_is_refused_for_now_and_nobody_else_is_answered() {
    let edit = question("writer", json!({ "type": "edit", "of": 3, "text": "x" }));
    let answer = hook().answer(&asked(&edit, NOW), NOW).await.expect("an answer");
    assert_eq!((&answer["error"]["code"], &answer["error"]["temporary"]), (&json!(NOT_NOW), &json!(true)));
    let mut forged = asked(&edit, NOW);
    *forged.body_mut() =
        Bytes::from(question("host", json!({ "type": "title", "text": "Mine" })).to_string());
    assert!(hook().answer(&forged, NOW).await.is_none());
}
