//! `fireside why`: what the gate says to a command, and which of its rules decides. It is the server's own gate that is asked.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fireside_core::command::{CancelRun, Connect, History, Publish, StartRun, Subscribe};
use fireside_core::gate::{Bucket, Caller, Denial, Gate, Principal, Rules, Step, Trace, Verdict};
use fireside_core::hook::Hook;
use fireside_core::{Code, Refusal};
use fireside_node::ports::Keys;
use serde_json::{Value, json};

use super::{Failure, say};
use crate::cli::{WhyArgs, WhyOp};
use crate::config::{Config, Sources, format_time};
use crate::run;

/// What came of it.
struct Answer {
    user: String,
    steps: Vec<(&'static str, Outcome, String)>,
    refusal: Option<Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Refused,
    NotReached,
    /// The decision is somebody else's.
    Asked,
}

pub(super) fn why(args: &WhyArgs) -> Result<(), Failure> {
    let config = Config::load(&Sources::gather(args.config.as_deref(), Vec::new())?)?;
    if let Some(fault) = args.data.as_deref().and_then(|data| serde_json::from_str::<Value>(data).err()) {
        return Err(Failure::Wrong(format!("--data is not JSON: {fault}")));
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let answer = answer(args, &config, now_ms);
    match args.json {
        true => say(&format!("{:#}\n", in_json(args, &answer)))?,
        false => say(&in_words(args, &answer))?,
    }
    if answer.refusal.is_some() { Err(Failure::No) } else { Ok(()) }
}

fn answer(args: &WhyArgs, config: &Config, now_ms: u64) -> Answer {
    let rules = run::rules(config);
    // Who it is, the token says: what a backend would add to that when the session begins is not known here.
    let hooks = config.hooks.keys().copied().filter(|hook| *hook != Hook::Connect).collect();
    let gate = Gate::new(config.namespaces.clone(), Rules { hooks, ..rules });
    let mut answer = Answer { user: String::new(), steps: Vec::new(), refusal: None };
    match principal(args, config, &gate, now_ms) {
        Ok(who) => {
            answer.user = who.user().to_string();
            answer.steps.push(("token", Outcome::Passed, about_token(args, config, &who, now_ms)));
            judge(args, &gate, &who, now_ms, &mut answer);
        }
        Err((refusal, why)) => {
            answer.steps.push(("token", Outcome::Refused, why));
            answer.steps.extend(Step::ALL.map(|step| (step.name(), Outcome::NotReached, String::new())));
            answer.refusal = Some(refusal);
        }
    }
    answer
}

fn principal(
    args: &WhyArgs,
    config: &Config,
    gate: &Gate,
    now_ms: u64,
) -> Result<Arc<Principal>, (Refusal, String)> {
    let unauthorized = || Refusal::new(Code::Unauthorized);
    let claims = match &args.token {
        None => None,
        Some(token) => Some(
            run::token_keys(config)
                .claims(token.trim())
                .map_err(|fault| (unauthorized(), fault.0.to_string()))?,
        ),
    };
    let with_token = claims.is_some();
    match gate.connect(&Connect::default(), claims, "", now_ms) {
        Ok(Verdict::Passed(entry)) => Ok(entry.principal),
        Ok(Verdict::Ask(_)) => Err((unauthorized(), "a backend must be asked who this is".to_owned())),
        Err(Denial::Refused(refusal)) => {
            let why = format!("{}: its exp is over, or its nbf has not come", refusal.message);
            Err((refusal, why))
        }
        Err(Denial::Closed(_)) if !with_token => {
            Err((unauthorized(), "there is none, and sessions without a token are not let in (token.anonymous)".to_owned()))
        }
        Err(_) => Err((
            unauthorized(),
            "the signature is good, but the claims are not: aud (token.audience), exp (token.exp_required, \
             token.lifetime_max), the length of sub, or a `channel` claim, which makes it a subscription token"
                .to_owned(),
        )),
    }
}

fn about_token(args: &WhyArgs, config: &Config, who: &Principal, now_ms: u64) -> String {
    let said = match (&args.token, who.expires_ms()) {
        (None, _) => "there is none; sessions without a token are let in".to_owned(),
        (_, None) => format!("of the user {:?}, without an end", &**who.user()),
        (_, Some(end)) => {
            let left_s = end.saturating_sub(now_ms) / 1_000;
            format!("of the user {:?}, good for another {}", &**who.user(), format_time(left_s * 1_000))
        }
    };
    match config.hooks.contains_key(&Hook::Connect) {
        true => format!("{said}; the backend of [hook.connect] may say otherwise, and is not asked here"),
        false => said,
    }
}

/// Asks the gate, and tells its steps.
fn judge(args: &WhyArgs, gate: &Gate, who: &Arc<Principal>, now_ms: u64, answer: &mut Answer) {
    let (mut trace, mut bucket) = (Trace::default(), Bucket::default());
    let caller = Caller {
        principal: who,
        now_ms,
        subscribed: args.subscribed,
        bucket: Some(&mut bucket),
        trace: Some(&mut trace),
    };
    let judged = ask(args, gate, caller);
    let (last, is_asked) = (trace.last().unwrap_or(Step::Bounds), matches!(judged, Ok(true)));
    for step in Step::ALL {
        let mut told = match step {
            Step::Permission => trace.rule().unwrap_or_default().to_owned(),
            Step::Quota => format!(
                "{} commands a second and {} at once in one session; this is its first",
                gate.rules().commands_per_second,
                gate.rules().commands_burst
            ),
            _ => String::new(),
        };
        let outcome = match &judged {
            Err(refusal) if step == last => {
                if told.is_empty() {
                    told = refusal.message.to_string();
                }
                told.extend(refusal.detail.iter().flat_map(|detail| [": ", detail]));
                Outcome::Refused
            }
            Err(_) if step > last => {
                told.clear();
                Outcome::NotReached
            }
            _ => Outcome::Passed,
        };
        answer.steps.push((step.name(), outcome, told));
    }
    if is_asked {
        let told = "the backend of this namespace's hook has the last word, and is not asked here".to_owned();
        answer.steps.push(("question", Outcome::Asked, told));
    }
    answer.refusal = judged.err();
}

/// True if a backend has the last word.
fn ask(args: &WhyArgs, gate: &Gate, caller: Caller<'_>) -> Result<bool, Refusal> {
    let channel = args.channel.clone();
    let data = || Bytes::from(args.data.clone().unwrap_or_else(|| "{}".to_owned()));
    let key = || args.key.clone().unwrap_or_else(|| "why".to_owned());
    match args.op {
        WhyOp::Subscribe => {
            let asked = Subscribe { channel, ..Subscribe::default() };
            gate.subscribe(caller, asked, None).map(|verdict| matches!(verdict, Verdict::Ask(_)))
        }
        WhyOp::Publish => {
            let asked = Publish { channel, body: data(), key: args.key.clone(), ..Publish::default() };
            gate.publish(caller, asked).map(|verdict| matches!(verdict, Verdict::Ask(_)))
        }
        WhyOp::History => gate.history(caller, History { channel, ..History::default() }).map(|_| false),
        WhyOp::Presence => gate.presence(caller, &channel).map(|_| false),
        WhyOp::AiStart => {
            gate.start_run(caller, StartRun { channel, key: key(), input: data() }).map(|_| false)
        }
        WhyOp::AiCancel => {
            let asked = CancelRun { channel, run: None, key: Some(key()), reason: String::new() };
            gate.cancel_run(caller, asked).map(|_| false)
        }
    }
}

fn in_words(args: &WhyArgs, answer: &Answer) -> String {
    let who = if answer.user.is_empty() { "nobody in particular" } else { &answer.user };
    let verdict = match &answer.refusal {
        None => "allowed".to_owned(),
        Some(refusal) => format!("refused with {} {}", refusal.code.number(), refusal.code.words()),
    };
    let mut text = format!("{} in {} by {who}: {verdict}\n", args.op.name(), args.channel);
    for (step, outcome, why) in &answer.steps {
        text += format!("  {step:<10}  {:<11}  {why}", outcome.word()).trim_end();
        text.push('\n');
    }
    text
}

fn in_json(args: &WhyArgs, answer: &Answer) -> Value {
    let refusal = answer.refusal.as_ref().map(|refusal| {
        let detail = refusal.detail.as_deref().and_then(|detail| serde_json::from_str::<Value>(detail).ok());
        json!({ "code": refusal.code.number(), "message": refusal.message, "detail": detail })
    });
    let steps: Vec<_> = answer
        .steps
        .iter()
        .map(|(step, outcome, why)| json!({ "step": step, "outcome": outcome.word(), "why": why }))
        .collect();
    json!({
        "op": args.op.name(),
        "channel": args.channel,
        "user": answer.user,
        "allowed": answer.refusal.is_none(),
        "refusal": refusal,
        "steps": steps,
    })
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Refused => "refused",
            Outcome::NotReached => "not reached",
            Outcome::Asked => "asked",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{self, Minted, MintedCap};

    const TOML: &str = r#"
[token]
hmac_secret = "0123456789abcdef0123456789abcdef"
[namespace.story]
history = { records = 10, bytes = "1 MiB", age = "1d" }
allow = { history = "subscriber" }
schema = { type = "object", required = ["text"] }
"#;
    const NOW_S: u64 = 1_800_000_000;

    fn asked(op: WhyOp, change: impl FnOnce(&mut WhyArgs)) -> Answer {
        let file = Some(("fireside.toml".into(), TOML.to_owned()));
        let config = Config::load(&Sources { file, ..Sources::default() }).unwrap();
        let cap = MintedCap {
            rooms: vec!["story:42".to_owned()],
            channels: Vec::new(),
            allow: vec!["subscribe".to_owned(), "publish".to_owned()],
        };
        let claims = Minted {
            sub: "anna".to_owned(),
            iat: NOW_S,
            exp: NOW_S + 3_600,
            aud: None,
            info: None,
            caps: vec![cap],
        };
        let token = keys::mint(&claims, b"0123456789abcdef0123456789abcdef").unwrap();
        let mut args = WhyArgs {
            token: Some(token),
            op,
            channel: "story:42".to_owned(),
            data: None,
            key: None,
            subscribed: false,
            json: false,
            config: None,
        };
        change(&mut args);
        let answer = answer(&args, &config, NOW_S * 1_000);
        assert!(in_json(&args, &answer)["steps"].as_array().unwrap().len() >= 6);
        assert!(in_words(&args, &answer).lines().count() >= 7);
        answer
    }

    fn refused_at(answer: &Answer) -> (&'static str, &str) {
        let refused: Vec<_> =
            answer.steps.iter().filter(|(_, outcome, _)| *outcome == Outcome::Refused).collect();
        assert_eq!((refused.len(), answer.refusal.is_some()), (1, true));
        (refused[0].0, &refused[0].2)
    }

    #[test]
    fn what_is_allowed_names_the_capability_that_allows_it() {
        let answer = asked(WhyOp::Subscribe, |_| {});
        assert!(answer.refusal.is_none());
        let permission = &answer.steps.iter().find(|(step, ..)| *step == "permission").unwrap().2;
        assert_eq!(permission, "a capability of the token for the room story:42 allows it");
    }

    #[test]
    fn what_is_refused_names_the_step_and_the_rule() {
        let answer = asked(WhyOp::Publish, |args| args.channel = "story:43".to_owned());
        let (step, why) = refused_at(&answer);
        assert_eq!(step, "permission");
        assert_eq!(why, "no capability of the token allows this here, and namespace.story opens it to caps");
        assert_eq!(answer.steps.last().unwrap().1, Outcome::NotReached);

        let history = asked(WhyOp::History, |_| {});
        let (step, why) = refused_at(&history);
        assert_eq!(step, "permission");
        assert!(why.ends_with("namespace.story opens it to subscriber"), "{why}");
        assert!(asked(WhyOp::History, |args| args.subscribed = true).refusal.is_none());

        let publish = asked(WhyOp::Publish, |_| {});
        let (step, why) = refused_at(&publish);
        assert_eq!(step, "schema");
        assert!(why.contains(r#""keyword":"required""#), "{why}");
        assert!(
            asked(WhyOp::Publish, |args| args.data = Some(r#"{"text":"a"}"#.to_owned())).refusal.is_none()
        );
        assert_eq!(refused_at(&asked(WhyOp::Publish, |args| args.channel = "a*b".to_owned())).0, "bounds");
        assert_eq!(
            refused_at(&asked(WhyOp::Publish, |args| args.channel = "nowhere:1".to_owned())).0,
            "permission"
        );
    }

    #[test]
    fn a_token_that_is_no_good_is_told_apart_from_one_that_may_not() {
        let forged = asked(WhyOp::Publish, |args| args.token.as_mut().unwrap().push('x'));
        assert_eq!(refused_at(&forged).0, "token");
        assert_eq!(refused_at(&asked(WhyOp::Publish, |args| args.token = None)).0, "token");
    }
}
