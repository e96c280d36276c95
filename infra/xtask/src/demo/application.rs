//! One running instance of the demo's application under `plimsoll run`, and the requests that drive it.
//! It never looks inside: what the application tells of itself comes over HTTP.

use super::languages;
use super::pipeline::{Component, wait};
use crate::http;
use crate::run::{self, Running};
use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const START_LIMIT: Duration = Duration::from_secs(90);
const END_LIMIT: Duration = Duration::from_secs(60);
/// Pages that load what they need when they are first asked for: of the application in Python, then of the services.
const PAGES: &[&str] = &["/", "/snippets/hello", "/snippets/primes", "/self-check", "/uptime"];
const JAVA_PAGES: &[&str] = &["/", "/names", "/text", "/hash", "/cache", "/html", "/plugin", "/data"];

pub struct Application {
    pub component: Component,
    url: String,
    running: Running,
    log: PathBuf,
}

impl Application {
    /// Start it with a `plimsoll run …` command, which makes it listen on the port; wait until it answers.
    pub fn start(
        component: Component,
        command: &mut Command,
        port: u16,
        log: PathBuf,
    ) -> anyhow::Result<Self> {
        let running = run::background(command, &log)?;
        let url = format!("http://127.0.0.1:{port}");
        let mut application = Self { component, url, running, log };
        wait("the demo's application to answer", START_LIMIT, || {
            if let Some(status) = application.running.ended()? {
                bail!("`plimsoll run` ended: {status}; {}", application.log_end());
            }
            Ok(http::call("GET", &format!("{}/health", application.url))
                .map_err(|error| format!("{error:#}"))
                .map(|_| ()))
        })
        .with_context(|| application.log_end())?;
        Ok(application)
    }

    /// Ask for every page once.
    pub fn drive(&self) -> anyhow::Result<()> {
        let pages = match self.component {
            languages::JAVA => JAVA_PAGES,
            languages::NODE => languages::NODE_PAGES,
            _ => PAGES,
        };
        for page in pages {
            self.get(page)?;
        }
        Ok(())
    }

    /// Make it load a package that it has not loaded yet, in Python one with shared libraries; when it began, in
    /// milliseconds since the epoch.
    pub fn load_library(&self) -> anyhow::Result<f64> {
        let page = if languages::expected(&self.component).is_some() { "/library" } else { "/thumbnail" };
        let answer: Value = serde_json::from_str(&self.get(page)?)?;
        answer["began_ms"].as_f64().with_context(|| format!("{page} does not tell when it began"))
    }

    /// Distributions of the modules that its interpreter has loaded, by normalised name (PEP 503).
    pub fn loaded_distributions(&self) -> anyhow::Result<BTreeSet<String>> {
        let answer: Value = serde_json::from_str(&self.get("/modules")?)?;
        let modules = answer["modules"].as_object().context("/modules tells no modules")?;
        Ok(modules.values().filter_map(|module| module["distribution"].as_str()).map(normalised).collect())
    }

    /// Files that it has mapped executable, as it sees their paths.
    pub fn executable_mappings(&self) -> anyhow::Result<BTreeSet<String>> {
        // address permissions offset device inode path (proc(5)).
        Ok(self
            .get("/maps")?
            .lines()
            .filter_map(|line| {
                let mut words = line.split_ascii_whitespace();
                let executable = words.nth(1)?.contains('x');
                let path = words.nth(3)?;
                (executable && path.starts_with('/')).then(|| path.to_owned())
            })
            .collect())
    }

    /// The program of the operating system that one of its pages executes.
    pub fn executed_program(&self) -> anyhow::Result<String> {
        let answer: Value = serde_json::from_str(&self.get("/uptime")?)?;
        Ok(answer["program"].as_str().context("/uptime names no program")?.to_owned())
    }

    /// Ask it to end; wait for `plimsoll run`, which publishes the end of the workload and gives its exit code.
    pub fn quit(mut self) -> anyhow::Result<()> {
        http::call("POST", &format!("{}/quit", self.url))?;
        let status = wait("`plimsoll run` to end", END_LIMIT, || {
            Ok(self.running.ended()?.ok_or_else(|| self.log_end()))
        })?;
        ensure!(status.success(), "`plimsoll run` ended with {status}; {}", self.log_end());
        Ok(())
    }

    /// The answer of one of its pages.
    pub fn get(&self, page: &str) -> anyhow::Result<String> {
        http::call("GET", &format!("{}{page}", self.url)).with_context(|| self.log_end())
    }

    fn log_end(&self) -> String {
        format!("see {}, which ends with:\n{}", self.log.display(), run::tail(&self.log))
    }
}

/// A project's name as PEP 503 compares it.
pub fn normalised(name: &str) -> String {
    let words: Vec<&str> = name.split(['-', '_', '.']).filter(|word| !word.is_empty()).collect();
    words.join("-").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, expect: &str| assert_eq!(normalised(name), expect);
        check("Flask", "flask");
        check("zope.interface", "zope-interface");
        check("a__b-._c", "a-b-c");
    }
}
