//! `fireside token`: mints a token with the configured secret.

use std::time::{SystemTime, UNIX_EPOCH};

use fireside_core::gate::{Rights, is_pattern};
use fireside_core::{ChannelName, limits};

use super::{Failure, say};
use crate::cli::TokenArgs;
use crate::config::{Config, Sources, format_time};
use crate::keys::{self, Minted, MintedCap};

pub(super) fn mint(args: &TokenArgs) -> Result<(), Failure> {
    let config = Config::load(&Sources::gather(args.config.as_deref(), Vec::new())?)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    say(&format!("{}\n", minted(args, &config, now)?))
}

fn minted(args: &TokenArgs, config: &Config, now_s: u64) -> Result<String, Failure> {
    let wrong = |why: String| Err(Failure::Wrong(why));
    let Some(secret) = &config.token.hmac_secret else {
        return wrong("there is no secret to sign with: set token.hmac_secret_file in the configuration, or name another one with --config".to_owned());
    };
    let lifetime_s = args.ttl / 1_000;
    if lifetime_s == 0 || lifetime_s > config.token.lifetime_max_s {
        let most = format_time(config.token.lifetime_max_s * 1_000);
        return wrong(format!("--ttl must be between 1s and {most} (token.lifetime_max)"));
    }
    if let Some(unknown) = args.allow.iter().find(|word| Rights::parse(word).is_none()) {
        return wrong(format!(
            "--allow {unknown} is no right\n  allowed: subscribe, publish, history, presence, ai.start, ai.cancel.own, ai.cancel.any"
        ));
    }
    if let Some(room) = args.room.iter().find(|room| ChannelName::parse(room).is_err()) {
        return wrong(format!("--room {room} is no channel name; a room needs no *"));
    }
    if let Some(pattern) = args.channel.iter().find(|pattern| !is_pattern(pattern)) {
        return wrong(format!("--channel {pattern} is neither a name nor the beginning of names and one *"));
    }
    let places = args.room.len() + args.channel.len();
    if (places == 0) != args.allow.is_empty() {
        return wrong("--allow goes with --room or --channel, and they with it".to_owned());
    }
    if places > limits::CAP_NAMES_MAX {
        return wrong(format!("at most {} rooms and channels", limits::CAP_NAMES_MAX));
    }
    let info = match args.info.as_deref().map(serde_json::from_str).transpose() {
        Ok(info) => info,
        Err(e) => return wrong(format!("--info is not JSON: {e}")),
    };
    let cap =
        MintedCap { rooms: args.room.clone(), channels: args.channel.clone(), allow: args.allow.clone() };
    let claims = Minted {
        sub: args.user.clone(),
        iat: now_s,
        exp: now_s + lifetime_s,
        aud: config.token.audience.clone(),
        info,
        caps: if places == 0 { Vec::new() } else { vec![cap] },
    };
    let token = keys::mint(&claims, secret.bytes()).map_err(|e| Failure::Failed(e.into()))?;
    // What the server would refuse is told here, where it can be corrected.
    use fireside_node::ports::Keys;
    match keys::TokenKeys::new(Some(secret.bytes()), []).claims(&token) {
        Ok(_) => Ok(token),
        Err(fault) => wrong(format!("the server would refuse it: {}", fault.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fireside_node::ports::Keys;

    fn args() -> TokenArgs {
        TokenArgs {
            user: "anna".to_owned(),
            room: vec!["story:42".to_owned()],
            channel: vec!["news:*".to_owned()],
            allow: vec!["subscribe".to_owned(), "ai.start".to_owned()],
            ttl: 3_600_000,
            info: Some(r#"{"name":"Anna"}"#.to_owned()),
            config: None,
        }
    }

    const TOML: &str = "[token]\nhmac_secret = '0123456789abcdef0123456789abcdef'\naudience = 'fireside'\n";

    fn config(text: &str) -> Config {
        Config::load(&Sources { file: Some(("fireside.toml".into(), text.to_owned())), ..Sources::default() })
            .unwrap()
    }

    #[test]
    fn a_minted_token_says_what_was_asked() {
        let token = minted(&args(), &config(TOML), 1_000).unwrap();
        let claims =
            keys::TokenKeys::new(Some(b"0123456789abcdef0123456789abcdef"), []).claims(&token).unwrap();
        assert_eq!((claims.user.as_str(), claims.audience), ("anna", vec!["fireside".to_owned()]));
        assert_eq!((claims.issued_s, claims.expires_s), (Some(1_000), Some(4_600)));
        assert_eq!(claims.info.as_deref(), Some(&br#"{"name":"Anna"}"#[..]));
        assert_eq!((&*claims.caps[0].rooms[0], &*claims.caps[0].channels[0]), ("story:42", "news:*"));
        assert_eq!(claims.caps[0].allow, Rights::SUBSCRIBE.and(Rights::AI_START));
    }

    #[test]
    fn what_the_server_would_refuse_is_refused_here() {
        let told = |change: &dyn Fn(&mut TokenArgs)| {
            let mut args = args();
            change(&mut args);
            match minted(&args, &config(TOML), 1_000) {
                Err(Failure::Wrong(why)) => why,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(told(&|a| a.ttl = 999), "--ttl must be between 1s and 1d (token.lifetime_max)");
        assert_eq!(told(&|a| a.ttl = 2 * 86_400_000), "--ttl must be between 1s and 1d (token.lifetime_max)");
        assert!(told(&|a| a.allow.push("publsh".to_owned())).starts_with("--allow publsh is no right"));
        assert!(
            told(&|a| a.room.push("story:*".to_owned())).starts_with("--room story:* is no channel name")
        );
        assert!(told(&|a| a.channel.push("a*b".to_owned())).starts_with("--channel a*b is neither"));
        assert!(told(&|a| a.allow.clear()).starts_with("--allow goes with"));
        assert!(told(&|a| a.info = Some("{".to_owned())).starts_with("--info is not JSON"));
        assert_eq!(
            told(&|a| a.user = "a\nb".to_owned()),
            "the server would refuse it: the claim sub is too long or has a control character"
        );
        assert!(
            matches!(minted(&args(), &config(""), 0), Err(Failure::Wrong(why)) if why.starts_with("there is no secret"))
        );
    }
}
