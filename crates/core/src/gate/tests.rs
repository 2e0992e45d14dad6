//! Stories at the gate.

use std::sync::Arc;

use super::*;
use crate::command::Connect;
use crate::hook::{Answer, Grant, Unanswered};
use crate::limits;
use crate::namespace::{Retention, Who};
use crate::refusal::Disconnect;

const NOW_MS: u64 = 1_800_000_000_000;

fn story() -> Namespace {
    Namespace {
        history: Some(Retention { records: 100, bytes: 1 << 20, age_ms: u64::MAX }),
        presence: true,
        run: Some(crate::namespace::RunPolicy::default()),
        ..Namespace::closed("story")
    }
}

fn gate_with(spaces: Vec<Namespace>, rules: Rules) -> Gate {
    Gate::new(Namespaces::new(spaces.into_iter().map(Arc::new).collect()), rules)
}

fn gate() -> Gate {
    gate_with(vec![story(), Namespace::closed("story/live")], Rules::default())
}

fn claims(user: &str, caps: Vec<Capability>) -> Claims {
    Claims { user: user.into(), expires_s: Some(NOW_MS / 1000 + 3600), caps, ..Claims::default() }
}

fn room(allow: Rights) -> Vec<Capability> {
    vec![Capability { rooms: vec!["story:42".into()], channels: Vec::new(), allow }]
}

fn principal(gate: &Gate, claims: Claims) -> Arc<Principal> {
    connect(gate, Some(claims), "client").unwrap()
}

fn connect(gate: &Gate, claims: Option<Claims>, client: &str) -> Result<Arc<Principal>, Denial> {
    let verdict = gate.connect(&Connect::default(), claims, client, NOW_MS)?;
    Ok(verdict.at_once().map_err(Denial::Refused)?.principal)
}

fn caller(principal: &Arc<Principal>) -> Caller<'_> {
    Caller { principal, now_ms: NOW_MS, subscribed: false, bucket: None, trace: None }
}

fn publish(
    gate: &Gate,
    who: &Arc<Principal>,
    channel: &str,
    key: Option<&str>,
) -> Result<Admitted<Write>, Code> {
    let asked = Publish {
        channel: channel.into(),
        body: Bytes::from_static(b"{}"),
        key: key.map(str::to_owned),
        ..Publish::default()
    };
    gate.publish(caller(who), asked).and_then(Verdict::at_once).map_err(|refusal| refusal.code)
}

fn subscribe(gate: &Gate, who: &Arc<Principal>, channel: &str) -> Result<(), Code> {
    let asked = Subscribe { channel: channel.into(), ..Subscribe::default() };
    gate.subscribe(caller(who), asked, None)
        .and_then(Verdict::at_once)
        .map(drop)
        .map_err(|refusal| refusal.code)
}

#[test]
fn nothing_is_allowed_unless_something_allows_it() {
    let gate = gate();
    let anna = principal(&gate, claims("anna", Vec::new()));
    assert_eq!(subscribe(&gate, &anna, "story:42"), Err(Code::PermissionDenied));
    assert_eq!(publish(&gate, &anna, "story:42", None).unwrap_err(), Code::PermissionDenied);
    assert_eq!(subscribe(&gate, &anna, "nowhere:42"), Err(Code::UnknownChannel));
    assert_eq!(subscribe(&gate, &anna, "story:42/../43"), Err(Code::BadRequest));
}

#[test]
fn a_room_covers_the_channel_and_all_under_its_name() {
    let gate = gate();
    let anna = principal(&gate, claims("anna", room(Rights::SUBSCRIBE.and(Rights::PUBLISH))));
    for channel in ["story:42", "story:42/chat", "story:42/live", "story:42/run/7"] {
        assert_eq!(subscribe(&gate, &anna, channel), Ok(()), "{channel}");
    }
    assert_eq!(subscribe(&gate, &anna, "story:420"), Err(Code::PermissionDenied));
    assert!(publish(&gate, &anna, "story:42/chat", None).is_ok());
}

#[test]
fn c10_nobody_writes_into_the_log_of_a_run() {
    let gate = gate();
    let anna = principal(&gate, claims("anna", room(Rights::ALL)));
    assert_eq!(publish(&gate, &anna, "story:42/run/7", None).unwrap_err(), Code::PermissionDenied);
    let backend = Principal::backend("backend");
    assert_eq!(publish(&gate, &backend, "story:42/run/7", None).unwrap_err(), Code::PermissionDenied);
    let insecure = gate_with(vec![story()], Rules { insecure: true, ..Rules::default() });
    let anybody = connect(&insecure, None, "c").unwrap();
    assert_eq!(publish(&insecure, &anybody, "story:42/run/7", None).unwrap_err(), Code::PermissionDenied);
}

#[test]
fn c5_no_pattern_covers_a_reserved_channel() {
    let mut own = Namespace::closed("fireside");
    own.allow.subscribe = Who::Anyone;
    let gate = gate_with(vec![own], Rules::default());
    let cap = |pattern: &str| {
        vec![Capability { rooms: vec![pattern.into()], channels: vec![pattern.into()], allow: Rights::ALL }]
    };
    for pattern in ["fireside:*", "*", "fireside:audit/"] {
        let eve = principal(&gate, claims("eve", cap(pattern)));
        assert_eq!(subscribe(&gate, &eve, "fireside:audit"), Err(Code::PermissionDenied), "{pattern}");
    }
    let auditor = principal(&gate, claims("auditor", cap("fireside:audit")));
    assert_eq!(subscribe(&gate, &auditor, "fireside:audit"), Ok(()));
}

#[test]
fn d4_a_token_out_of_its_time_or_form_begins_nothing() {
    let gate = gate();
    let connect = |claims| connect(&gate, Some(claims), "c").map(drop);
    let closed = Err(Denial::Closed(Disconnect::INVALID_TOKEN));
    let expired = Err(Denial::Refused(Refusal::new(Code::TokenExpired)));
    let good = claims("anna", Vec::new());
    assert_eq!(connect(good.clone()), Ok(()));
    assert_eq!(connect(Claims { expires_s: None, ..good.clone() }), closed);
    assert_eq!(connect(Claims { expires_s: Some(NOW_MS / 1000), ..good.clone() }), expired);
    assert_eq!(connect(Claims { expires_s: Some(NOW_MS), ..good.clone() }), closed, "exp in ms");
    assert_eq!(connect(Claims { not_before_s: Some(NOW_MS / 1000 + 60), ..good.clone() }), expired);
    assert_eq!(connect(Claims { channel: Some("a".into()), ..good.clone() }), closed);
    let strict = gate_with(vec![], Rules { audience: Some("fireside".into()), ..Rules::default() });
    let other = Claims { audience: vec!["other".into()], ..good.clone() };
    assert!(super::tests::connect(&strict, Some(other), "c").is_err());
    let right = Claims { audience: vec!["other".into(), "fireside".into()], ..good };
    assert!(super::tests::connect(&strict, Some(right), "c").is_ok());
}

#[test]
fn without_a_token_only_where_it_is_allowed() {
    assert!(connect(&gate(), None, "c").is_err());
    let open = gate_with(vec![], Rules { anonymous: true, ..Rules::default() });
    assert!(connect(&open, None, "c").unwrap().is_anonymous());
}

#[test]
fn d6_an_expired_session_does_nothing_more() {
    let gate = gate();
    let anna = principal(&gate, claims("anna", room(Rights::ALL)));
    let late = NOW_MS + 3_600_000 + limits::EXPIRED_SKEW_MS + 1;
    let asked = Subscribe { channel: "story:42".into(), ..Subscribe::default() };
    let caller = Caller { principal: &anna, now_ms: late, subscribed: false, bucket: None, trace: None };
    assert_eq!(gate.subscribe(caller, asked, None).unwrap_err().code, Code::Expired);
}

#[test]
fn a_refresh_is_for_the_same_user_only() {
    let gate = gate();
    let anna = principal(&gate, claims("anna", room(Rights::SUBSCRIBE)));
    assert!(gate.refresh(&anna, claims("eve", room(Rights::ALL)), NOW_MS).is_err());
    let newer = gate.refresh(&anna, claims("anna", Vec::new()), NOW_MS).unwrap();
    let channel = ChannelName::parse("story:42").unwrap();
    assert!(gate.may_follow(&anna, &channel) && !gate.may_follow(&newer, &channel));
}

#[test]
fn i2_once_a_producer_is_a_user_and_not_a_session() {
    let gate = gate();
    let first = principal(&gate, claims("anna", room(Rights::ALL)));
    let again = connect(&gate, Some(claims("anna", room(Rights::ALL))), "other").unwrap();
    let ben = principal(&gate, claims("ben", room(Rights::ALL)));
    let mark = |who| publish(&gate, who, "story:42", Some("k1")).unwrap().command().key;
    assert_eq!(mark(&first), mark(&again));
    assert_ne!(mark(&first), mark(&ben));
}

#[test]
fn an_anonymous_key_must_be_random() {
    let gate = gate_with(vec![story()], Rules { insecure: true, ..Rules::default() });
    let anybody = connect(&gate, None, "c").unwrap();
    assert_eq!(publish(&gate, &anybody, "story:1", Some("1")).unwrap_err(), Code::BadRequest);
    assert!(publish(&gate, &anybody, "story:1", Some("b7sJ0cQ2S1y8mDq0r4tZ5w")).is_ok());
}

#[test]
fn quota_comes_after_permission_and_before_schema() {
    struct Never;
    impl crate::namespace::Schema for Never {
        fn check(&self, _: &[u8]) -> Result<(), String> {
            Err("[]".into())
        }
    }
    let space = Namespace { schema: Some(Arc::new(Never)), ..story() };
    let gate = gate_with(vec![space], Rules { commands_burst: 1, ..Rules::default() });
    let mut bucket = Bucket::default();
    let mut ask = |who: &Arc<Principal>| {
        let asked =
            Publish { channel: "story:42".into(), body: Bytes::from_static(b"1"), ..Publish::default() };
        let caller = Caller {
            principal: who,
            now_ms: NOW_MS,
            subscribed: false,
            bucket: Some(&mut bucket),
            trace: None,
        };
        gate.publish(caller, asked).unwrap_err().code
    };
    let (eve, anna) =
        (principal(&gate, claims("eve", Vec::new())), principal(&gate, claims("anna", room(Rights::ALL))));
    assert_eq!(ask(&eve), Code::PermissionDenied, "a refusal of permission costs no quota");
    assert_eq!(ask(&anna), Code::BadRequest, "the schema speaks last");
    assert_eq!(ask(&anna), Code::TooManyRequests, "and what it refuses has cost quota");
}

#[test]
fn c1_deep_json_is_refused_without_recursion() {
    let gate = gate();
    let anna = principal(&gate, claims("anna", room(Rights::ALL)));
    let body = Bytes::from(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    let asked = Publish { channel: "story:42".into(), body, ..Publish::default() };
    assert_eq!(gate.publish(caller(&anna), asked).unwrap_err().code, Code::BadRequest);
    let in_string = Bytes::from(format!("\"{}\"", "[{\\\"".repeat(100)));
    let asked = Publish { channel: "story:42".into(), body: in_string, ..Publish::default() };
    assert!(gate.publish(caller(&anna), asked).is_ok());
}

#[test]
fn own_or_any_run_may_be_stopped() {
    let gate = gate();
    let cancel = |rights| {
        let who = principal(&gate, claims("anna", room(rights)));
        let asked = CancelRun { channel: "story:42".into(), run: Some("7".into()), ..CancelRun::default() };
        gate.cancel_run(caller(&who), asked)
            .map(|admitted| admitted.command().any)
            .map_err(|refusal| refusal.code)
    };
    assert_eq!(cancel(Rights::AI_CANCEL_OWN), Ok(false));
    assert_eq!(cancel(Rights::AI_CANCEL_ANY), Ok(true));
    assert_eq!(cancel(Rights::PUBLISH), Err(Code::PermissionDenied));
}

#[test]
fn a_channel_that_is_granted_twice_is_followed_once() {
    let rules = Rules { personal_channel: true, ..Rules::default() };
    let gate = gate_with(vec![story(), Namespace::closed("default")], rules);
    let names = ["#anna", "story:42", "story:42"].map(str::to_owned).to_vec();
    let anna = principal(&gate, Claims { channels: names, ..claims("anna", Vec::new()) });
    let granted: Vec<_> =
        gate.granted(&anna).iter().map(|admitted| admitted.channel().as_str().to_owned()).collect();
    assert_eq!(granted, ["#anna", "story:42"]);
}

#[test]
fn a_user_limited_channel_lets_its_users_follow_and_gives_no_other_right() {
    let gate = gate();
    let anna = principal(&gate, claims("anna", room(Rights::ALL)));
    assert_eq!(subscribe(&gate, &anna, "story:7#anna,ben"), Ok(()));
    assert_eq!(subscribe(&gate, &anna, "story:7#ben"), Err(Code::PermissionDenied));
    // Else whoever has a token could write, and start runs, under a name that she makes up.
    assert_eq!(publish(&gate, &anna, "story:7#anna,ben", None).unwrap_err(), Code::PermissionDenied);
    let start = StartRun { channel: "story:7#anna".into(), key: "k".into(), input: Bytes::new() };
    assert_eq!(gate.start_run(caller(&anna), start).map(drop).unwrap_err().code, Code::PermissionDenied);
    let own = vec![Capability {
        channels: vec!["story:7#anna".into()],
        allow: Rights::ALL,
        ..Capability::default()
    }];
    let anna = principal(&gate, claims("anna", own));
    assert!(publish(&gate, &anna, "story:7#anna", None).is_ok());
}

#[test]
fn the_log_of_a_run_has_one_policy_made_once() {
    let gate = gate();
    let log = ChannelName::parse("story:42/run/7").unwrap();
    let (one, two) = (gate.policy(&log).unwrap(), gate.policy(&log).unwrap());
    assert!(Arc::ptr_eq(&one, &two) && one.run.is_none() && one.history.is_some());
    assert!(gate.policy(&ChannelName::parse("story:42/live/run/7").unwrap()).is_none(), "no runs there");
}

// ------------------------------------------------------------------------------------------------------------ questions

fn asking(rules: Rules) -> Gate {
    let hooks = [Hook::Publish, Hook::Subscribe].into_iter().collect();
    gate_with(vec![Namespace { hooks, ..story() }], rules)
}

fn question(gate: &Gate, who: &Arc<Principal>) -> Question<Admitted<Write>> {
    let asked = Publish { channel: "story:42".into(), body: Bytes::from_static(b"{}"), ..Publish::default() };
    match gate.publish(caller(who), asked).unwrap() {
        Verdict::Ask(question) => *question,
        Verdict::Passed(_) => panic!("nobody was asked"),
    }
}

fn granted(grant: Grant) -> Result<Answer, Unanswered> {
    Ok(Answer::Granted(Box::new(grant)))
}

#[test]
fn i6_admitted_what_must_be_asked_does_not_pass_unasked() {
    let gate = asking(Rules::default());
    let anna = principal(&gate, claims("anna", room(Rights::ALL)));
    assert!(publish(&gate, &anna, "story:42", None).is_err(), "a question is no admission");
    let answer = granted(Grant::default());
    assert!(gate.answer_publish(question(&gate, &anna), answer, NOW_MS).is_ok());
    let backend = Principal::backend("backend");
    assert!(publish(&gate, &backend, "story:42", None).is_ok(), "a backend is not asked about itself");
}

#[test]
fn the_gates_own_no_is_not_asked_about() {
    let gate = asking(Rules::default());
    let eve = principal(&gate, claims("eve", Vec::new()));
    assert_eq!(publish(&gate, &eve, "story:42", None).unwrap_err(), Code::PermissionDenied);
    assert_eq!(subscribe(&gate, &eve, "story:42"), Err(Code::PermissionDenied));
}

#[test]
fn an_answer_passes_bounds_and_schema_like_a_client() {
    struct Short;
    impl crate::namespace::Schema for Short {
        fn check(&self, body: &[u8]) -> Result<(), String> {
            if body.len() < 10 { Ok(()) } else { Err("[]".into()) }
        }
    }
    let hooks = [Hook::Publish].into_iter().collect();
    let space = Namespace { hooks, schema: Some(Arc::new(Short)), record_bytes_max: 1000, ..story() };
    let gate = gate_with(vec![space], Rules::default());
    let anna = principal(&gate, claims("anna", room(Rights::ALL)));
    let answer = |grant| gate.answer_publish(question(&gate, &anna), granted(grant), NOW_MS);
    let body = |text: String| Grant { data: Some(text.into()), ..Grant::default() };
    let tag = |name: &str| Grant { tags: vec![(name.into(), "v".into())], ..Grant::default() };
    assert_eq!(answer(body("[1]".into())).unwrap().command().body, "[1]");
    assert_eq!(answer(tag("lang")).unwrap().command().tags.len(), 1);
    for wrong in [
        body("\"too long for the schema\"".into()),
        body(String::new()),
        body(format!("{}{}", "[".repeat(40), "]".repeat(40))),
        tag("fireside"),
        tag(""),
        Grant { tags: vec![("a".into(), "v".into()); limits::TAGS_MAX + 1], ..Grant::default() },
    ] {
        assert!(matches!(answer(wrong.clone()), Err(Denial::Unusable(Hook::Publish, _))), "{wrong:?}");
    }
}

#[test]
fn a_backends_no_and_its_silence_admit_nothing() {
    let gate = asking(Rules::default());
    let anna = principal(&gate, claims("anna", room(Rights::ALL)));
    let no = Refusal::because(Code::Backend { number: 403, temporary: false }, "not your turn");
    let answer = gate.answer_publish(question(&gate, &anna), Ok(Answer::Refused(no.clone())), NOW_MS);
    assert_eq!(answer.unwrap_err(), Denial::Refused(no));
    let silence = gate.answer_publish(question(&gate, &anna), Err(Unanswered("timeout")), NOW_MS);
    assert!(matches!(silence, Err(Denial::Refused(refusal)) if refusal.code.is_temporary()));
    let lenient = asking(Rules { lenient: [Hook::Publish].into_iter().collect(), ..Rules::default() });
    let anna = principal(&lenient, claims("anna", room(Rights::ALL)));
    assert!(lenient.answer_publish(question(&lenient, &anna), Err(Unanswered("timeout")), NOW_MS).is_ok());
}

#[test]
fn d6_an_answer_that_comes_after_the_tokens_end_admits_nothing() {
    let gate = asking(Rules::default());
    let anna = principal(&gate, claims("anna", room(Rights::ALL)));
    let late = NOW_MS + 3_600_000 + limits::EXPIRED_SKEW_MS + 1;
    let answer = gate.answer_publish(question(&gate, &anna), granted(Grant::default()), late);
    assert!(matches!(answer, Err(Denial::Refused(refusal)) if refusal.code == Code::Expired));
}

fn entering(claims: Option<Claims>, grant: Grant) -> Result<Entry, Denial> {
    let gate =
        gate_with(vec![story()], Rules { hooks: [Hook::Connect].into_iter().collect(), ..Rules::default() });
    match gate.connect(&Connect::default(), claims, "c", NOW_MS)? {
        Verdict::Ask(question) => gate.answer_connect(*question, granted(grant), NOW_MS),
        Verdict::Passed(_) => panic!("nobody was asked"),
    }
}

#[test]
fn without_a_token_a_backend_says_who_it_is_and_what_it_may() {
    let caps = room(Rights::PUBLISH);
    let soon_s = NOW_MS / 1000 + 60;
    let grant = Grant { user: Some("anna".into()), caps, expires_s: Some(soon_s), ..Grant::default() };
    let anna = entering(None, grant).unwrap().principal;
    assert_eq!((&**anna.user(), anna.expires_ms()), ("anna", Some(soon_s * 1000)));
    assert!(publish(&gate(), &anna, "story:42", None).is_ok());
    assert!(subscribe(&gate(), &anna, "story:42").is_err(), "and nothing else");
    assert!(entering(None, Grant::default()).unwrap().principal.is_anonymous());
}

#[test]
fn a_backend_adds_to_a_token_and_does_not_outlast_it() {
    let exp_s = NOW_MS / 1000 + 3600;
    let mine = || Some(claims("anna", room(Rights::SUBSCRIBE)));
    let with = |grant| entering(mine(), grant).map(|entry| entry.principal);
    let longer = with(Grant { expires_s: Some(exp_s + 60), caps: room(Rights::PUBLISH), ..Grant::default() });
    let longer = longer.unwrap();
    assert_eq!(longer.expires_ms(), Some(exp_s * 1000));
    assert!(
        publish(&gate(), &longer, "story:42", None).is_ok()
            && subscribe(&gate(), &longer, "story:42").is_ok()
    );
    let shorter = with(Grant { expires_s: Some(exp_s - 60), ..Grant::default() }).unwrap();
    assert_eq!(shorter.expires_ms(), Some((exp_s - 60) * 1000));
    for wrong in [
        Grant { user: Some("eve".into()), ..Grant::default() },
        Grant { expires_s: Some(NOW_MS / 1000), ..Grant::default() },
        Grant { channels: vec!["a b".into()], ..Grant::default() },
        Grant { channels: vec!["fireside:audit".into()], ..Grant::default() },
        Grant { caps: vec![Capability::default(); limits::CAPS_MAX + 1], ..Grant::default() },
        Grant { info: Some(vec![b'1'; limits::INFO_BYTES_MAX + 1].into()), ..Grant::default() },
        Grant { meta: Some(vec![b'1'; limits::META_BYTES_MAX + 1].into()), ..Grant::default() },
        Grant { data: Some(vec![b'1'; limits::HOOK_DATA_BYTES_MAX + 1].into()), ..Grant::default() },
    ] {
        assert!(matches!(with(wrong.clone()), Err(Denial::Unusable(Hook::Connect, _))), "{wrong:?}");
    }
    let breaks = Grant { user: Some("a\nb".into()), ..Grant::default() };
    assert!(matches!(entering(None, breaks), Err(Denial::Unusable(Hook::Connect, _))));
}

#[test]
fn more_time_is_given_by_a_word_about_time_only() {
    let gate = gate();
    let anna = principal(&gate, claims("anna", room(Rights::ALL)));
    let end_s = NOW_MS / 1000 + 7200;
    let until = |expires_s, expired| granted(Grant { expires_s, expired, ..Grant::default() });
    let session = |answer| gate.answer_refresh(gate.ask_refresh(&anna), answer, NOW_MS);
    assert_eq!(session(until(Some(end_s), false)).unwrap().expires_ms(), Some(end_s * 1000));
    assert!(matches!(session(until(None, false)), Err(Denial::Unusable(..))), "silence is not for ever");
    assert!(matches!(session(until(Some(1), false)), Err(Denial::Unusable(..))));
    assert_eq!(session(until(Some(end_s), true)).unwrap_err(), Denial::Closed(Disconnect::EXPIRED));
    let channel = ChannelName::parse("story:42").unwrap();
    let sub = |answer| gate.answer_sub_refresh(gate.ask_sub_refresh(&anna, channel.clone()), answer, NOW_MS);
    assert_eq!(sub(until(Some(end_s), false)), Ok(end_s * 1000));
    assert!(matches!(sub(until(None, false)), Err(Denial::Unusable(..))));
    assert_eq!(sub(until(None, true)), Err(Denial::Refused(Code::Expired.into())));
    assert!(matches!(sub(Err(Unanswered("timeout"))), Err(Denial::Refused(no)) if no.code.is_temporary()));
}

#[test]
fn a_ticket_opens_one_channel_to_whom_it_was_made_out_for() {
    let gate = gate();
    let anna = principal(&gate, Claims { issuer: "app".into(), ..claims("anna", Vec::new()) });
    let good = || {
        let channel = Some("$story:42".into());
        Claims { channel, issuer: "app".into(), ..claims("anna", Vec::new()) }
    };
    let ticket = |claims| gate.ticket(&anna, "$story:42", claims, NOW_MS);
    let refused = |claims| match ticket(claims).unwrap_err() {
        Denial::Refused(refusal) => refusal.code.number(),
        Denial::Closed(why) => why.code,
        Denial::Unusable(..) => 0,
    };
    assert_eq!(ticket(Some(good())).unwrap().expires_ms(), Some(NOW_MS + 3_600_000));
    assert_eq!(ticket(Some(Claims { expire_at_s: Some(0), ..good() })).unwrap().expires_ms(), None);
    let soon = Claims { expire_at_s: Some(NOW_MS / 1000 + 60), client: "client".into(), ..good() };
    assert_eq!(ticket(Some(soon)).unwrap().expires_ms(), Some(NOW_MS + 60_000));

    assert_eq!(refused(None), 103);
    assert_eq!(refused(Some(claims("anna", Vec::new()))), 103, "a connection token");
    assert_eq!(refused(Some(Claims { expires_s: None, ..good() })), 103);
    assert_eq!(refused(Some(Claims { expires_s: Some(NOW_MS / 1000), ..good() })), 109);
    assert_eq!(refused(Some(Claims { expire_at_s: Some(NOW_MS / 1000), ..good() })), 109);
    assert_eq!(refused(Some(Claims { not_before_s: Some(NOW_MS / 1000 + 1), ..good() })), 109);
    for theirs in [
        Claims { user: "ben".into(), ..good() },
        Claims { channel: Some("$story:43".into()), ..good() },
        Claims { client: "another".into(), ..good() },
        Claims { issuer: "another".into(), ..good() },
    ] {
        assert_eq!(refused(Some(theirs)), 3500);
    }
}

#[test]
fn a_private_channel_is_entered_by_ticket_only_and_the_servers_own_by_none() {
    let gate = gate();
    let all = Capability { rooms: Vec::new(), channels: vec!["*".into()], allow: Rights::ALL };
    let anna = principal(&gate, claims("anna", vec![all]));
    let ticket_to = |channel: &str| {
        let claims = Claims { channel: Some(channel.into()), ..claims("anna", Vec::new()) };
        gate.ticket(&anna, channel, Some(claims), NOW_MS).unwrap()
    };
    let follow = |channel: &str, ticket: Option<&Ticket>| {
        let asked = Subscribe { channel: channel.into(), ..Subscribe::default() };
        let verdict = gate.subscribe(caller(&anna), asked, ticket).and_then(Verdict::at_once);
        verdict.map(|admitted| admitted.command().by_token).map_err(|refusal| refusal.code)
    };
    assert_eq!(follow("$story:42", None), Err(Code::PermissionDenied));
    assert_eq!(follow("$story:42", Some(&ticket_to("$story:42"))), Ok(true));
    assert_eq!(follow("$story:42", Some(&ticket_to("$story:43"))), Err(Code::PermissionDenied));
    let publish = |subscribed| {
        let body = Bytes::from_static(b"1");
        let asked = Publish { channel: "$story:42".into(), body, ..Publish::default() };
        let caller = Caller { subscribed, ..caller(&anna) };
        gate.publish(caller, asked).map(drop).map_err(|refusal| refusal.code)
    };
    assert_eq!(publish(false), Err(Code::PermissionDenied), "not from outside");
    assert_eq!(publish(true), Ok(()), "who is in has the rights it has elsewhere");
    let audit = ChannelName::parse("fireside:audit").unwrap();
    assert!(!permission::opened_by(&ticket_to("fireside:audit"), &audit).allows());
}
