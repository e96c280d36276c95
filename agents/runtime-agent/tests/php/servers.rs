//! PHP's servers: FPM, Apache's module and the built-in one, with OPcache in memory and in files. What is reported is what
//! get_included_files() says; what may have gone unseen is said.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use plimsoll_runtime_agent::config::AgentConfig;
use rustix::process::Signal;

use super::support;
use super::support::FakeContainer;
use super::support::languages::{Measured, Way, assert_complete, cached, extract, mark, measure, program};
use super::support::php::{HOOK, application, of_packages, truth};
use super::support::servers::{Running, end, free_port, get, serve};

/// One request by FastCGI (fastcgi-archives.github.io/FastCGI_Specification.html); gives what came back.
fn request(socket: &Path, script: &Path, more: &[(&str, &str)]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut record = |kind: u8, body: &[u8]| {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        stream.write_all(&[1, kind, 0, 1, length[0], length[1], 0, 0]).unwrap();
        stream.write_all(body).unwrap();
    };
    record(1, &[0, 1, 0, 0, 0, 0, 0, 0]);
    let mut parameters = Vec::new();
    let script = script.to_str().unwrap();
    let directory = Path::new(script).parent().unwrap().to_str().unwrap();
    let all = [("SCRIPT_FILENAME", script), ("DOCUMENT_ROOT", directory), ("REQUEST_METHOD", "GET")];
    for (name, value) in all.iter().chain(more) {
        parameters.extend([u8::try_from(name.len()).unwrap(), u8::try_from(value.len()).unwrap()]);
        parameters.extend_from_slice(name.as_bytes());
        parameters.extend_from_slice(value.as_bytes());
    }
    record(4, &parameters);
    record(4, &[]);
    record(5, &[]);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// FPM of this machine; `None` (said why) without it.
fn fpm() -> Option<PathBuf> {
    let names = ["php-fpm8.2", "php-fpm8.3", "php-fpm8.4", "php-fpm8.1", "php-fpm"];
    let found = names.iter().map(|name| Path::new("/usr/sbin").join(name)).find(|path| path.exists());
    found.or_else(|| program("php-fpm8.2", "apt install php-fpm"))
}

/// FPM with two workers at `fpm.sock` below the root; `pool`: more settings of its pool.
fn fpm_command(fpm: &Path, root: &Path, pool: &str) -> Command {
    let settings = format!(
        "[global]\nerror_log = {0}/fpm.log\ndaemonize = no\n[www]\nlisten = {0}/fpm.sock\npm = static\n\
         pm.max_children = 2\nuser = root\n{pool}\n",
        root.display()
    );
    fs::write(root.join("fpm.conf"), settings).unwrap();
    fs::remove_file(root.join("fpm.sock")).ok();
    let mut command = Command::new(fpm);
    command.args(["-R", "-F", "-y"]).arg(root.join("fpm.conf")).args(["-d", "opcache.enable=1"]);
    command.stderr(Stdio::null());
    command
}

/// Waits until FPM listens.
fn wait_for(root: &Path, server: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while UnixStream::connect(root.join("fpm.sock")).is_err() {
        let log = || fs::read_to_string(root.join("fpm.log")).unwrap_or_default();
        assert!(server.try_wait().unwrap().is_none() && Instant::now() < deadline, "{}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Everything was seen; or, of a server by the hook alone, it is said that this is not known.
fn assert_known(way: Way, server: &str, measured: &Measured) {
    if way == Way::Ebpf {
        return assert_complete(way, HOOK, measured);
    }
    assert!(measured.is_watched_by(HOOK) && measured.lost(HOOK) > 0, "{:?}", measured.workload());
    let reasons = measured.workload().unavailable_probes;
    let reason = reasons.iter().find(|(name, _)| name.starts_with(HOOK) && name.ends_with(server));
    assert!(reason.is_some_and(|(_, reason)| reason.contains("can replace the include hook")), "{reasons:?}");
}

#[test]
fn workers_of_fpm_are_seen_with_opcache_and_preloading() {
    let (Some(directory), Some(fpm)) = (application(), fpm()) else { return };
    let root = fs::canonicalize(directory.path()).unwrap();
    fs::write(
        root.join("preload.php"),
        "<?php opcache_compile_file(__DIR__ . '/vendor/doctrine/lexer/src/Token.php');\n",
    )
    .unwrap();
    for way in Way::all() {
        let written = root.join(format!("truth-{way:?}"));
        let mut command = fpm_command(&fpm, &root, "");
        command.arg("-d").arg("opcache.preload_user=root");
        command.arg("-d").arg(format!("opcache.preload={}/preload.php", root.display()));
        let measured = serve(way, &root, command, Signal::QUIT, |server| {
            wait_for(&root, server);
            for _ in 0..4 {
                let told = [("TRUTH", written.to_str().unwrap())];
                let answer = request(&root.join("fpm.sock"), &root.join("app.php"), &told);
                assert!(answer.contains("2 snakeCase 1"), "{way:?} {answer}");
            }
        });
        assert_known(way, fpm.to_str().unwrap(), &measured);
        let mut truth = truth(&written, &root);
        // Compiled before the first request, and in no list of included files.
        let preloaded = "vendor/doctrine/lexer/src/Token.php";
        assert!(truth.insert(preloaded.to_owned()));
        assert_eq!(of_packages(measured.modules()), truth, "{way:?}");
    }
}

/// What runs is looked at again, once per epoch: that is no reason to take it for older than the watch.
#[test]
fn what_was_watched_from_its_start_stays_measurable() {
    let (Some(directory), Some(fpm)) = (application(), fpm()) else { return };
    if support::no_ebpf().is_some() {
        return;
    }
    let root = fs::canonicalize(directory.path()).unwrap();
    let config = AgentConfig { epoch: Duration::from_secs(1), ..support::config() };
    let (agent, collected) = support::start(config);
    let tree = support::tree(&agent, &root);
    let mut server = Running(tree.spawn(fpm_command(&fpm, &root, "")).unwrap());
    wait_for(&root, &mut server.0);
    let again = |all: &support::Collected| all.items_of(&fpm).iter().any(|item| item.probe == "resync");
    collected.wait("another look", again);
    end(&mut server.0, Signal::QUIT);
    agent.stop(false);
    let workload = collected.workloads().into_iter().next().unwrap();
    assert!(!workload.unavailable_probes.contains_key("not-measurable:composer"), "{workload:?}");
}

/// Each way to put another file in the hook's place: these requests are seen by eBPF only, and nothing that they may have
/// used is called unused for the sake of another PHP that says hello.
#[test]
fn requests_that_leave_the_hook_out_are_not_taken_for_none() {
    let (Some(directory), Some(fpm)) = (application(), fpm()) else { return };
    let root = fs::canonicalize(directory.path()).unwrap();
    fs::write(root.join("own.php"), "<?php echo 'own ';").unwrap();
    fs::write(root.join("hello.php"), "<?php echo 'hello';").unwrap();
    let own = format!("auto_prepend_file={}/own.php", root.display());
    let pool = format!("php_admin_value[auto_prepend_file] = {}/own.php", root.display());
    for (what, pool, user_ini, value) in [
        ("pool", pool.as_str(), None, None),
        (".user.ini", "", Some(own.as_str()), None),
        ("PHP_VALUE", "", None, Some(own.as_str())),
    ] {
        fs::remove_file(root.join(".user.ini")).ok();
        if let Some(text) = user_ini {
            fs::write(root.join(".user.ini"), text).unwrap();
        }
        // eBPF sees no difference between them.
        for way in Way::all().into_iter().filter(|way| *way == Way::Hooks || what == "pool") {
            let written = root.join(format!("truth-{what}-{way:?}"));
            let mut shell = Command::new("sh");
            let fpm_words = fpm_command(&fpm, &root, pool);
            shell.args(["-c", "php hello.php >&2; exec \"$@\"", "sh"]).arg(fpm_words.get_program());
            shell.args(fpm_words.get_args()).stderr(Stdio::null());
            let measured = serve(way, &root, shell, Signal::QUIT, |server| {
                wait_for(&root, server);
                let told = written.to_str().unwrap();
                let more: Vec<_> =
                    [("TRUTH", told)].into_iter().chain(value.map(|value| ("PHP_VALUE", value))).collect();
                let answer = request(&root.join("fpm.sock"), &root.join("app.php"), &more);
                assert!(answer.contains("own 2 snakeCase 1"), "{what} {way:?} {answer}");
            });
            assert!(measured.modules().contains("hello.php"), "{what} {way:?}");
            assert_known(way, fpm.to_str().unwrap(), &measured);
            if way == Way::Ebpf {
                assert_eq!(of_packages(measured.modules()), truth(&written, &root), "{what}");
            }
        }
    }
}

/// Libraries of Apache's that a machine without it lacks.
const APACHE_LIBRARIES: &[&str] = &["libapr1", "libaprutil1", "liblua5.3-0", "libnghttp2-14"];

/// Version of this machine's PHP, `8.2`, which its extensions are built for.
fn php_version() -> String {
    let tell = "echo PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION;";
    String::from_utf8(Command::new("php").args(["-r", tell]).output().unwrap().stdout).unwrap()
}

/// Debian's Apache with PHP's module, extracted: once, into the cache.
fn apache() -> Option<PathBuf> {
    program("apt-get", "Apache is Debian's")?;
    let module = format!("libapache2-mod-php{}", php_version());
    let packages: Vec<&str> =
        ["apache2-bin", module.as_str()].into_iter().chain(APACHE_LIBRARIES.iter().copied()).collect();
    cached(&format!("apache-{}", mark(&format!("{packages:?}"))), |folder| {
        let work = tempfile::tempdir().map_err(|error| error.to_string())?;
        extract(work.path(), &folder.join("packages"), &packages)
    })
}

/// PHP's module of that Apache.
fn php_module(apache: &Path) -> PathBuf {
    let version = php_version();
    apache.join(format!("packages/libapache2-mod-php{version}/usr/lib/apache2/modules/libphp{version}.so"))
}

/// The command of an Apache that runs the scripts of `root` with this module of PHP at a port of the loopback.
fn apache_command(apache: &Path, php: &Path, root: &Path, port: u16) -> Command {
    let modules = apache.join("packages/apache2-bin/usr/lib/apache2/modules");
    let version = php_version();
    let settings = format!(
        "ServerRoot {root}\nPidFile {root}/apache.pid\nListen 127.0.0.1:{port}\nServerName localhost\n\
         ErrorLog {root}/apache.log\nMutex file:{root}\nDocumentRoot {root}\nUser www-data\nGroup www-data\n\
         LoadModule mpm_prefork_module {modules}/mod_mpm_prefork.so\n\
         LoadModule authz_core_module {modules}/mod_authz_core.so\n\
         LoadModule env_module {modules}/mod_env.so\nLoadModule php_module {php}\n\
         PassEnv TRUTH\nStartServers 2\nMinSpareServers 1\nMaxSpareServers 2\nMaxRequestWorkers 2\n\
         <Directory {root}>\nAllowOverride All\nRequire all granted\nSetHandler application/x-httpd-php\n</Directory>\n",
        root = root.display(),
        modules = modules.display(),
        php = php.display(),
    );
    fs::write(root.join("apache.conf"), settings).unwrap();
    let multiarch = format!("{}-linux-gnu", std::env::consts::ARCH);
    let libraries: Vec<String> = APACHE_LIBRARIES
        .iter()
        .map(|name| format!("{}/packages/{name}/usr/lib/{multiarch}", apache.display()))
        .collect();
    // At its end it signals its whole process group.
    let mut command = Command::new("setsid");
    command
        .arg(apache.join("packages/apache2-bin/usr/sbin/apache2"))
        .arg("-f")
        .arg(root.join("apache.conf"))
        .arg("-DFOREGROUND");
    command.env("LD_LIBRARY_PATH", libraries.join(":"));
    // Extensions as the command line has them.
    command.env("PHP_INI_SCAN_DIR", format!("/etc/php/{version}/cli/conf.d"));
    command
}

/// Where Apache's workers, who run as another user, can read and write.
fn open_to_all(root: &Path) {
    let status = Command::new("chmod").args(["-R", "a+rwX"]).arg(root).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_web_server_with_phps_module_is_seen() {
    let (Some(directory), Some(apache)) = (application(), apache()) else { return };
    if support::no_ebpf().is_some() {
        return; // it changes its user
    }
    let root = fs::canonicalize(directory.path()).unwrap();
    // As Alpine and openSUSE name it.
    let renamed = root.join("mod_php82.so");
    fs::copy(php_module(&apache), &renamed).unwrap();
    open_to_all(&root);
    let runs = Way::all().into_iter().map(|way| (way, php_module(&apache))).chain([(Way::Ebpf, renamed)]);
    for (number, (way, module)) in runs.enumerate() {
        let written = root.join(format!("truth-{number}"));
        let port = free_port();
        let mut command = apache_command(&apache, &module, &root, port);
        command.env("TRUTH", &written);
        let measured = serve(way, &root, command, Signal::TERM, |server| {
            for _ in 0..4 {
                let answer = get(port, "/app.php", server);
                assert!(answer.ends_with("2 snakeCase 1\n"), "{way:?} {answer}");
            }
        });
        assert_known(way, "apache2", &measured);
        assert_eq!(of_packages(measured.modules()), truth(&written, &root), "{way:?}");
    }
}

#[test]
fn the_built_in_server_is_seen_whole_without_a_router() {
    let Some(directory) = application() else { return };
    let root = fs::canonicalize(directory.path()).unwrap();
    fs::write(root.join("router.php"), "<?php require 'app.php';").unwrap();
    fs::write(root.join("hello.php"), "<?php echo 'hello';").unwrap();
    // Another PHP says hello, as that which frameworks start the server by.
    let script = "php hello.php >&2; exec php -S \"$@\"";
    for router in [None, Some("router.php")] {
        for way in Way::all() {
            let written = root.join(format!("truth-{router:?}-{way:?}"));
            let port = free_port();
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh", &format!("127.0.0.1:{port}")]).args(router);
            command.env("TRUTH", &written).stderr(Stdio::null());
            let measured = serve(way, &root, command, Signal::INT, |server| {
                for _ in 0..2 {
                    let answer = get(port, "/app.php", server);
                    assert!(answer.ends_with("2 snakeCase 1\n"), "{router:?} {way:?} {answer}");
                }
            });
            if way == Way::Hooks && router.is_some() {
                assert!(measured.lost(HOOK) > 0, "{:?}", measured.workload());
                let reasons = measured.workload().unavailable_probes;
                assert!(reasons.values().any(|reason| reason.contains("router script")), "{reasons:?}");
            } else {
                assert_complete(way, HOOK, &measured);
                assert_eq!(of_packages(measured.modules()), truth(&written, &root), "{router:?} {way:?}");
            }
        }
    }
}

#[test]
fn what_opcache_keeps_in_files_is_used() {
    let Some(directory) = application() else { return };
    let root = fs::canonicalize(directory.path()).unwrap();
    fs::create_dir(root.join("cache")).unwrap();
    let command = |written: &Path| {
        let mut php = Command::new("php");
        php.args(["-d", "opcache.enable=1", "-d", "opcache.enable_cli=1", "-d", "opcache.file_cache_only=1"]);
        php.arg("-d").arg(format!("opcache.file_cache={}/cache", root.display()));
        php.arg("app.php").env("TRUTH", written).current_dir(&root);
        php
    };
    assert!(command(&root.join("truth")).output().unwrap().status.success());
    for way in Way::all() {
        let written = root.join(format!("truth-{way:?}"));
        let measured = measure(way, &root, vec![command(&written)]);
        assert_complete(way, HOOK, &measured);
        let cached = measured.paths("file").into_iter().chain(measured.paths("module"));
        assert!(!cached.into_iter().any(|path| path.ends_with("Environment.php.bin")), "{way:?}");
        assert_eq!(of_packages(measured.modules()), truth(&written, &root), "{way:?}");
    }
}

/// What OPcache has in memory is not read again.
#[test]
fn servers_that_ran_before_the_agent_are_not_measurable() {
    let (Some(directory), Some(fpm), Some(apache)) = (application(), fpm(), apache()) else { return };
    if support::no_ebpf().is_some() {
        return;
    }
    let root = fs::canonicalize(directory.path()).unwrap();
    open_to_all(&root);
    let port = free_port();
    for (program, command) in [
        ("fpm", fpm_command(&fpm, &root, "")),
        ("apache2", apache_command(&apache, &php_module(&apache), &root, port)),
    ] {
        let container = FakeContainer::new();
        let words: Vec<&str> = command.get_args().map(|word| word.to_str().unwrap()).collect();
        let libraries = command
            .get_envs()
            .map(|(name, value)| format!("{}={}", name.to_str().unwrap(), value.unwrap().to_str().unwrap()));
        let script = format!(
            "exec env {} {} {} >/dev/null 2>&1",
            libraries.collect::<Vec<_>>().join(" "),
            command.get_program().to_str().unwrap(),
            words.join(" ")
        );
        let mut server = Running(container.command("", &script).spawn().unwrap());
        match program {
            "fpm" => wait_for(&root, &mut server.0),
            _ => drop(get(port, "/app.php", &mut server.0)),
        }
        let (agent, collected) = support::start(AgentConfig { watch_containers: true, ..support::config() });
        let key = "not-measurable:composer";
        collected.wait(program, |all| {
            let workload = all.workload_of_container(&container.id);
            workload.is_some_and(|workload| workload.unavailable_probes.contains_key(key))
        });
        let reasons = collected.workload_of_container(&container.id).unwrap().unavailable_probes;
        assert!(reasons[key].contains(program) && reasons[key].contains("OPcache"), "{reasons:?}");
        end(&mut server.0, Signal::TERM);
        agent.stop(false);
    }
}
