//! Stories of one generation over real HTTP, against a provider that follows a script.

use std::future::poll_fn;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;

/// A provider that does what the story says, one connection after the other.
struct Scripted {
    listener: TcpListener,
}

impl Scripted {
    async fn start() -> Self {
        Scripted { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn settings(&self) -> OpenAiSettings {
        OpenAiSettings {
            key: Some("sk-very-secret".into()),
            backoff: vec![Duration::ZERO; 2],
            ..OpenAiSettings::new(format!("http://{}/v1/", self.listener.local_addr().unwrap()), "tiny")
        }
    }

    fn generate(&self, prompt: Prompt) -> Box<dyn Generation> {
        OpenAi::new(self.settings()).unwrap().generate(prompt)
    }

    /// Takes the next request: its head and its body.
    async fn request(&self) -> (TcpStream, String, Value) {
        let accepted = tokio::time::timeout(LOST, self.listener.accept()).await;
        let (mut socket, _) = accepted.expect("a request").unwrap();
        let mut bytes = Vec::new();
        let (head, length) = loop {
            assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0, "the client went away");
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, _)) = text.split_once("\r\n\r\n") {
                let length = head.to_ascii_lowercase();
                let length =
                    length.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
                break (head.to_owned(), length);
            }
        };
        let mut body = bytes.split_off(head.len() + 4);
        while body.len() < length {
            assert_ne!(socket.read_buf(&mut body).await.unwrap(), 0, "the client went away");
        }
        (socket, head, serde_json::from_slice(&body).unwrap())
    }

    /// Takes the next request and answers it with `answer`, then closes.
    async fn answer(&self, answer: &str) {
        let (mut socket, _, _) = self.request().await;
        socket.write_all(answer.as_bytes()).await.unwrap();
    }
}

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

fn status(line: &str) -> String {
    format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

fn data(json: Value) -> String {
    format!("data: {json}\n\n")
}

fn delta(text: &str) -> String {
    data(json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}], "usage": null}))
}

fn finish(reason: &str) -> String {
    data(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
}

fn text(text: &str) -> Piece {
    Piece::Text { kind: PartKind::Text, text: text.into() }
}

/// Only a story that has gone wrong waits so long; then it fails instead of hanging.
const LOST: Duration = Duration::from_secs(30);

async fn next(generation: &mut Box<dyn Generation>) -> Option<Result<Piece, ProviderFault>> {
    let piece = tokio::time::timeout(LOST, poll_fn(|cx| generation.poll_piece(cx)));
    piece.await.expect("the next piece, a fault or the end")
}

/// Everything up to the end or the first fault.
async fn all(mut generation: Box<dyn Generation>) -> (Vec<Piece>, Option<ProviderFault>) {
    let mut pieces = Vec::new();
    loop {
        match next(&mut generation).await {
            Some(Ok(piece)) => pieces.push(piece),
            Some(Err(fault)) => {
                assert_eq!(next(&mut generation).await, None, "a fault is the last thing said");
                return (pieces, Some(fault));
            }
            None => return (pieces, None),
        }
    }
}

fn prompt() -> Prompt {
    Prompt {
        messages: Vec::new(),
        system: "Tell a story.".into(),
        records: vec![
            ("Anna".into(), "It rained.".into()),
            ("Ben".into(), "It stopped.".into()),
            ("".into(), "The sun came.".into()),
        ],
        input: bytes::Bytes::from_static(br#"{"text": "Go on, please"}"#),
        tokens_max: 200,
    }
}

#[tokio::test]
async fn a_whole_answer_arrives_in_pieces_with_its_cost() {
    let provider = Scripted::start().await;
    let generation = provider.generate(prompt());
    let told = async {
        let (mut socket, head, body) = provider.request().await;
        assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: Bearer sk-very-secret"), "{head}");
        assert_eq!(
            body,
            json!({
                "model": "tiny", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 200,
                "messages": [
                    {"role": "system", "content": "Tell a story."},
                    {"role": "user", "content": "Anna: It rained.\n\nBen: It stopped."},
                    {"role": "assistant", "content": "The sun came."},
                    {"role": "user", "content": "Go on, please"},
                ],
            })
        );
        let thinking =
            json!({"choices": [{"delta": {"role": "assistant", "content": "", "reasoning_content": "Hm."}}]});
        let usage = data(json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}));
        for part in
            [STREAM, ": keep-alive\n\n", &data(thinking), &delta("A bird"), &delta(" sang."), &finish("stop")]
        {
            socket.write_all(part.as_bytes()).await.unwrap();
        }
        socket.write_all(format!("{usage}data: [DONE]\n\n").as_bytes()).await.unwrap();
        socket
    };
    let ((pieces, fault), _socket) = tokio::join!(all(generation), told);
    let thought = Piece::Text { kind: PartKind::Reasoning, text: "Hm.".into() };
    let expected = [
        thought,
        text("A bird"),
        text(" sang."),
        Piece::Finished("stop".into()),
        Piece::Usage { input: 9, output: 3 },
    ];
    assert_eq!((pieces.as_slice(), fault), (&expected[..], None));
}

#[tokio::test]
async fn plain_completions_are_asked_with_the_text_alone() {
    let provider = Scripted::start().await;
    let settings = OpenAiSettings { plain: true, key: None, usage: false, ..provider.settings() };
    let generation = OpenAi::new(settings).unwrap().generate(Prompt { tokens_max: 0, ..prompt() });
    let told = async {
        let (mut socket, head, body) = provider.request().await;
        assert!(head.starts_with("POST /v1/completions ") && !head.contains("authorization"), "{head}");
        let prompt = "Tell a story.\n\nIt rained.\n\nIt stopped.\n\nThe sun came.\n\nGo on, please\n\n";
        assert_eq!(body, json!({"model": "tiny", "stream": true, "prompt": prompt}));
        let chunk =
            data(json!({"choices": [{"index": 0, "text": "So it went.", "finish_reason": "length"}]}));
        socket.write_all(format!("{STREAM}{chunk}data: [DONE]\n\n").as_bytes()).await.unwrap();
    };
    let ((pieces, fault), ()) = tokio::join!(all(generation), told);
    assert_eq!((pieces, fault), (vec![text("So it went."), Piece::Finished("length".into())], None));
}

#[tokio::test]
async fn a_piece_is_there_before_the_next_one_is_written() {
    let provider = Scripted::start().await;
    let mut generation = provider.generate(prompt());
    let (go_on, mut may_go_on) = mpsc::channel::<()>(1);
    let told = async {
        let (mut socket, _, _) = provider.request().await;
        socket.write_all(format!("{STREAM}{}", delta("one")).as_bytes()).await.unwrap();
        may_go_on.recv().await.unwrap();
        socket.write_all(format!("{}{}", delta("two"), finish("stop")).as_bytes()).await.unwrap();
    };
    let read = async {
        assert_eq!(next(&mut generation).await, Some(Ok(text("one"))));
        go_on.send(()).await.unwrap();
        assert_eq!(next(&mut generation).await, Some(Ok(text("two"))));
        assert_eq!(next(&mut generation).await, Some(Ok(Piece::Finished("stop".into()))));
        assert_eq!(next(&mut generation).await, None);
    };
    tokio::join!(read, told);
}

#[tokio::test]
async fn a_stream_that_is_cut_just_ends() {
    let provider = Scripted::start().await;
    let bare = format!("{STREAM}{}", delta("It"));
    let (told, ()) = tokio::join!(all(provider.generate(prompt())), provider.answer(&bare));
    assert_eq!(told, (vec![text("It")], None));

    // The same inside a chunked body, whose last chunk never comes.
    let chunk = delta("It");
    let head = STREAM.replace("connection: close", "transfer-encoding: chunked");
    let chunked = format!("{head}{:x}\r\n{chunk}\r\n", chunk.len());
    let (told, ()) = tokio::join!(all(provider.generate(prompt())), provider.answer(&chunked));
    assert_eq!(told, (vec![text("It")], None));
}

#[tokio::test]
async fn too_many_requests_is_tried_again_and_then_well() {
    let provider = Scripted::start().await;
    let told = async {
        provider.answer(&status("429 Too Many Requests\r\nretry-after: 0")).await;
        provider.answer(&status("503 Service Unavailable")).await;
        provider.answer(&format!("{STREAM}{}{}", delta("well"), finish("stop"))).await;
    };
    let (told, ()) = tokio::join!(all(provider.generate(prompt())), told);
    assert_eq!(told, (vec![text("well"), Piece::Finished("stop".into())], None));
}

#[tokio::test]
async fn it_gives_up_after_two_further_tries_and_at_once_when_it_cannot_help() {
    let provider = Scripted::start().await;
    let told = async {
        for _ in 0..3 {
            provider.answer(&status("500 Internal Server Error")).await;
        }
    };
    let ((pieces, fault), ()) = tokio::join!(all(provider.generate(prompt())), told);
    assert_eq!(pieces, []);
    let expected = ProviderFault { message: "the provider answered with status 500".into(), retryable: true };
    assert_eq!(fault, Some(expected));

    for answer in [
        "401 Unauthorized",
        "302 Found\r\nlocation: http://127.0.0.1:9/",
        "429 Too Many\r\nretry-after: 86400",
    ] {
        let told = async {
            // Nobody answers a second request: if one is made, the fault never comes.
            provider.answer(&status(answer)).await;
        };
        let ((_, fault), ()) = tokio::join!(all(provider.generate(prompt())), told);
        let fault = fault.unwrap();
        assert!(!fault.retryable && fault.message.ends_with(&answer[..3]), "{fault:?}");
    }
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_said_in_plain_words() {
    let provider = Scripted::start().await;
    let settings = provider.settings();
    drop(provider);
    let (pieces, fault) = all(OpenAi::new(settings).unwrap().generate(prompt())).await;
    let expected = ProviderFault { message: "the provider cannot be reached".into(), retryable: true };
    assert_eq!((pieces, fault), (vec![], Some(expected)));
}

#[tokio::test]
async fn an_error_in_mid_stream_ends_it_after_what_was_written() {
    let provider = Scripted::start().await;
    let error = json!({"error": {"code": 503, "type": "overloaded_error", "message": "key sk-very-secret: Tell a story."}});
    let answer = format!("{STREAM}{}{}", delta("Once"), data(error.clone()));
    let ((pieces, fault), ()) = tokio::join!(all(provider.generate(prompt())), provider.answer(&answer));
    let expected = ProviderFault { message: "the provider reported the error 503".into(), retryable: false };
    assert_eq!((pieces, fault), (vec![text("Once")], Some(expected)));

    // Text and failure in one chunk: the text is not lost.
    let both = data(json!({"choices": [{"delta": {"content": "last"}, "finish_reason": "error"}]}));
    let answer = format!("{STREAM}{both}");
    let ((pieces, fault), ()) = tokio::join!(all(provider.generate(prompt())), provider.answer(&answer));
    assert_eq!((pieces, fault.map(|f| f.retryable)), (vec![text("last")], Some(false)));

    // Before the first piece the same error is worth another try.
    let told = async {
        provider.answer(&format!("{STREAM}{}", data(error))).await;
        provider.answer(&format!("{STREAM}{}", delta("well"))).await;
    };
    let (told, ()) = tokio::join!(all(provider.generate(prompt())), told);
    assert_eq!(told, (vec![text("well")], None));
}

#[tokio::test]
async fn what_an_error_says_never_shows_the_key_or_the_prompt() {
    let provider = Scripted::start().await;
    for code in ["sk-very-secret", "Tell a story.", "x\r\ny"] {
        let error = json!({"error": {"code": code, "message": code}});
        let answer = format!("{STREAM}{}", data(error));
        let ((_, fault), ()) = tokio::join!(all(provider.generate(prompt())), provider.answer(&answer));
        assert_eq!(fault.unwrap().message, "the provider reported an error");
    }
    assert!(!format!("{:?}", OpenAi::new(provider.settings()).unwrap()).contains("secret"));
}

#[tokio::test]
async fn a_malformed_stream_is_a_fault_and_not_an_end() {
    let provider = Scripted::start().await;
    for (answer, words) in [
        (format!("{STREAM}data: {{\"choices\": [\n\n"), "the provider's stream is malformed"),
        (
            format!("{STREAM}data: {}", "x".repeat(2 * super::super::sse::LINE_BYTES_MAX)),
            "the provider's stream has no end of line",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}".into(),
            "the provider did not answer with a stream",
        ),
    ] {
        let told = async {
            let (mut socket, _, _) = provider.request().await;
            // The client may hang up before it has taken everything.
            let _ = socket.write_all(answer.as_bytes()).await;
        };
        let ((pieces, fault), ()) = tokio::join!(all(provider.generate(prompt())), told);
        assert_eq!(
            (pieces, fault),
            (vec![], Some(ProviderFault { message: words.into(), retryable: false }))
        );
    }
}

#[tokio::test]
async fn dropping_a_never_ending_generation_closes_its_connection() {
    let provider = Scripted::start().await;
    let mut generation = provider.generate(prompt());
    let told = async {
        let (mut socket, _, _) = provider.request().await;
        socket.write_all(STREAM.as_bytes()).await.unwrap();
        loop {
            // The client hangs up in the middle of this; that is the end of the story.
            if socket.write_all(delta("on and ").as_bytes()).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let read = async {
        for _ in 0..100 {
            assert_eq!(next(&mut generation).await, Some(Ok(text("on and "))));
        }
        drop(generation);
    };
    tokio::join!(read, told);
}

#[tokio::test]
async fn dropping_a_generation_that_has_not_been_answered_closes_its_connection() {
    let provider = Scripted::start().await;
    let mut generation = provider.generate(prompt());
    let mut socket = tokio::select! {
        (socket, _, _) = provider.request() => socket,
        piece = next(&mut generation) => panic!("nobody has answered: {piece:?}"),
    };
    drop(generation);
    // Ends when the client has hung up.
    assert_eq!(socket.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |url: &str| OpenAi::new(OpenAiSettings::new(url, "m")).unwrap_err();
    for url in ["", "llm.example.org", "file:///etc", "unix:/x"] {
        assert_eq!(refused(url), ProviderSetupFault::Url, "{url}");
    }
    assert_eq!(refused("https://me:pw@llm.example.org/v1"), ProviderSetupFault::UrlBearsSecret);
    let settings =
        OpenAiSettings { key: Some("a\nb".into()), ..OpenAiSettings::new("http://127.0.0.1:1/v1", "m") };
    assert_eq!(OpenAi::new(settings).unwrap_err(), ProviderSetupFault::Key);
}

#[test]
fn a_start_without_words_of_its_own_asks_to_go_on() {
    let asked = |input: &'static str| input_text(input.as_bytes());
    assert_eq!(asked(""), None);
    assert_eq!(asked("null"), None);
    assert_eq!(asked("{}"), None);
    assert_eq!(asked(r#""a dragon""#).as_deref(), Some("a dragon"));
    assert_eq!(asked(r#"{"prompt": "a dragon"}"#).as_deref(), Some("a dragon"));
    assert_eq!(asked(r#"{"mood":"calm"}"#).as_deref(), Some(r#"{"mood":"calm"}"#));
    let messages = chat_messages(&Prompt { records: vec![("".into(), "So.".into())], ..Prompt::default() });
    assert_eq!(
        messages,
        json!([{"role": "assistant", "content": "So."}, {"role": "user", "content": "Go on."}])
    );
}
