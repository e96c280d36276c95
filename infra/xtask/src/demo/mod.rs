//! `cargo xtask demo`: scans and runs a real application and a real container image through the whole pipeline.
//! It never shows a made-up result: what it prints comes from the portal's API, and what it left out it says.

mod application;
mod check;
mod inputs;
mod kafka;
mod languages;
mod local;
mod pipeline;
mod scenarios;
mod table;

use crate::stack::{Ports, RunningStack, Selection, Stack};
use crate::{paths, run, services, setup};
use anyhow::Context;
use application::Application;
use check::{Findings, Truth};
use pipeline::{Component, PATIENCE, Pipeline, wait};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

const DIRECTORY_COMPONENT: Component =
    Component { application: "backend", component: "pythonapp", version: "1.0" };
const IMAGE_COMPONENT: Component =
    Component { application: "backend", component: "webimage", version: "1.0" };
const CONTAINER: &str = "plimsoll-demo-web";
/// What `load_library` loads in Python.
const LATE_PACKAGE: &str = "pkg:pypi/pillow@";

/// How the demo is run.
#[derive(clap::Args)]
pub struct Options {
    /// Vulnerability data in the layout of the OSV export [default: ../shared/osv beside the workspace]
    #[arg(long, value_name = "DIR")]
    osv: Option<PathBuf>,
    /// Leave servers, services and dashboard running; `cargo xtask down --dir target/demo/stack` stops them
    #[arg(long)]
    keep: bool,
    /// Compare with what interpreter, kernel and dpkg say, and fail where Plimsoll says something else
    #[arg(long)]
    check: bool,
}

impl Options {
    /// As `cargo xtask test` runs it.
    pub fn checking() -> Self {
        Self { osv: None, keep: false, check: true }
    }
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let begin = Instant::now();
    let root = rustix::process::geteuid().is_root();
    let mut left_out = Vec::new();
    if !root {
        left_out.push("the container image and eBPF: both need root".to_owned());
    }
    let directory = paths::target().join("demo");
    fs::create_dir_all(directory.join("logs"))?;

    step(begin, "setting up");
    setup::demo(root)?;
    step(begin, "building");
    services::build()?;
    let plimsoll = paths::target().join("debug/plimsoll");
    let database = database(options, &plimsoll, &directory, begin, &mut left_out)?;

    step(begin, "making the applications");
    let python = inputs::Python::find()?;
    let wheels = inputs::wheels(&python)?;
    let application = inputs::application(&python, &wheels, &directory)?;
    languages::java(&directory)?;
    languages::node(&directory)?;

    step(begin, "starting servers");
    let stack_directory = directory.join("stack");
    let stack = Stack::start(&stack_directory, &Selection { docker: root, ..Selection::ALL })?;
    let docker_host = variable(stack.variables(), "PLIMSOLL_TEST_DOCKER_HOST");
    if let Some(docker_host) = &docker_host {
        step(begin, "making the image");
        inputs::image(docker_host, &wheels, &directory)?;
    }
    step(begin, "starting the services");
    let variables = {
        let mut open = Stack::open(&stack_directory)?;
        services::start(&mut open, database.as_deref())?;
        open.variables()
    };
    let environment = environment(&variables, database.as_deref(), &directory);
    let demo = Demo {
        pipeline: Pipeline::new(&variables)?,
        plimsoll,
        environment,
        docker_host,
        directory,
        application,
        assessed: database.is_some(),
        begin,
    };
    let outcome = demo.observe(options.check)?;
    demo.show(&outcome)?;
    for what in &left_out {
        println!("left out: {what}");
    }
    let checked = if options.check {
        // Both say what they found, whatever the other did.
        let compared = demo.check(&outcome);
        let cases = demo.cases(&stack_directory);
        compared.and(cases)
    } else {
        Ok(())
    };
    println!("done in {:.0} s", begin.elapsed().as_secs_f64());
    finish(stack, &demo, options.keep)?;
    checked
}

fn finish(stack: RunningStack, demo: &Demo, keep: bool) -> anyhow::Result<()> {
    if keep {
        stack.keep();
        println!("everything runs on; stop it with: cargo xtask down --dir target/demo/stack");
        return Ok(());
    }
    println!("(the dashboard at {} ends now; with --keep it stays)", demo.pipeline.portal());
    stack.stop()
}

/// Says what comes next, and how long the demo has been at work.
fn step(begin: Instant, what: &str) {
    println!("== {:>5.1} s  {what}", begin.elapsed().as_secs_f64());
}

fn variable(variables: &[(String, String)], name: &str) -> Option<String> {
    variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

/// What the `plimsoll` command is told: where the pipeline is, where its own data lie.
fn environment(
    variables: &[(String, String)],
    database: Option<&Path>,
    directory: &Path,
) -> Vec<(String, String)> {
    let mut environment = services::client_environment(variables);
    let state = directory.join("state");
    environment.push(("PLIMSOLL_STATE_DIRECTORY".into(), state.display().to_string()));
    if let Some(database) = database {
        environment.push(("PLIMSOLL_DATABASE".into(), database.display().to_string()));
    }
    if let Some(host) = variable(variables, "PLIMSOLL_TEST_DOCKER_HOST") {
        // Both plimsoll and the docker command follow it.
        environment.push(("DOCKER_HOST".into(), host));
    }
    environment
}

/// `plimsoll db build`; nothing where there are no data to build from.
fn database(
    options: &Options,
    plimsoll: &Path,
    directory: &Path,
    begin: Instant,
    left_out: &mut Vec<String>,
) -> anyhow::Result<Option<PathBuf>> {
    let beside = || paths::workspace().parent().map(|parent| parent.join("shared/osv"));
    let given = options.osv.clone().or_else(|| std::env::var_os("PLIMSOLL_OSV_DIR").map(PathBuf::from));
    let Some(osv) = given.clone().or_else(beside).filter(|osv| given.is_some() || osv.is_dir()) else {
        left_out.push("vulnerabilities: no OSV export beside the workspace; name one with --osv DIR".into());
        return Ok(None);
    };
    step(begin, "building the vulnerability database");
    let file = directory.join("vulnerabilities.db");
    let mut build = run::command(plimsoll);
    build.args(["db", "build"]).arg(&osv).arg("--file").arg(&file);
    run::logged(&mut build, &directory.join("logs/database.log"))?;
    Ok(Some(file))
}

struct Demo {
    pipeline: Pipeline,
    plimsoll: PathBuf,
    environment: Vec<(String, String)>,
    docker_host: Option<String>,
    directory: PathBuf,
    /// The application's directory, `mydir/pythonapp`.
    application: PathBuf,
    assessed: bool,
    begin: Instant,
}

/// What came out for one component.
struct Outcome {
    component: Component,
    report: Value,
    latency: Duration,
    /// Where it was asked for, of the application in Python.
    truth: Option<Truth>,
    /// Where it was asked for, of the other services: places of the packages that were loaded.
    loaded: Option<BTreeSet<String>>,
}

impl Demo {
    /// Scan all, run all, wait until everything has landed.
    fn observe(&self, with_truth: bool) -> anyhow::Result<Vec<Outcome>> {
        step(self.begin, "scanning");
        let mut scan = self.plimsoll(&["scan", "-s", "fs"], &DIRECTORY_COMPONENT);
        scan.arg("mydir/pythonapp").current_dir(&self.directory);
        run::logged(&mut scan, &self.log_path("scan-fs"))?;
        for service in [languages::JAVA, languages::NODE] {
            self.scan_service(&service)?;
        }
        if self.docker_host.is_some() {
            let mut scan = self.plimsoll(&["scan", "-s", "image"], &IMAGE_COMPONENT);
            scan.arg(format!("docker:{}", inputs::IMAGE));
            run::logged(&mut scan, &self.log_path("scan-image"))?;
        }

        // Where the interpreter and its libraries come from.
        run::logged(&mut self.command(&["scan", "-s", "host"]), &self.log_path("scan-host"))?;

        step(self.begin, "running");
        let ports = Ports::default();
        let mut running = vec![self.run_process(ports.free()?)?];
        if self.docker_host.is_some() {
            running.push(self.run_container(ports.free()?)?);
        }
        for service in [languages::JAVA, languages::NODE] {
            running.push(self.run_service(service, ports.free()?)?);
        }
        let mut observed = Vec::new();
        for application in running {
            application.drive()?;
            let latency = self.latency(&application)?;
            let container = self.docker_host.as_deref().map(|host| (host, CONTAINER));
            let container = container.filter(|_| application.component == IMAGE_COMPONENT);
            let python = languages::expected(&application.component).is_none();
            let truth = (with_truth && python).then(|| Truth::of(&application, container)).transpose()?;
            observed.push((application, latency, truth));
        }

        step(self.begin, "waiting for the pipeline");
        let mut outcomes = Vec::new();
        for (application, latency, truth) in observed {
            let component = application.component;
            let mut loaded = None;
            if with_truth && component == languages::NODE {
                loaded = Some(languages::places_of_modules(&application)?);
            }
            application.quit()?;
            if with_truth && component == languages::JAVA {
                loaded = Some(self.places_of_classes()?);
            }
            wait("the end of the workload in ClickHouse", PATIENCE, || {
                let ended = check::ended_workloads(&self.pipeline, &component)?;
                Ok(if ended > 0 { Ok(()) } else { Err(format!("{} still runs", component.component)) })
            })?;
            self.pipeline.wait_caught_up()?;
            let report = self.pipeline.report(&component)?;
            outcomes.push(Outcome { component, report, latency, truth, loaded });
        }
        Ok(outcomes)
    }

    fn run_process(&self, port: u16) -> anyhow::Result<Application> {
        let mut run = self.plimsoll(&["run"], &DIRECTORY_COMPONENT);
        self.start_process(run.arg("-v"), port, "run-process")
    }

    /// The application as a process under a `plimsoll run …` command.
    fn start_process(&self, run: &mut Command, port: u16, log: &str) -> anyhow::Result<Application> {
        run.arg("--cmd").arg(self.application.join("venv/bin/python")).arg("run.py");
        run.current_dir(&self.application).env("PORT", port.to_string());
        Application::start(DIRECTORY_COMPONENT, run, port, self.log_path(log))
    }

    fn run_container(&self, port: u16) -> anyhow::Result<Application> {
        let mut run = self.plimsoll(&["run"], &IMAGE_COMPONENT);
        run.args(["-v", "--", "docker", "run", "--rm", "--network", "host", "--name", CONTAINER]);
        run.args(["--env", &format!("PORT={port}"), inputs::IMAGE]);
        Application::start(IMAGE_COMPONENT, &mut run, port, self.log_path("run-container"))
    }

    /// From the load of a library to the row in ClickHouse that says so, at rest.
    fn latency(&self, application: &Application) -> anyhow::Result<Duration> {
        self.pipeline.wait_caught_up()?;
        let late = languages::expected(&application.component).map_or(LATE_PACKAGE, |expected| expected.late);
        let query = format!(
            "SELECT count() FROM package_usage FINAL WHERE {} AND startsWith(purl, '{late}') AND use = 'used'",
            application.component.condition()
        );
        anyhow::ensure!(self.pipeline.count(&query)? == 0, "{late} was used before it was loaded");
        let began_ms = application.load_library()?;
        wait("the row of the loaded library", PATIENCE, || {
            Ok(if self.pipeline.count(&query)? > 0 { Ok(()) } else { Err("no row".to_owned()) })
        })?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(now.saturating_sub(Duration::from_secs_f64(began_ms / 1_000.0)))
    }

    /// `plimsoll WORDS -a … -c … -V …` with the pipeline's addresses.
    fn plimsoll(&self, words: &[&str], of: &Component) -> Command {
        let mut command = self.command(words);
        command.args(["-a", of.application, "-c", of.component, "-V", of.version]);
        command
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = run::command(&self.plimsoll);
        command.args(words).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("logs/{name}.log"))
    }

    /// Print the tables, write the report.
    fn show(&self, outcomes: &[Outcome]) -> anyhow::Result<()> {
        for outcome in outcomes {
            println!("\n{}", table::recommendations(&outcome.report));
        }
        for Outcome { component, latency, .. } in outcomes {
            println!(
                "{}: a library's load was in ClickHouse after {} ms",
                component.component,
                latency.as_millis()
            );
        }
        let reports: Vec<&Value> = outcomes.iter().map(|outcome| &outcome.report).collect();
        let file = self.directory.join("report.json");
        fs::write(&file, serde_json::to_string_pretty(&reports)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("report: {}", file.display());
        for outcome in outcomes {
            println!("dashboard: {}{}", self.pipeline.portal(), outcome.component.path());
        }
        Ok(())
    }

    /// The harder cases, and the same commands without any server.
    fn cases(&self, stack: &Path) -> anyhow::Result<()> {
        let Some(docker_host) = &self.docker_host else {
            println!("left out: cases with containers, which need root");
            return self.alone();
        };
        step(self.begin, "the harder cases");
        scenarios::run_all(self, docker_host, stack.to_owned())
    }

    fn alone(&self) -> anyhow::Result<()> {
        step(self.begin, "without any server");
        local::run_all(self)
    }

    fn check(&self, outcomes: &[Outcome]) -> anyhow::Result<()> {
        println!("\nchecks:");
        let mut findings = Findings::new();
        for Outcome { component, report, latency, truth, loaded } in outcomes {
            let name = component.component;
            let in_container = *component == IMAGE_COMPONENT;
            if self.assessed {
                findings.check(format!("{name}: all of vulnerable × used occur"), check::four_cells(report));
            }
            if let Some(truth) = truth {
                findings.check(
                    format!("{name}: used packages are those in sys.modules ({})", truth.distributions.len()),
                    check::used_distributions(report, truth),
                );
                match &truth.system_packages {
                    Some(loaded) => findings.check(
                        format!(
                            "{name}: what was mapped or executed is used and loaded ({} packages)",
                            loaded.len()
                        ),
                        check::loaded_system_packages(report, loaded),
                    ),
                    None => println!("  left out: {name}: libraries of the host, which has no dpkg"),
                }
            }
            if let Some(expected) = languages::expected(component) {
                if let Some(loaded) = loaded {
                    findings.check(
                        format!("{name}: used packages are those that its language names ({})", loaded.len()),
                        languages::used_packages(report, &expected, loaded),
                    );
                }
                findings.check(
                    format!("{name}: what nothing loaded, or only read as data, is unused"),
                    languages::late_and_never(report, &expected),
                );
                findings.check(
                    format!("{name}: each used package lists its files or classes with times"),
                    languages::lists_evidence(report, &expected),
                );
            } else {
                findings.check(
                    format!("{name}: what nothing opened is unused"),
                    check::untouched_packages(report, in_container),
                );
            }
            findings.check(format!("{name}: unused only where watched"), check::unused_was_watched(report));
            findings.check(
                format!("{name}: load to row in {} ms", latency.as_millis()),
                check::latency(*latency),
            );
        }
        findings.conclude()
    }
}
