//! `fireside demo`: a server and the story room in one process, with secrets of its own.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use fireside_story::{HOOK_PATH, Role, Story, StoryConfig};

use crate::cli::DemoOptions;
use crate::config::{Config, Sources};
use crate::http::router::Fallback;
use crate::kept::{kept, quoted, secret};
use crate::run::{Running, private_directory, stop_signal};

/// Runs the demo until the process is told to stop.
///
/// # Errors
/// It cannot start.
pub async fn demo(options: DemoOptions) -> Result<()> {
    let secrets = Secrets::open(&options.data)?;
    let config = config(&options, &secrets)?;
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), options.port);
    let public_url = format!("http://{address}");
    let story = Arc::new(Story::new(StoryConfig {
        token_secret: secrets.token.clone().into_bytes(),
        token_audience: None,
        api_address: address,
        api_key: secrets.api.clone(),
        hook_secret: secrets.hook.clone().into_bytes(),
        invite_secret: secrets.invite.clone().into_bytes(),
        public_url: public_url.clone(),
    }));
    let running = Running::start(&config, Some(pages(story.clone()))).await?;
    greet(&story, &secrets.story, &public_url, &options)?;
    stop_signal().await?;
    println!("\nThe fire goes out. The story stays in {}.", options.data.display());
    running.stop().await;
    Ok(())
}

fn pages(story: Arc<Story>) -> Fallback {
    Arc::new(move |request| {
        let story = story.clone();
        Box::pin(async move { story.handle(request).await })
    })
}

fn greet(story: &Story, id: &str, public_url: &str, options: &DemoOptions) -> Result<()> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let host = story.invitation_link(id, Role::Host, now_s)?;
    let writer = story.invitation_link(id, Role::Writer, now_s)?;
    let narrator = match &options.provider {
        Some(url) => format!("The narrator is a model at {url}."),
        None => "The narrator is built in: it needs no key and no network.".to_owned(),
    };
    let text = format!(
        "\nFireside is lit at {public_url}\n\n  Open this yourself (you are the host):\n    {host}\n\n  \
         Send this to the others (they write with you):\n    {writer}\n\n\
         {narrator} Everything is kept in {}. Ctrl-C stops it.\n",
        options.data.display()
    );
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// Made once, so that tokens and invitations survive a restart.
struct Secrets {
    token: String,
    api: String,
    hook: String,
    invite: String,
    story: String,
}

impl Secrets {
    fn open(data: &Path) -> Result<Secrets> {
        let directory = data.join("secrets");
        let open = || -> Result<Secrets> {
            private_directory(&directory)?;
            Ok(Secrets {
                token: kept(&directory.join("token"), secret)?,
                api: kept(&directory.join("api"), secret)?,
                hook: kept(&directory.join("hook"), secret)?,
                invite: kept(&directory.join("invite"), secret)?,
                story: kept(&directory.join("story"), || Ok(Story::first_story_id()?))?,
            })
        };
        open().with_context(|| format!("the demo keeps its secrets in {}, which failed", directory.display()))
    }
}

/// The demo is configured like any other server: by a file's text.
fn config(options: &DemoOptions, secrets: &Secrets) -> Result<Config> {
    let internal =
        options.port.checked_add(1).context("--port must be below 65535: the next port is used, too")?;
    let provider = match (&options.provider, &options.model) {
        (None, _) => "kind = \"narrator\"".to_owned(),
        (Some(url), Some(model)) => {
            let key = std::env::var("FIRESIDE_PROVIDER_KEY").map(|key| format!("key = {}", quoted(&key)));
            let (url, model) = (quoted(url), quoted(model));
            format!("kind = \"openai\"\nurl = {url}\nmodel = {model}\n{}", key.unwrap_or_default())
        }
        (Some(_), None) => anyhow::bail!("--provider needs --model: the name of the model at that address"),
    };
    let text = include_str!("demo.toml")
        .replace("{port}", &options.port.to_string())
        .replace("{internal_port}", &internal.to_string())
        .replace("{data}", &quoted(&options.data.display().to_string()))
        .replace("{token}", &secrets.token)
        .replace("{api}", &secrets.api)
        .replace("{hook}", &secrets.hook)
        .replace("{hook_path}", HOOK_PATH)
        .replace("{provider}", &provider);
    let file = Some((PathBuf::from("the demo's configuration"), text));
    let sources = Sources { file, env: crate::config::environment(), ..Sources::default() };
    Ok(Config::load(&sources)?)
}
