//! The cases that are easy to get wrong, each with real containers through the running pipeline.
//! It never shares a component between cases, so that none can lean on what another left.

mod every_language;

use super::application::normalised;
use super::check::{Findings, ended_workloads};
use super::pipeline::{Component, PATIENCE, Pipeline, wait};
use super::{Demo, inputs};
use crate::stack::{Ports, Stack};
use crate::{http, run, signals};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Version of all components of the cases.
const VERSION: &str = "1.0";
/// Imports one package of the image, and lives half a second.
const HALF_A_SECOND: [&str; 3] = [IMAGE_PYTHON, "-c", "import time, yaml; time.sleep(0.5)"];
const IMAGE_PYTHON: &str = "/srv/pythonapp/venv/bin/python";
const IMAGE_SITE_PACKAGES: &str = "/srv/pythonapp/venv/lib/python3.11/site-packages";
/// A package that nothing in the demo's application imports, and the version that one replica gets at run time.
const UPGRADED: &str = "colorama";
const NEW_VERSION: &str = "99.0.0";
/// Longer than the timeouts of sessions and transactions, which are 10 s.
const OUTAGE: Duration = Duration::from_secs(60);
/// Started anew while neither broker nor database is there.
const RESTARTED: [&str; 5] = ["correlator", "sink", "scanner", "package-resolver", "runtime-agent"];
const START_LIMIT: Duration = Duration::from_secs(60);

/// Runs all cases; each says what held and what did not.
pub fn run_all(demo: &Demo, docker_host: &str, stack: PathBuf) -> anyhow::Result<()> {
    let cases = Cases { demo, docker_host, stack };
    let mut findings = Findings::new();
    findings.check("a container that lives half a second is seen", cases.half_a_second());
    findings.check("files of a volume credit no package of the image", cases.volume());
    findings.check("of two replicas, the one that upgraded a package is told apart", cases.replicas());
    findings.check(
        "an image that was never scanned is observed; the scan asked for then gives the same as one before",
        cases.orders(),
    );
    findings.check("runtime risks become alerts with the packages behind them", cases.alerts());
    let made = cases.image_of_languages();
    let with_languages = made.is_ok();
    findings.check("an image with services in Node.js, Java, Ruby, PHP and Go", made);
    if with_languages {
        findings.check(
            "containers in every language: used is what each language names, the rest unused",
            cases.languages_after_agent(),
        );
    }
    // What needs no server fills the time of the outage.
    let mut alone = Ok(());
    let outage = cases.outage(|| alone = demo.alone());
    findings.check(
        "broker and database away for a minute, services started meanwhile: nothing is missing after they are back",
        outage,
    );
    findings.check("the same commands without any server", alone);
    // Last, since it stops the agent for a moment.
    findings.check(
        "a container older than the agent: what is mapped is seen, the rest not measured",
        cases.older_than_agent(),
    );
    if with_languages {
        findings.check(
            "containers in every language older than the agent: nothing is unused, what loads later is used",
            cases.languages_before_agent(),
        );
    }
    findings.conclude()
}

struct Cases<'a> {
    demo: &'a Demo,
    docker_host: &'a str,
    stack: PathBuf,
}

/// A container that is removed at the latest when this is dropped.
struct Container<'a> {
    cases: &'a Cases<'a>,
    name: String,
    _on_signal: signals::OnSignal,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let mut remove = self.cases.docker();
        // One that has ended is gone already.
        let _ = run::output(remove.args(["rm", "--force", &self.name]));
    }
}

impl Cases<'_> {
    fn pipeline(&self) -> &Pipeline {
        &self.demo.pipeline
    }

    fn docker(&self) -> Command {
        let mut docker = run::command("docker");
        docker.env("DOCKER_HOST", self.docker_host).env("DOCKER_BUILDKIT", "0");
        docker
    }

    /// Start a container of the component in the background.
    fn start(
        &self,
        of: &Component,
        options: &[&str],
        image: &str,
        command: &[&str],
    ) -> anyhow::Result<Container<'_>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("plimsoll-{}-{}", of.component, COUNT.fetch_add(1, Ordering::Relaxed));
        let mut docker = self.docker();
        docker.args(["run", "--detach", "--rm", "--network", "host", "--name", &name]);
        for (label, value) in
            [("application", of.application), ("component", of.component), ("version", of.version)]
        {
            docker.args(["--label", &format!("plimsoll.{label}={value}")]);
        }
        run::output(docker.args(options).arg(image).args(command))?;
        let (host, gone) = (self.docker_host.to_owned(), name.clone());
        let on_signal = signals::OnSignal::run(move || {
            let mut remove = run::command("docker");
            let _ = run::output(remove.env("DOCKER_HOST", host).args(["rm", "--force", &gone]));
        });
        Ok(Container { cases: self, name, _on_signal: on_signal })
    }

    /// Run a program in a container that runs.
    fn exec(&self, container: &Container<'_>, command: &[&str]) -> anyhow::Result<String> {
        run::output(self.docker().args(["exec", &container.name]).args(command))
    }

    /// Wait until so many workloads of the component have ended and all is in ClickHouse; the report then.
    fn report_after(&self, component: &Component, workloads: u64) -> anyhow::Result<Value> {
        wait("the end of the workloads in ClickHouse", PATIENCE, || {
            let ended = ended_workloads(self.pipeline(), component)?;
            Ok(if ended >= workloads { Ok(()) } else { Err(format!("{ended} of {workloads} have ended")) })
        })?;
        self.pipeline().wait_caught_up()?;
        self.pipeline().report(component)
    }

    fn half_a_second(&self) -> anyhow::Result<()> {
        let component = component("half-a-second");
        let container = self.start(&component, &[], inputs::IMAGE, &HALF_A_SECOND)?;
        let report = self.report_after(&component, 1)?;
        drop(container);
        expect(&report, "PyYAML", "used", Some("loaded"))?;
        expect(&report, "libc6", "used", Some("loaded"))?;
        expect(&report, "Flask", "unused", None)?;
        expect(&report, "gzip", "unused", None)
    }

    fn volume(&self) -> anyhow::Result<()> {
        let component = component("volume");
        let packages = self.demo.application.join("venv/lib/python3.11/site-packages");
        let volume = format!("{}:{IMAGE_SITE_PACKAGES}:ro", packages.display());
        let container = self.start(&component, &["--volume", &volume], inputs::IMAGE, &HALF_A_SECOND)?;
        let report = self.report_after(&component, 1)?;
        drop(container);
        // The volume's PyYAML was imported, not the image's.
        let credited: Vec<&Value> = all(&report)
            .filter(|package| package["kind"] == "application" && package["use"] == "used")
            .collect();
        ensure!(credited.is_empty(), "packages of the image are used: {credited:?}");
        // Nor did anybody look at the image's own: the volume hides them.
        let unused: Vec<&Value> = all(&report)
            .filter(|package| package["ecosystem"] == "pypi" && package["use"] == "unused")
            .collect();
        ensure!(unused.is_empty(), "packages of the image that a volume hides are unused: {unused:?}");
        expect(&report, "libc6", "used", Some("loaded"))
    }

    fn replicas(&self) -> anyhow::Result<()> {
        let component = component("replicas");
        let wheels = self.demo.directory.join("newer");
        newer_wheel(&wheels)?;
        let volume = format!("{}:/newer:ro", wheels.display());
        let (first, second) = (
            self.start(&component, &[], inputs::IMAGE, &["/usr/bin/sleep", "600"])?,
            self.start(&component, &["--volume", &volume], inputs::IMAGE, &["/usr/bin/sleep", "600"])?,
        );
        let requirement = format!("{UPGRADED}=={NEW_VERSION}");
        self.exec(
            &second,
            &[IMAGE_PYTHON, "-m", "pip", "install", "--no-index", "--find-links", "/newer", &requirement],
        )?;
        let import = [IMAGE_PYTHON, "-c", &format!("import {UPGRADED}")];
        self.exec(&second, &import)?;
        let versions = |expect_old: &str| {
            wait("the upgraded package's use", PATIENCE, || {
                // Until its first row has landed the portal knows no such component.
                let report = match self.pipeline().report(&component) {
                    Ok(report) => report,
                    Err(error) => return Ok(Err(format!("{error:#}"))),
                };
                let found: BTreeMap<String, String> = all(&report)
                    .filter(|package| package["name"].as_str().map(normalised).as_deref() == Some(UPGRADED))
                    .map(|package| (word(&package["version"]), word(&package["use"])))
                    .collect();
                let new = found.get(NEW_VERSION).is_some_and(|usage| usage == "used");
                let old = found.iter().any(|(version, usage)| version != NEW_VERSION && usage == expect_old);
                Ok(if new && old { Ok(()) } else { Err(format!("{UPGRADED} is {found:?}")) })
            })
        };
        versions("unused").context("only the new version was imported")?;
        self.exec(&first, &import)?;
        versions("used").context("both versions were imported")
    }

    /// Two images that differ in a label only, hence have the same packages but other keys.
    fn orders(&self) -> anyhow::Result<()> {
        let (scanned_first, run_first) = (component("scanned-first"), component("run-first"));
        for name in [scanned_first.component, run_first.component] {
            let recipe = format!("FROM {}\nLABEL order={name}\n", inputs::IMAGE);
            let directory = self.demo.directory.join(name);
            fs::create_dir_all(&directory)?;
            fs::write(directory.join("Dockerfile"), recipe)?;
            run::output(self.docker().args(["build", "--tag", &tag(name)]).arg(&directory))?;
        }

        // The agent asks for a scan of what it first sees running: nobody answers yet.
        self.open_stack()?.stop("scanner")?;
        let mut scan = self.demo.plimsoll(&["scan", "-s", "image"], &scanned_first);
        run::output(scan.arg(format!("docker:{}", tag(scanned_first.component))))?;
        self.pipeline().wait_caught_up()?;
        let first = self.start(&scanned_first, &[], &tag(scanned_first.component), &HALF_A_SECOND)?;
        let second = self.start(&run_first, &[], &tag(run_first.component), &HALF_A_SECOND)?;
        let unscanned = self.report_after(&run_first, 1)?;
        let observed = package(&unscanned, "PyYAML").context("before the scan")?;
        ensure!(
            observed["scanned"] == false
                && observed["use"] == "used"
                && observed["vulnerable"] == "not_assessed",
            "a package that was observed but not scanned is {observed}"
        );
        self.open_stack()?.restart("scanner")?;
        wait("the scan that the agent asked for", PATIENCE, || {
            let report = self.pipeline().report(&run_first)?;
            Ok(if package(&report, "PyYAML")?["scanned"] == true {
                Ok(())
            } else {
                Err("no scan".to_owned())
            })
        })?;
        let (one, other) = (self.report_after(&scanned_first, 1)?, self.report_after(&run_first, 1)?);
        drop((first, second));
        let (one, other) = (comparable(&one), comparable(&other));
        ensure!(one.len() > 100, "only {} packages to compare", one.len());
        for purl in one.keys().chain(other.keys()) {
            let (left, right) = (one.get(purl), other.get(purl));
            ensure!(left == right, "{purl}: scanned first gives {left:?}, run first {right:?}");
        }
        Ok(())
    }

    /// A copy of a program of the image is no part of the image; a shell is started by what listens.
    fn alerts(&self) -> anyhow::Result<()> {
        let component = component("risks");
        let script = "import shutil, socket, subprocess, time\n\
                      shutil.copy('/usr/bin/date', '/srv/dropped')\n\
                      subprocess.run(['/srv/dropped'], check=True)\n\
                      server = socket.socket()\n\
                      server.bind(('127.0.0.1', 0))\n\
                      server.listen()\n\
                      subprocess.run(['/bin/sh', '-c', 'true'], check=True)\n\
                      time.sleep(600)\n";
        let container = self.start(&component, &[], inputs::IMAGE, &[IMAGE_PYTHON, "-c", script])?;
        let alerts = wait("two alerts", PATIENCE, || {
            let answer = self.pipeline().api(&format!("{}/alerts", component.path()))?;
            let alerts = answer["items"].as_array().cloned().unwrap_or_default();
            Ok(if alerts.len() >= 2 { Ok(alerts) } else { Err(format!("there are {alerts:?}")) })
        })?;
        drop(container);
        let paths: Vec<String> = alerts.iter().map(|alert| word(&alert["path"])).collect();
        ensure!(
            paths.iter().any(|path| path.ends_with("srv/dropped")),
            "no alert of the dropped program: {paths:?}"
        );
        // sh is a link to dash.
        ensure!(
            paths.iter().any(|path| path.ends_with("/dash") || path.ends_with("/sh")),
            "no alert of the shell: {paths:?}"
        );
        Ok(())
    }

    /// Kafka and ClickHouse are killed; meanwhile the services are started anew, and a container lives and ends; then
    /// both come back.
    fn outage(&self, meanwhile: impl FnOnce()) -> anyhow::Result<()> {
        let component = component("outage");
        for server in ["kafka", "clickhouse"] {
            self.open_stack()?.kill(server)?;
        }
        let back = Instant::now() + OUTAGE;
        for service in RESTARTED {
            self.open_stack()?.relaunch(service)?;
        }
        self.wait_observing()?;
        let container = self.start(&component, &[], inputs::IMAGE, &HALF_A_SECOND)?;
        let mut waited = self.docker();
        // Its end; one that has ended and is removed is no error here.
        let _ = run::output(waited.args(["wait", &container.name]));
        meanwhile();
        for service in RESTARTED {
            let ready = http::call("GET", &format!("{}/readyz", self.admin(service)?));
            ensure!(ready.is_err(), "{service} says that it is ready without a broker");
        }
        while Instant::now() < back {
            signals::yield_to_cleanup();
            std::thread::sleep(back.saturating_duration_since(Instant::now()).min(Duration::from_secs(1)));
        }
        for server in ["clickhouse", "kafka"] {
            self.open_stack()?.restart(server)?;
        }
        self.open_stack()?.wait_all_ready()?;
        let report = self.report_after(&component, 1)?;
        drop(container);
        expect(&report, "PyYAML", "used", Some("loaded"))?;
        expect(&report, "libc6", "used", Some("loaded"))?;
        expect(&report, "Flask", "unused", None)
    }

    /// Wait until the agent watches, whether or not it can tell anybody.
    fn wait_observing(&self) -> anyhow::Result<()> {
        let page = format!("{}/readyz", self.admin("runtime-agent")?);
        wait("the agent to observe", PATIENCE, || {
            Ok(match http::call("GET", &page) {
                Ok(_) => Ok(()),
                Err(error) if format!("{error:#}").contains("broker and schema registry") => Ok(()),
                Err(error) => Err(format!("{error:#}")),
            })
        })
    }

    /// Address of a service's pages of health.
    fn admin(&self, service: &str) -> anyhow::Result<String> {
        let name = format!("PLIMSOLL_TEST_{}_ADMIN", service.replace('-', "_").to_uppercase());
        let variables = self.open_stack()?.variables();
        let found = variables.into_iter().find(|(variable, _)| *variable == name);
        found.map(|(_, address)| address).with_context(|| format!("no {name}"))
    }

    fn older_than_agent(&self) -> anyhow::Result<()> {
        let component = component("older-than-agent");
        self.open_stack()?.stop("runtime-agent")?;
        let port = Ports::default().free()?;
        let url = format!("http://127.0.0.1:{port}");
        let container = self.start(&component, &["--env", &format!("PORT={port}")], inputs::IMAGE, &[])?;
        wait("the application to answer", START_LIMIT, || {
            Ok(http::call("GET", &format!("{url}/health")).map(|_| ()).map_err(|error| format!("{error:#}")))
        })?;
        // date has run and ended before the agent is there.
        http::call("GET", &format!("{url}/uptime"))?;
        self.open_stack()?.restart("runtime-agent")?;
        wait("the workload in ClickHouse", PATIENCE, || {
            let query = format!("SELECT count() FROM workloads FINAL WHERE {}", component.condition());
            Ok(if self.pipeline().count(&query)? > 0 { Ok(()) } else { Err("no row".to_owned()) })
        })?;
        http::call("POST", &format!("{url}/quit"))?;
        let report = self.report_after(&component, 1)?;
        drop(container);
        expect(&report, "libc6", "used", Some("loaded"))?;
        expect(&report, "libssl3", "used", Some("loaded"))?;
        // Its C part is still mapped.
        expect(&report, "simplejson", "used", Some("loaded"))?;
        for name in ["Flask", "coreutils", "gzip"] {
            expect(&report, name, "not_measured", None)?;
        }
        let unused: Vec<String> = all(&report)
            .filter(|package| package["use"] == "unused")
            .map(|package| word(&package["purl"]))
            .collect();
        ensure!(unused.is_empty(), "unused although nobody watched from the first exec: {unused:?}");
        Ok(())
    }

    fn open_stack(&self) -> anyhow::Result<Stack> {
        Stack::open(&self.stack)
    }
}

fn component(name: &'static str) -> Component {
    Component { application: "cases", component: name, version: VERSION }
}

fn tag(name: &str) -> String {
    format!("plimsoll-demo/{name}:{VERSION}")
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn all(report: &Value) -> impl Iterator<Item = &Value> {
    report["packages"].as_array().into_iter().flatten()
}

/// A package of the report by its name, however that is spelled.
fn package<'a>(report: &'a Value, name: &str) -> anyhow::Result<&'a Value> {
    let wanted = normalised(name);
    all(report)
        .find(|package| package["name"].as_str().map(normalised).as_deref() == Some(wanted.as_str()))
        .with_context(|| format!("{name} is not in the report"))
}

fn expect(report: &Value, name: &str, usage: &str, rung: Option<&str>) -> anyhow::Result<()> {
    let package = package(report, name)?;
    ensure!(
        package["use"] == usage && rung.is_none_or(|rung| package["rung"] == rung),
        "{name} should be {usage}; it is {} with rung {} ({}), coverage {}",
        package["use"],
        package["rung"],
        package["use_reason"],
        package["coverage"]
    );
    Ok(())
}

/// What must not depend on the order of scan and run, by purl.
fn comparable(report: &Value) -> BTreeMap<String, Value> {
    all(report)
        .map(|package| {
            let files: Vec<&Value> =
                package["files"].as_array().into_iter().flatten().map(|file| &file["path"]).collect();
            let kept =
                ["version", "kind", "scanned", "vulnerable", "vulnerabilities", "use", "use_reason", "rung"];
            let mut kept: serde_json::Map<String, Value> =
                kept.iter().map(|key| ((*key).to_owned(), package[*key].clone())).collect();
            kept.insert("recommendation".into(), package["recommendation"].clone());
            kept.insert("from_first_exec".into(), package["coverage"]["from_first_exec"].clone());
            kept.insert("files".into(), serde_json::json!(files));
            (word(&package["purl"]), Value::Object(kept))
        })
        .collect()
}

/// A wheel of the demo's own making (a zip without compression, as the wheel format permits): the release that one
/// replica installs at run time.
fn newer_wheel(directory: &std::path::Path) -> anyhow::Result<()> {
    const MAKE: &str = "\
import sys, zipfile
directory, name, version = sys.argv[1:]
info = f'{name}-{version}.dist-info'
with zipfile.ZipFile(f'{directory}/{name}-{version}-py3-none-any.whl', 'w') as wheel:
    files = {f'{name}/__init__.py': f'__version__ = {version!r}\\n',
             f'{info}/METADATA': f'Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n',
             f'{info}/WHEEL': 'Wheel-Version: 1.0\\nGenerator: demo\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'}
    for path, text in files.items():
        wheel.writestr(path, text)
    wheel.writestr(f'{info}/RECORD', ''.join(f'{path},,\\n' for path in [*files, f'{info}/RECORD']))
";
    fs::create_dir_all(directory)?;
    let mut python = run::command("python3");
    python.args(["-c", MAKE]).arg(directory).args([UPGRADED, NEW_VERSION]);
    run::output(&mut python).map(|_| ())
}
