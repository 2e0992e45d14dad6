use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fireside_core::gate::Rights;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A generated key pair: what signs, and the public part as PEM.
struct Pair {
    signing: EncodingKey,
    public_pem: String,
}

fn pem(tag: &str, der: &[u8]) -> String {
    let lines: Vec<String> =
        STANDARD.encode(der).as_bytes().chunks(64).map(|l| String::from_utf8_lossy(l).into_owned()).collect();
    format!("-----BEGIN {tag}-----\n{}\n-----END {tag}-----\n", lines.join("\n"))
}

fn rsa() -> Pair {
    let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private: Pkcs8V1Der = pair.as_der().unwrap();
    let public: PublicKeyX509Der = pair.public_key().as_der().unwrap();
    Pair {
        signing: EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap(),
        public_pem: pem("PUBLIC KEY", public.as_ref()),
    }
}

fn ec(algorithm: Algorithm) -> Pair {
    let kind = if algorithm == Algorithm::ES256 {
        &ECDSA_P256_SHA256_FIXED_SIGNING
    } else {
        &ECDSA_P384_SHA384_FIXED_SIGNING
    };
    let pair = EcdsaKeyPair::generate(kind).unwrap();
    let private = pair.to_pkcs8v1().unwrap();
    let public: PublicKeyX509Der = pair.public_key().as_der().unwrap();
    Pair {
        signing: EncodingKey::from_ec_der(private.as_ref()),
        public_pem: pem("PUBLIC KEY", public.as_ref()),
    }
}

fn ed() -> Pair {
    let pair = Ed25519KeyPair::generate().unwrap();
    let private = pair.to_pkcs8v1().unwrap();
    let public: PublicKeyX509Der = pair.public_key().as_der().unwrap();
    Pair {
        signing: EncodingKey::from_ed_der(private.as_ref()),
        public_pem: pem("PUBLIC KEY", public.as_ref()),
    }
}

fn sign(algorithm: Algorithm, kid: Option<&str>, claims: &Value, key: &EncodingKey) -> String {
    encode(&Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) }, claims, key).unwrap()
}

fn shared() -> TokenKeys {
    TokenKeys::new(Some(SECRET), [])
}

fn hs(claims: &Value) -> String {
    sign(Algorithm::HS256, None, claims, &EncodingKey::from_secret(SECRET))
}

/// A token with a header and claims of any form, signed with the shared secret.
fn raw(header: &Value, claims: &str) -> String {
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(SECRET), Algorithm::HS256)
            .unwrap();
    format!("{message}.{signature}")
}

fn fault(keys: &TokenKeys, token: &str) -> &'static str {
    match keys.claims(token) {
        Err(TokenFault(why)) => why,
        Ok(claims) => panic!("was taken: {claims:?}"),
    }
}

#[test]
fn every_claim_is_read() {
    let token = hs(&json!({
        "sub": "anna", "iss": "backend", "aud": ["fireside", "other"], "exp": 2_000_000_000, "nbf": 1.5, "iat": 7, "jti": "t1",
        "tenant": "acme", "info": {"name": "Anna"}, "meta": {"secret": 1}, "channels": ["b", "a"], "subs": {"c": {}, "a": {}},
        "caps": [
            {"rooms": ["story:42"], "allow": ["subscribe", "pub", "hst", "prs", "ai.start", "ai.cancel.own", "doc.write"]},
            {"channels": ["news:*", "lobby", "*"], "allow": ["sub"], "match": "wildcard"},
        ],
    }));
    let claims = shared().claims(&token).unwrap();
    assert_eq!((claims.user.as_str(), claims.issuer.as_str(), claims.id.as_str()), ("anna", "backend", "t1"));
    assert_eq!(claims.audience, ["fireside", "other"]);
    assert_eq!(
        (claims.expires_s, claims.not_before_s, claims.issued_s),
        (Some(2_000_000_000), Some(1), Some(7))
    );
    assert_eq!((claims.tenant.as_str(), claims.channel), ("acme", None));
    assert_eq!(claims.info.as_deref(), Some(&br#"{"name":"Anna"}"#[..]));
    assert_eq!(claims.channels, ["a", "b", "c"]);
    let all_but_any = Rights::SUBSCRIBE
        .and(Rights::PUBLISH)
        .and(Rights::HISTORY)
        .and(Rights::PRESENCE)
        .and(Rights::AI_START)
        .and(Rights::AI_CANCEL_OWN);
    assert_eq!(claims.caps[0].allow, all_but_any);
    assert_eq!(&*claims.caps[0].rooms[0], "story:42");
    assert_eq!(claims.caps[1].channels.iter().map(|c| &**c).collect::<Vec<_>>(), ["news:*", "lobby", "*"]);
    assert_eq!(claims.caps[1].allow, Rights::SUBSCRIBE);
}

#[test]
fn an_empty_token_is_an_anonymous_one_and_a_channel_claim_is_told() {
    let claims = shared().claims(&hs(&json!({}))).unwrap();
    assert_eq!(claims, Claims::default());
    let claims = shared().claims(&hs(&json!({"sub": null, "channel": "news", "aud": "fireside"}))).unwrap();
    assert_eq!((claims.channel.as_deref(), claims.audience), (Some("news"), vec!["fireside".to_owned()]));
}

#[test]
fn every_algorithm_verifies_with_its_own_key() {
    for algorithm in HMAC {
        let token = sign(algorithm, None, &json!({"sub": "a"}), &EncodingKey::from_secret(SECRET));
        assert_eq!(shared().claims(&token).unwrap().user, "a");
    }
    let (rsa, p256, p384, ed) = (rsa(), ec(Algorithm::ES256), ec(Algorithm::ES384), ed());
    let pairs = [
        (&rsa, Algorithm::RS256),
        (&rsa, Algorithm::RS384),
        (&rsa, Algorithm::RS512),
        (&p256, Algorithm::ES256),
        (&p384, Algorithm::ES384),
        (&ed, Algorithm::EdDSA),
    ];
    for (pair, algorithm) in pairs {
        let named = [format!("{algorithm:?}")];
        let issuer = Issuer::from_pem("idp", pair.public_pem.as_bytes(), &named).unwrap();
        let keys = TokenKeys::new(None, [issuer]);
        let token = sign(algorithm, Some("whatever"), &json!({"iss": "idp", "sub": "a"}), &pair.signing);
        assert_eq!(keys.claims(&token).unwrap().user, "a", "{algorithm:?}");
        let stranger = sign(algorithm, None, &json!({"iss": "else", "sub": "a"}), &pair.signing);
        assert_eq!(fault(&keys, &stranger), "nobody is configured who issues this token");
    }
}

#[test]
fn d1_no_algorithm_is_none() {
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let head = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "typ": "JWT"}).to_string());
        let body = URL_SAFE_NO_PAD.encode(r#"{"sub":"root"}"#);
        for signature in ["", "AAAA"] {
            assert_eq!(
                fault(&shared(), &format!("{head}.{body}.{signature}")),
                "the token's header is not understood"
            );
        }
    }
}

#[test]
fn d1_a_public_key_is_never_the_secret_of_an_hmac() {
    let pair = rsa();
    let issuer = Issuer::from_pem("idp", pair.public_pem.as_bytes(), &[]).unwrap();
    let keys = TokenKeys::new(Some(SECRET), [issuer]);
    let forged = sign(
        Algorithm::HS256,
        None,
        &json!({"iss": "idp", "sub": "root"}),
        &EncodingKey::from_secret(pair.public_pem.as_bytes()),
    );
    assert_eq!(fault(&keys, &forged), "the token's algorithm is not the key's");
    // The shared secret does not speak for an issuer with keys of its own.
    let other = hs(&json!({"iss": "idp", "sub": "root"}));
    assert_eq!(fault(&keys, &other), "the token's algorithm is not the key's");
    // An algorithm of the same family that is not the pinned one.
    let unpinned = sign(Algorithm::RS512, None, &json!({"iss": "idp"}), &pair.signing);
    assert_eq!(fault(&keys, &unpinned), "the token's algorithm is not the key's");
}

#[test]
fn d1_keys_in_the_header_are_not_looked_at() {
    let mine = rsa();
    let jwk = Jwk::from_encoding_key(&mine.signing, Algorithm::RS256).unwrap();
    let theirs = rsa();
    let issuer = Issuer::from_pem("idp", theirs.public_pem.as_bytes(), &[]).unwrap();
    let keys = TokenKeys::new(None, [issuer]);
    let header = Header {
        jwk: Some(jwk),
        jku: Some("http://127.0.0.1:1/keys".to_owned()),
        x5u: Some("http://127.0.0.1:1/cert".to_owned()),
        x5c: Some(vec!["AAAA".to_owned()]),
        ..Header::new(Algorithm::RS256)
    };
    let token = encode(&header, &json!({"iss": "idp", "sub": "root"}), &mine.signing).unwrap();
    assert_eq!(fault(&keys, &token), "the token's signature is wrong");
}

#[test]
fn d1_a_kid_is_a_name_and_nothing_else() {
    let pair = ec(Algorithm::ES256);
    let mut jwk = Jwk::from_encoding_key(&pair.signing, Algorithm::ES256).unwrap();
    jwk.common.key_id = Some("one".to_owned());
    let mut second = Jwk::from_encoding_key(&ec(Algorithm::ES256).signing, Algorithm::ES256).unwrap();
    second.common.key_id = Some("two".to_owned());
    let set = serde_json::to_vec(&json!({"keys": [jwk, second]})).unwrap();
    let keys = TokenKeys::new(None, [Issuer::from_jwks("idp", &set, &[]).unwrap()]);
    let token = |kid| sign(Algorithm::ES256, kid, &json!({"iss": "idp"}), &pair.signing);
    assert!(keys.claims(&token(Some("one"))).is_ok());
    assert_eq!(fault(&keys, &token(Some("two"))), "the token's signature is wrong");
    for kid in ["../../etc/passwd", "one' OR '1'='1", "", "ONE", "/dev/null"] {
        assert_eq!(fault(&keys, &token(Some(kid))), "the token's issuer has no key of this name");
    }
    assert_eq!(fault(&keys, &token(None)), "the token does not name the key that signed it");
}

#[test]
fn d1_an_empty_secret_is_no_secret() {
    let keys = TokenKeys::new(Some(b""), []);
    let token = sign(Algorithm::HS256, None, &json!({"sub": "root"}), &EncodingKey::from_secret(b""));
    assert_eq!(fault(&keys, &token), "nobody is configured who issues this token");
}

#[test]
fn d1_a_null_signature_is_wrong() {
    let pair = ec(Algorithm::ES256);
    let keys = TokenKeys::new(None, [Issuer::from_pem("idp", pair.public_pem.as_bytes(), &[]).unwrap()]);
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#);
    let body = URL_SAFE_NO_PAD.encode(r#"{"iss":"idp","sub":"root"}"#);
    for length in [0, 64, 63, 128] {
        let signature = URL_SAFE_NO_PAD.encode(vec![0; length]);
        assert_eq!(fault(&keys, &format!("{head}.{body}.{signature}")), "the token's signature is wrong");
    }
}

#[test]
fn d1_a_changed_byte_anywhere_is_told() {
    let token = hs(&json!({"sub": "anna"}));
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (head, _) = message.split_once('.').unwrap();
    let forged = format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"sub":"root"}"#));
    assert_eq!(fault(&shared(), &forged), "the token's signature is wrong");
    for text in
        ["", ".", "..", "a.b.c", &token[..token.len() - 1], &format!("{token}."), &format!("{token}.x")]
    {
        assert!(shared().claims(text).is_err(), "{text}");
    }
    assert_eq!(fault(&shared(), &"a".repeat(limits::TOKEN_BYTES_MAX + 1)), "the token is too long");
}

#[test]
fn d1_headers_that_ask_for_more_are_refused() {
    let asks = "the token's header asks for what is not supported";
    assert_eq!(fault(&shared(), &raw(&json!({"alg": "HS256", "crit": ["exp"]}), "{}")), asks);
    assert_eq!(fault(&shared(), &raw(&json!({"alg": "HS256", "zip": "DEF"}), "{}")), asks);
    assert_eq!(
        fault(&shared(), &raw(&json!({"alg": "HS256", "typ": "dpop+jwt"}), "{}")),
        "the token's type is not JWT"
    );
    assert!(shared().claims(&raw(&json!({"alg": "HS256", "typ": "jwt"}), "{}")).is_ok());
    assert!(shared().claims(&raw(&json!({"alg": "HS256"}), "{}")).is_ok());
}

#[test]
fn d3_the_same_kid_of_two_issuers_is_two_keys() {
    let (a, b) = (ed(), ed());
    let set = |pair: &Pair| {
        let mut jwk = Jwk::from_encoding_key(&pair.signing, Algorithm::EdDSA).unwrap();
        jwk.common.key_id = Some("k1".to_owned());
        serde_json::to_vec(&json!({"keys": [jwk]})).unwrap()
    };
    let issuers =
        [Issuer::from_jwks("a", &set(&a), &[]).unwrap(), Issuer::from_jwks("b", &set(&b), &[]).unwrap()];
    let keys = TokenKeys::new(None, issuers);
    let token = |iss: &str, pair: &Pair| {
        sign(Algorithm::EdDSA, Some("k1"), &json!({"iss": iss, "sub": iss}), &pair.signing)
    };
    for _ in 0..2 {
        assert_eq!(keys.claims(&token("a", &a)).unwrap().user, "a");
        assert_eq!(keys.claims(&token("b", &b)).unwrap().user, "b");
        assert_eq!(fault(&keys, &token("a", &b)), "the token's signature is wrong");
        assert_eq!(fault(&keys, &token("b", &a)), "the token's signature is wrong");
    }
}

#[test]
fn d4_a_time_is_a_number() {
    let form = "a claim of the token has the wrong form";
    for (claim, value) in [
        ("exp", r#""2000000000""#),
        ("nbf", r#""0""#),
        ("iat", r#""0""#),
        ("exp", "-1"),
        ("exp", "1e300"),
        ("exp", "[2000000000]"),
        ("exp", "true"),
        ("exp", "99999999999999999999"),
    ] {
        let token = raw(&json!({"alg": "HS256"}), &format!(r#"{{"sub":"a","{claim}":{value}}}"#));
        assert_eq!(fault(&shared(), &token), form, "{claim}: {value}");
    }
    // Said twice: which one would count?
    let twice = raw(&json!({"alg": "HS256"}), r#"{"exp":1,"exp":2000000000}"#);
    assert_eq!(fault(&shared(), &twice), form);
    // An expired token has a good form: the gate has the clock.
    assert_eq!(shared().claims(&hs(&json!({"exp": 1, "nbf": 9_999_999_999u64}))).unwrap().expires_s, Some(1));
}

#[test]
fn d4_claims_of_the_wrong_form_are_refused() {
    for claims in [
        r#"{"sub":7}"#,
        r#"{"aud":7}"#,
        r#"{"caps":{}}"#,
        r#"{"caps":[{"rooms":"story:42"}]}"#,
        r#"{"channels":["a b"]}"#,
        r#"{"subs":{"a//b":{}}}"#,
        r#"{"sub":"a\nb"}"#,
        r#"{"sub":"a\u2028b"}"#,
        r#"{"jti":"\u0000"}"#,
        r#"{"caps":[{"rooms":["story:*"]}]}"#,
        r#"{"caps":[{"channels":["a*b"]}]}"#,
        r#"{"caps":[{"channels":["a**"]}]}"#,
        r#"{"caps":[{"channels":["^.*$"],"match":"regex"}]}"#,
        r#"{"b64info":"!!"}"#,
        r#"{"b64info":"e30ge30="}"#,
        "[]",
        "null",
    ] {
        assert!(shared().claims(&raw(&json!({"alg": "HS256"}), claims)).is_err(), "{claims}");
    }
}

#[test]
fn d4_what_a_token_can_grow_is_bounded() {
    let user = "a".repeat(limits::USER_BYTES_MAX);
    assert!(shared().claims(&hs(&json!({"sub": user}))).is_ok());
    assert!(shared().claims(&hs(&json!({"sub": format!("{user}a")}))).is_err());
    let info = "a".repeat(limits::INFO_BYTES_MAX - 2);
    assert!(shared().claims(&hs(&json!({"info": info}))).is_ok());
    assert_eq!(fault(&shared(), &hs(&json!({"info": format!("{info}a")}))), "the claim info is too long");
    let caps = |n: usize| hs(&json!({"caps": vec![json!({"allow": []}); n]}));
    assert!(shared().claims(&caps(limits::CAPS_MAX)).is_ok());
    assert!(shared().claims(&caps(limits::CAPS_MAX + 1)).is_err());
    let names = |n: usize| hs(&json!({"caps": [{"channels": vec!["a"; n]}]}));
    assert!(shared().claims(&names(limits::CAP_NAMES_MAX)).is_ok());
    assert!(shared().claims(&names(limits::CAP_NAMES_MAX + 1)).is_err());
}

#[test]
fn info_is_one_line() {
    let token = raw(&json!({"alg": "HS256"}), "{\"info\":{\r\n \"a\": \"x\\ny\"\n}}");
    assert_eq!(shared().claims(&token).unwrap().info.as_deref(), Some(&b"{   \"a\": \"x\\ny\" }"[..]));
    let token = hs(&json!({"b64info": STANDARD.encode("{\"b\":\n1}"), "info": {"a": 1}}));
    assert_eq!(shared().claims(&token).unwrap().info.as_deref(), Some(&b"{\"b\": 1}"[..]));
}

#[test]
fn files_that_hold_no_public_key_are_refused() {
    let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private: Pkcs8V1Der = pair.as_der().unwrap();
    let why = |pem: &str, algorithms: &[&str]| {
        let algorithms: Vec<String> = algorithms.iter().map(|a| (*a).to_owned()).collect();
        Issuer::from_pem("idp", pem.as_bytes(), &algorithms).unwrap_err()
    };
    assert!(why(&pem("PRIVATE KEY", private.as_ref()), &[]).starts_with("holds a private key"));
    assert!(why("-----BEGIN", &[]).starts_with("holds no RSA, EC or Ed25519 public key"));
    assert_eq!(why(&ed().public_pem, &["RS256"]), "holds a key that is good for [EdDSA] only");
    let jwks = |json: Value| Issuer::from_jwks("idp", json.to_string().as_bytes(), &[]).unwrap_err();
    assert!(jwks(json!({"keys": [{"kty": "oct", "k": "AAAA"}]})).starts_with("has a shared secret"));
    assert!(jwks(json!({"keys": []})).starts_with("has no public key"));
    assert!(jwks(json!([])).starts_with("is not a JWK Set"));
    let mut jwk = Jwk::from_encoding_key(&ed().signing, Algorithm::EdDSA).unwrap();
    jwk.common.key_id = Some("same".to_owned());
    assert_eq!(jwks(json!({"keys": [jwk, jwk]})), "has two keys with the kid \"same\"");
    jwk.common.public_key_use = Some(PublicKeyUse::Encryption);
    assert!(jwks(json!({"keys": [jwk]})).starts_with("has no public key"));
}

#[test]
fn a_minted_token_is_a_token() {
    let minted = Minted {
        sub: "anna".to_owned(),
        iat: 1,
        exp: 2,
        info: Some(json!({"name": "Anna"})),
        caps: vec![MintedCap {
            rooms: vec!["story:42".to_owned()],
            allow: vec!["publish".to_owned()],
            ..MintedCap::default()
        }],
        ..Minted::default()
    };
    let claims = shared().claims(&mint(&minted, SECRET).unwrap()).unwrap();
    assert_eq!((claims.user.as_str(), claims.issued_s, claims.expires_s), ("anna", Some(1), Some(2)));
    assert_eq!((&*claims.caps[0].rooms[0], claims.caps[0].allow), ("story:42", Rights::PUBLISH));
}

#[test]
fn nothing_of_a_key_is_printed() {
    let text = format!("{:?}", shared());
    assert!(!text.contains("0123456789") && !text.contains("48, 49"), "{text}");
}
