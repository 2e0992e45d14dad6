use super::*;
use http::header::HeaderMap;

const NOW: u64 = 4_000_000_000;

fn room() -> Story {
    Story::new(StoryConfig {
        token_secret: b"0123456789abcdef0123456789abcdef".to_vec(),
        token_audience: Some("fireside".to_owned()),
        // Nothing listens on the discard port: a story without an answer has no title.
        api_address: "127.0.0.1:9".parse().expect("an address"),
        api_key: "key".to_owned(),
        invite_secret: b"fedcba9876543210fedcba9876543210".to_vec(),
        hook_secret: b"a secret of thirty-two bytes or more".to_vec(),
        public_url: "http://127.0.0.1:8000/".to_owned(),
    })
}

fn get(path: &str) -> Request<Bytes> {
    Request::get(path).body(Bytes::new()).expect("a request")
}

fn post(call: &str, body: &Value) -> Request<Bytes> {
    Request::post(format!("/story-api/{call}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Bytes::from(body.to_string()))
        .expect("a request")
}

async fn call(room: &Story, name: &str, body: Value, now: u64) -> (StatusCode, Value) {
    let response = room.call(name, &post(name, &body), now).await;
    let value = serde_json::from_slice(response.body()).expect("JSON");
    (response.status(), value)
}

fn invitation(room: &Story, story: &str, role: Role, now: u64) -> String {
    let link = room.invitation_link(story, role, now).expect("a link");
    link.split_once("#invite=").expect("a fragment").1.to_owned()
}

/// The claims of a token that the room has just signed; the signature is Fireside's to check.
fn claims(token: &Value) -> Value {
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    rules.validate_exp = false;
    rules.set_audience(&["fireside"]);
    let key = jsonwebtoken::DecodingKey::from_secret(b"0123456789abcdef0123456789abcdef");
    jsonwebtoken::decode(token.as_str().expect("a token"), &key, &rules).expect("signed").claims
}

fn guarded(headers: &HeaderMap) -> bool {
    headers[header::X_CONTENT_TYPE_OPTIONS] == "nosniff"
        && headers[header::REFERRER_POLICY] == "no-referrer"
        && headers[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .is_ok_and(|policy| policy.starts_with("default-src 'none'") && !policy.contains("unsafe"))
}

#[tokio::test]
async fn an_invitation_lets_a_named_person_in_with_its_role() {
    let room = room();
    let invite = invitation(&room, "lamp", Role::Writer, NOW);
    let (status, joined) = call(&room, "join", json!({ "invite": invite, "name": " Mara " }), NOW).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(joined["name"], "Mara");
    assert_eq!(joined["role"], "writer");
    let token = claims(&joined["token"]);
    assert_eq!(token["sub"], joined["user"]);
    assert_eq!(token["exp"], NOW + 900);
    assert_eq!(token["info"], json!({ "name": "Mara", "role": "writer" }));
    assert_eq!(
        token["caps"],
        json!([{ "rooms": ["story:lamp"],
                 "allow": ["subscribe", "history", "presence", "publish", "ai.start", "ai.cancel.own"] }])
    );
}

#[tokio::test]
async fn a_reader_may_publish_only_to_chat_and_live() {
    let room = room();
    let invite = invitation(&room, "lamp", Role::Reader, NOW);
    let (_, joined) = call(&room, "join", json!({ "invite": invite, "name": "Isolde" }), NOW).await;
    assert_eq!(
        claims(&joined["token"])["caps"],
        json!([
            { "rooms": ["story:lamp"], "allow": ["subscribe", "history", "presence"] },
            { "channels": ["story:lamp/chat", "story:lamp/live"], "allow": ["publish"] },
        ])
    );
}

#[tokio::test]
async fn the_same_device_is_the_same_person_again_and_never_loses_a_role() {
    let room = room();
    let as_host = invitation(&room, "lamp", Role::Host, NOW);
    let (_, first) = call(&room, "join", json!({ "invite": as_host, "name": "Mara" }), NOW).await;
    let (_, again) = call(&room, "session", json!({ "session": first["session"] }), NOW + 60).await;
    assert_eq!(again["user"], first["user"]);
    let as_reader = invitation(&room, "lamp", Role::Reader, NOW);
    let body = json!({ "invite": as_reader, "name": "Somebody", "session": first["session"] });
    let (_, back) = call(&room, "join", body, NOW + 60).await;
    assert_eq!(
        (&back["user"], &back["name"], &back["role"]),
        (&first["user"], &first["name"], &first["role"])
    );
    let elsewhere = invitation(&room, "other", Role::Reader, NOW);
    let body = json!({ "invite": elsewhere, "name": "Mara", "session": first["session"] });
    let (_, other) = call(&room, "join", body, NOW + 60).await;
    assert_ne!(other["user"], first["user"], "a session of one story says nothing in another");
    assert_eq!(other["role"], "reader");
}

#[tokio::test]
async fn what_has_expired_or_was_signed_for_something_else_is_refused() {
    let room = room();
    let invite = invitation(&room, "lamp", Role::Writer, NOW);
    let late = NOW + INVITATION_SECONDS;
    let (status, refusal) = call(&room, "join", json!({ "invite": invite, "name": "Mara" }), late).await;
    assert_eq!((status, refusal["code"].as_str()), (StatusCode::FORBIDDEN, Some("invitation")));
    let (status, _) = call(&room, "session", json!({ "session": invite }), NOW).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "an invitation is no session");
    let (_, joined) = call(&room, "join", json!({ "invite": invite, "name": "Mara" }), NOW).await;
    let (status, _) = call(&room, "join", json!({ "invite": joined["session"], "name": "Mara" }), NOW).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "a session is no invitation");
    let (status, _) = call(&room, "join", json!({ "invite": joined["token"], "name": "Mara" }), NOW).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "a token is no invitation");
}

#[tokio::test]
async fn nobody_gives_a_greater_role_than_their_own() {
    let room = room();
    let invite = invitation(&room, "lamp", Role::Writer, NOW);
    let (_, joined) = call(&room, "join", json!({ "invite": invite, "name": "Tobias" }), NOW).await;
    let session = &joined["session"];
    let (status, given) = call(&room, "invite", json!({ "session": session, "role": "writer" }), NOW).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        given["link"]
            .as_str()
            .is_some_and(|link| link.starts_with("http://127.0.0.1:8000/story/lamp#invite="))
    );
    let (status, _) = call(&room, "invite", json!({ "session": session, "role": "host" }), NOW).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn whoever_begins_a_story_is_its_host() {
    let room = room();
    let (status, begun) = call(&room, "stories", json!({ "name": "Mara" }), NOW).await;
    assert_eq!((status, begun["role"].as_str()), (StatusCode::OK, Some("host")));
    let (status, refusal) = call(&room, "stories", json!({ "name": "  " }), NOW).await;
    assert_eq!((status, refusal["code"].as_str()), (StatusCode::BAD_REQUEST, Some("name")));
}

#[tokio::test]
async fn every_answer_is_guarded_and_files_never_change() {
    let room = room();
    let page = room.handle(get("/story/lamp")).await;
    assert_eq!(page.status(), StatusCode::OK);
    assert!(guarded(page.headers()));
    assert_eq!(page.headers()[header::CACHE_CONTROL], "no-cache");
    let html = std::str::from_utf8(page.body()).expect("text");
    let mut files = 0;
    for (at, _) in html.match_indices("/assets/") {
        let path: String = html[at..].chars().take_while(|&letter| letter != '"').collect();
        let file = room.handle(get(&path)).await;
        assert_eq!(file.status(), StatusCode::OK, "{path}");
        assert!(guarded(file.headers()));
        assert!(
            file.headers()[header::CACHE_CONTROL].to_str().is_ok_and(|caching| caching.contains("immutable"))
        );
        let mut again = get(&path);
        again.headers_mut().insert(header::IF_NONE_MATCH, file.headers()[header::ETAG].clone());
        assert_eq!(room.handle(again).await.status(), StatusCode::NOT_MODIFIED);
        files += 1;
    }
    assert!(files >= 3, "a script, a style and a font at least");
    for path in ["/story/", "/story/a/b", "/assets/../Cargo.toml", "/assets/", "/story-api"] {
        let answer = room.handle(get(path)).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert!(guarded(answer.headers()));
    }
    assert_eq!(room.handle(get("/story-api/join")).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_call_that_is_not_json_or_too_large_is_refused() {
    let room = room();
    let form = Request::post("/story-api/join").body(Bytes::from_static(b"invite=x")).expect("a request");
    assert_eq!(room.handle(form).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let (status, _) = call(&room, "join", json!({ "invite": "x".repeat(BODY_BYTES_MAX) }), NOW).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = call(&room, "join", json!([1]), NOW).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = call(&room, "nothing", json!({}), NOW).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[test]
fn ids_are_readable_and_differ() {
    let one = Story::first_story_id().expect("randomness");
    let other = Story::first_story_id().expect("randomness");
    assert_ne!(one, other);
    assert!(one.len() == 12 && one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
}
