//! `fireside dev`: a server for a developer's own page on this machine. Tokens for the asking, everything allowed in `dev:…`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cli::DevOptions;
use crate::config::{Config, Sources};
use crate::kept::{kept, quoted, secret};
use crate::run::{Running, private_directory, stop_signal};

mod pages;

/// Runs the server until the process is told to stop.
///
/// # Errors
/// It cannot start, or the environment tells it to listen beyond this machine.
pub async fn dev(options: DevOptions) -> Result<()> {
    let secrets = options.data.join("secrets");
    let open = || -> Result<_> {
        private_directory(&secrets)?;
        Ok((kept(&secrets.join("token"), secret)?, kept(&secrets.join("api"), secret)?))
    };
    let (token, api) =
        open().with_context(|| format!("the secrets are kept in {}, which failed", secrets.display()))?;
    let config = config(&options, &token, &api)?;
    let page = pages::page(&config.server.listen.to_string());
    let running = Running::start(&config, Some(pages::pages(page.clone(), token))).await?;
    let said = greeting(&running.listen.to_string(), &page, &std::fs::canonicalize(&secrets)?);
    std::io::stdout().lock().write_all(said.as_bytes())?;
    stop_signal().await?;
    running.stop().await;
    Ok(())
}

/// Like any other server it is configured by a file's text.
fn config(options: &DevOptions, token: &str, api: &str) -> Result<Config> {
    let internal =
        options.port.checked_add(1).context("--port must be below 65535: the next port is used, too")?;
    let text = include_str!("dev.toml")
        .replace("{port}", &options.port.to_string())
        .replace("{internal_port}", &internal.to_string())
        .replace("{data}", &quoted(&options.data.display().to_string()))
        .replace("{token}", token)
        .replace("{api}", api);
    let file = Some((PathBuf::from("the configuration of fireside dev"), text));
    Ok(Config::load(&Sources { file, env: crate::config::environment(), ..Sources::default() })?)
}

/// What is printed: where it is, a page to begin with, and lines for the shell that work as they stand.
fn greeting(address: &str, page: &str, secrets: &Path) -> String {
    let key = format!("X-API-Key: $(cat {}/api)", shell_quoted(&secrets.display().to_string()));
    include_str!("greeting.txt")
        .replace("{address}", address)
        .replace("{key}", &key)
        .replace("{page}", page.trim_end())
}

/// A path as a shell takes it within double quotes, inside `$(…)`.
fn shell_quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> DevOptions {
        let log = crate::cli::LogArgs { log: None, log_format: "auto".into() };
        DevOptions { data: PathBuf::from("/tmp/a 'quoted' place"), port: 8000, log }
    }

    #[test]
    fn the_configuration_is_valid_and_opens_dev_alone() {
        let config = config(&options(), &"t".repeat(64), &"a".repeat(64)).unwrap();
        assert!(
            config.server.listen.ip().is_loopback() && config.dev_loopback_origins && !config.dev_insecure
        );
        let names: Vec<_> = config.namespaces.iter().map(|namespace| namespace.name.to_string()).collect();
        assert_eq!(names, ["dev"]);
    }

    #[test]
    fn the_page_has_twenty_lines() {
        let page = pages::page("127.0.0.1:8000");
        assert_eq!(page.lines().count(), 20);
        let said = greeting("127.0.0.1:8000", &page, Path::new("/tmp/it's"));
        assert!(said.contains(r#"-H "X-API-Key: $(cat '/tmp/it'\''s'/api)""#), "{said}");
        assert!(!said.contains("{address}") && !said.contains("{key}") && !said.contains("{page}"), "{said}");
    }
}
