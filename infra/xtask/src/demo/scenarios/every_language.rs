//! Services in every language in containers, started after the agent and before it, compared with what each language
//! itself says of what it has loaded. It never takes for used or unused what only Plimsoll says.

use super::{Cases, Container, VERSION, all, tag, word};
use crate::demo::check;
use crate::demo::languages::{NODE_PAGES, class_sources, package_directory};
use crate::demo::pipeline::{Component, PATIENCE, wait};
use crate::demo::{inputs, languages};
use crate::stack::Ports;
use crate::{http, run, setup};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// The name of the image of all services.
const IMAGE: &str = "languages";
/// A JVM beside four others that start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(90);
/// What the image's system has beyond the essential packages.
const SYSTEM_PACKAGES: &str = "nodejs,openjdk-17-jre-headless,puma,ruby-sinatra,ruby-multi-json,ruby-addressable,\
                               ruby-tzinfo,ruby-builder,php-cli,composer,php-twig,php-monolog,php-psr-log,\
                               php-symfony-yaml,php-symfony-finder,php-symfony-process,php-react-promise";

/// Makes the section of a Rust program with the list of its crates.
const COMPRESS: &str =
    "import zlib; open('crates.zlib', 'wb').write(zlib.compress(open('crates.json', 'rb').read()))";

/// A service of the image. Its language's own word are places of packages in the image, as locations of the report.
struct Service {
    /// Names of the component of a container started after the agent, and before it.
    components: [&'static str; 2],
    ecosystem: &'static str,
    directory: &'static str,
    command: &'static [&'static str],
    /// Asked for at once.
    pages: &'static [&'static str],
    /// Loads what nothing has loaded before; empty where nothing loads late.
    late: &'static str,
    /// Places of packages that nothing loads, some of which are read as data, as metadata or stat'ed; one that ends with
    /// a hyphen is of any version. Of a program: the names of all modules that are not linked in.
    never: &'static [&'static str],
    truth: Truth,
}

enum Truth {
    /// The page `/modules` names files; the package is the directory that the function finds.
    Modules(fn(&str) -> Option<String>),
    /// The page `/modules` names files of gems that packages of the system installed.
    SystemGems,
    /// The JVM's own log on its standard output.
    Classes,
    /// A program that has the modules linked in, at this place: it is the use of all but those in `never`.
    Program(&'static str),
}

const SERVICES: [Service; 6] = [
    Service {
        components: ["node-after", "node-before"],
        ecosystem: "npm",
        directory: "/srv/nodeapp",
        command: &["node", "server.js"],
        pages: NODE_PAGES,
        late: "/library",
        never: &["srv/nodeapp/node_modules/jquery", "srv/nodeapp/node_modules/jsonwebtoken"],
        truth: Truth::Modules(package_directory),
    },
    Service {
        components: ["java-after", "java-before"],
        ecosystem: "maven",
        directory: "/srv/javaapp",
        command: &["java", "-Xlog:class+load", "-Xmx64m", "-cp", "classes:lib/*", "demo.Main"],
        pages: &["/", "/names", "/text", "/plugin", "/data"],
        late: "/library",
        never: &["srv/javaapp/lib/h2-1.4.197.jar"],
        truth: Truth::Classes,
    },
    Service {
        components: ["ruby-after", "ruby-before"],
        ecosystem: "gem",
        directory: "/srv/rubyapp",
        command: &["sh", "-c", "exec puma --bind tcp://127.0.0.1:$PORT config.ru"],
        pages: &["/health", "/data"],
        late: "/late",
        never: &[
            "usr/share/rubygems-integration/all/specifications/tzinfo-",
            "usr/share/rubygems-integration/all/specifications/builder-",
        ],
        truth: Truth::SystemGems,
    },
    Service {
        components: ["php-after", "php-before"],
        ecosystem: "composer",
        directory: "/srv/phpapp",
        command: &["sh", "-c", "exec php -S 127.0.0.1:$PORT index.php"],
        pages: &["/", "/data"],
        late: "/late",
        never: &["srv/phpapp/vendor/symfony/finder", "srv/phpapp/vendor/react/promise"],
        truth: Truth::Modules(composer_directory),
    },
    Service {
        components: ["go-after", "go-before"],
        ecosystem: "golang",
        directory: "/srv/goapp",
        // With so many words it serves.
        command: &["./server", "1", "2", "3", "4", "5"],
        pages: &[],
        late: "",
        never: &["golang.org/x/exp"],
        truth: Truth::Program("srv/goapp/server"),
    },
    Service {
        components: ["rust-after", "rust-before"],
        ecosystem: "cargo",
        directory: "/srv/rustapp",
        command: &["./server"],
        pages: &[],
        late: "",
        // What only the build needed is not listed at all.
        never: &[],
        truth: Truth::Program("srv/rustapp/server"),
    },
];

/// A service that answers, in its container.
struct Running<'a> {
    service: &'static Service,
    component: Component,
    container: Container<'a>,
    url: String,
}

impl Running<'_> {
    /// Ask for pages. Programs have none.
    fn ask(&self, pages: &[&str]) -> anyhow::Result<()> {
        for page in pages.iter().filter(|page| !page.is_empty()) {
            http::call("GET", &format!("{}{page}", self.url)).context(self.component.component)?;
        }
        Ok(())
    }
}

impl Cases<'_> {
    /// Built once for both cases, from what the demo's own services are made of.
    pub(super) fn image_of_languages(&self) -> anyhow::Result<()> {
        setup::ensure(&[setup::GO])?;
        let context = self.demo.directory.join(IMAGE);
        inputs::fresh_copy(&inputs::sources().join("languages"), &context)?;
        for service in [languages::JAVA, languages::NODE] {
            let from = self.demo.directory.join("mydir").join(service.component);
            inputs::copy(&from, &context.join(service.component))?;
        }
        let mut go = run::command("go");
        go.args(["build", "-o"]).arg(context.join("goapp/server")).arg(".");
        go.current_dir(crate::paths::workspace().join("services/catalog/tests/go_app/app"));
        run::output(go.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly -buildvcs=false"))?;
        let rust = context.join("rustapp");
        let mut python = run::command("python3");
        python.args(["-c", COMPRESS]).current_dir(&rust);
        run::output(&mut python)?;
        run::output(
            run::command("rustc").args(["--edition=2024", "-o", "server", "main.rs"]).current_dir(&rust),
        )?;
        let base = format!("{}-base", tag(IMAGE));
        run::output(self.docker().arg("import").arg(inputs::system(SYSTEM_PACKAGES)?).arg(&base))?;
        let mut build = self.docker();
        build.args(["build", "--tag", &tag(IMAGE), "--build-arg", &format!("BASE={base}")]).arg(&context);
        run::output(&mut build)?;
        let component = Component { application: "cases", component: IMAGE, version: VERSION };
        let mut scan = self.demo.plimsoll(&["scan", "-s", "image"], &component);
        run::output(scan.arg(format!("docker:{}", tag(IMAGE)))).map(|_| ())
    }

    /// Containers whose agent was there: used is what the language names, everything else is unused.
    pub(super) fn languages_after_agent(&self) -> anyhow::Result<()> {
        for running in self.start_services(0)? {
            let service = running.service;
            running.ask(service.pages)?;
            running.ask(&[service.late])?;
            let loaded = self.loaded(&running)?;
            let component = running.component;
            self.end(running)?;
            let report = self.report_after(&component, 1)?;
            let name = component.component;
            let used = places(service, &report, "used");
            same(&loaded, &used).with_context(|| format!("{name}: its language's word and what is used"))?;
            let unused = places(service, &report, "unused");
            let is_unused = |never: &str| {
                let is_it =
                    |place: &String| place == never || never.ends_with('-') && place.starts_with(never);
                unused.iter().any(is_it)
            };
            let missed: Vec<&&str> = service.never.iter().filter(|place| !is_unused(place)).collect();
            ensure!(missed.is_empty(), "{name}: {missed:?} should be unused, as {unused:?} are");
            if matches!(service.truth, Truth::Program(_)) {
                ensure!(unused.len() == service.never.len(), "{name}: more is unused: {unused:?}");
            }
            let unknown = places(service, &report, "not_measured");
            ensure!(unknown.is_empty(), "{name}: {unknown:?} are not measured");
        }
        Ok(())
    }

    /// Containers older than the agent: what was loaded before is used only where that can be known, as in a JVM;
    /// what is loaded later is used; and nothing is unused.
    pub(super) fn languages_before_agent(&self) -> anyhow::Result<()> {
        self.open_stack()?.stop("runtime-agent")?;
        let services = self.start_services(1)?;
        let mut early = Vec::new();
        for running in &services {
            running.ask(running.service.pages)?;
            early.push(self.loaded(running)?);
        }
        self.open_stack()?.restart("runtime-agent")?;
        self.wait_observing()?;
        for (running, early) in services.into_iter().zip(early) {
            let (service, component) = (running.service, running.component);
            let name = component.component;
            wait("the workload in ClickHouse", PATIENCE, || {
                let query = format!("SELECT count() FROM workloads FINAL WHERE {}", component.condition());
                Ok(if self.pipeline().count(&query)? > 0 { Ok(()) } else { Err(name.to_owned()) })
            })?;
            running.ask(&[service.late])?;
            let loaded = self.loaded(&running)?;
            let late: BTreeSet<String> = loaded.difference(&early).cloned().collect();
            let told_at_once = matches!(service.truth, Truth::Classes | Truth::Program(_));
            ensure!(!late.is_empty() || service.late.is_empty(), "{name}: nothing was loaded late");
            // Before the end, since the JVM is asked while it runs.
            let expected = if told_at_once { &loaded } else { &late };
            wait("what is loaded to be used", PATIENCE, || {
                let used = match self.pipeline().report(&component) {
                    Ok(report) => places(service, &report, "used"),
                    Err(error) => return Ok(Err(format!("{error:#}"))),
                };
                let missed: Vec<&String> = expected.difference(&used).collect();
                Ok(if missed.is_empty() { Ok(()) } else { Err(format!("{name}: {missed:?} are not used")) })
            })?;
            self.end(running)?;
            let report = self.report_after(&component, 1)?;
            let used = places(service, &report, "used");
            let wrong: Vec<&String> = used.difference(&loaded).collect();
            ensure!(wrong.is_empty(), "{name}: used but not loaded: {wrong:?}");
            let unused: Vec<String> = all(&report)
                .filter(|package| package["use"] == "unused")
                .map(|package| word(&package["purl"]))
                .collect();
            ensure!(
                unused.is_empty(),
                "{name}: unused although nobody watched from the first exec: {unused:?}"
            );
            check::unused_was_watched(&report)?;
        }
        Ok(())
    }

    /// All services at once; each answers.
    fn start_services(&self, which: usize) -> anyhow::Result<Vec<Running<'_>>> {
        let ports = Ports::default();
        let mut started = Vec::new();
        for service in &SERVICES {
            let port = ports.free()?;
            let component =
                Component { application: "cases", component: service.components[which], version: VERSION };
            let options = ["--workdir", service.directory, "--env", &format!("PORT={port}")];
            let container = self.start(&component, &options, &tag(IMAGE), service.command)?;
            let url = format!("http://127.0.0.1:{port}");
            started.push(Running { service, component, container, url });
        }
        for running in &started {
            wait("a service to answer", START_LIMIT, || {
                let Err(error) = http::call("GET", &format!("{}/health", running.url)) else {
                    return Ok(Ok(()));
                };
                let error = format!("{}: {error:#}", running.component.component);
                // The program has no pages, but answers.
                Ok(if error.contains("HTTP status 404") { Ok(()) } else { Err(error) })
            })?;
        }
        Ok(started)
    }

    /// Places of the packages that the language itself says are loaded.
    fn loaded(&self, running: &Running<'_>) -> anyhow::Result<BTreeSet<String>> {
        let root = running.service.directory.trim_start_matches('/');
        if let Truth::Program(program) = running.service.truth {
            return Ok(BTreeSet::from([program.to_owned()]));
        }
        if matches!(running.service.truth, Truth::Classes) {
            let log = run::output(self.docker().args(["logs", &running.container.name]))?;
            let jars = class_sources(&log, Path::new(running.service.directory));
            ensure!(!jars.is_empty(), "the JVM names no jars");
            return Ok(jars.into_iter().map(|jar| format!("{root}/{jar}")).collect());
        }
        let answer = http::call("GET", &format!("{}/modules", running.url));
        let answer: Value = serde_json::from_str(&answer.context(running.component.component)?)?;
        let modules = answer["modules"].as_array().context("/modules tells no modules")?;
        // Relative to the service's directory, or absolute.
        let modules = modules.iter().filter_map(Value::as_str).map(|file| match file.strip_prefix('/') {
            Some(file) => file.to_owned(),
            None => format!("{root}/{file}"),
        });
        let places: BTreeSet<String> = match running.service.truth {
            Truth::Modules(directory) => modules.filter_map(|file| directory(&file)).collect(),
            _ => self.system_gems(&running.container, modules)?,
        };
        ensure!(!places.is_empty(), "{} names no packages", running.component.component);
        Ok(places)
    }

    /// Gemspecs of the packages of the image's system that these files belong to, by dpkg's own lists.
    fn system_gems(
        &self,
        container: &Container<'_>,
        files: impl Iterator<Item = String>,
    ) -> anyhow::Result<BTreeSet<String>> {
        // From outside, so that the container itself executes nothing.
        let process =
            run::output(self.docker().args(["inspect", "--format", "{{.State.Pid}}", &container.name]))?;
        let database = format!("/proc/{}/root/var/lib/dpkg", process.trim());
        let files = files.map(|file| format!("/{file}")).collect();
        let mut gemspecs = BTreeSet::new();
        for package in check::owners(&database, &files).into_keys().filter(|name| is_of_gems(name)) {
            let mut list = run::command("dpkg-query");
            let list = run::output(list.args(["--admindir", &database, "--listfiles", &package]))?;
            let own = list.lines().filter(|file| file.ends_with(".gemspec"));
            gemspecs.extend(own.map(|file| file.trim_start_matches('/').to_owned()));
        }
        Ok(gemspecs)
    }

    /// End it, and see that it has.
    fn end(&self, running: Running<'_>) -> anyhow::Result<()> {
        run::output(self.docker().args(["stop", "--time", "5", &running.container.name])).map(|_| ())
    }
}

/// A package of the system that carries one gem; Ruby's own brings its default gems all at once.
fn is_of_gems(package: &str) -> bool {
    package == "puma" || package.starts_with("ruby-")
}

/// The directory of the Composer package that a file belongs to.
fn composer_directory(file: &str) -> Option<String> {
    const VENDOR: &str = "srv/phpapp/vendor/";
    let words: Vec<&str> = file.strip_prefix(VENDOR)?.split('/').collect();
    // `vendor/composer` and `vendor/autoload.php` are Composer's own.
    (words.len() > 2 && words[0] != "composer").then(|| format!("{VENDOR}{}/{}", words[0], words[1]))
}

/// Where the service's packages with this use lie. Those of programs are known by name: they share one place.
fn places(service: &Service, report: &Value, usage: &str) -> BTreeSet<String> {
    let inside = |place: &String| match service.truth {
        Truth::SystemGems => place.contains("/rubygems-integration/"),
        // Debian's node itself loads packages of the system.
        _ => place.starts_with("srv/"),
    };
    let of_language =
        all(report).filter(|package| package["ecosystem"] == service.ecosystem && package["use"] == usage);
    let mut found = BTreeSet::new();
    for package in of_language {
        if matches!(service.truth, Truth::Program(_)) && usage != "used" {
            found.insert(word(&package["name"]));
            continue;
        }
        let locations = package["locations"].as_array().into_iter().flatten();
        found.extend(locations.map(|location| word(&location["path"])).filter(inside));
    }
    found
}

fn same(expected: &BTreeSet<String>, found: &BTreeSet<String>) -> anyhow::Result<()> {
    let missed: Vec<&String> = expected.difference(found).collect();
    let wrong: Vec<&String> = found.difference(expected).collect();
    ensure!(
        missed.is_empty() && wrong.is_empty(),
        "loaded but not used: {missed:?}; used but not loaded: {wrong:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composer_directories() {
        let check = |file: &str, expect: Option<&str>| {
            assert_eq!(composer_directory(file).as_deref(), expect, "{file}");
        };
        check("srv/phpapp/index.php", None);
        check("srv/phpapp/vendor/autoload.php", None);
        check("srv/phpapp/vendor/composer/ClassLoader.php", None);
        check("srv/phpapp/vendor/psr/log/LoggerInterface.php", Some("srv/phpapp/vendor/psr/log"));
    }
}
