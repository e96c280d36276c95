//! Programs and modules that a container uses from a volume, which may hold a copy of what its image has, or hide it.
//! Needs eBPF, Go, and the engine of PLIMSOLL_TEST_DOCKER_HOST; without them the tests say so and pass, except under CI=true.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::{has_ebpf, plimsoll, skip};

const IMAGE: &str = "plimsoll-test-volumes:1";
const GO_SOURCES: &str = "../catalog/tests/go_app/app";

struct World {
    host: String,
    directory: tempfile::TempDir,
}

impl World {
    /// An image with the programs `srv/one/tool` and `opt/two/tool`; `volume` has a copy of the first, and another program.
    fn new() -> Option<Self> {
        let host = std::env::var("PLIMSOLL_TEST_DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let Some(host) = host.filter(|_| has_ebpf()) else {
            skip("needs root and PLIMSOLL_TEST_DOCKER_HOST (run by cargo xtask test)");
            return None;
        };
        let world = Self { host, directory: tempfile::tempdir().unwrap() };
        let built = world.at("built");
        let mut build = Command::new("go");
        build.args(["build", "-o"]).arg(&built).arg("./small").env("CGO_ENABLED", "0");
        build.env("GOFLAGS", "-mod=readonly -buildvcs=false");
        ok(build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(GO_SOURCES)));
        let program = std::fs::read(&built).unwrap();
        // Starts a program, and stays a little longer than that.
        let starter = "#include <unistd.h>\n#include <sys/wait.h>\nint main(int c, char **v) {\n\
            if (fork() == 0) { execv(v[1], v + 1); _exit(1); }\n\
            int status; wait(&status); sleep(2); return status != 0; }\n";
        std::fs::create_dir(world.at("root")).unwrap();
        std::fs::write(world.at("start.c"), starter).unwrap();
        ok(Command::new("cc").arg("-static").arg("-o").arg(world.at("root/start")).arg(world.at("start.c")));
        for (path, addition) in [
            ("root/srv/one/tool", ""),
            ("root/opt/two/tool", "two"),
            ("volume/tool", ""),
            ("volume/other", "x"),
        ] {
            let path = world.at(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::copy(&built, &path).unwrap();
            std::fs::write(&path, [&program, addition.as_bytes()].concat()).unwrap();
        }
        ok(Command::new("tar")
            .arg("-C")
            .arg(world.at("root"))
            .arg("-cf")
            .arg(world.at("image.tar"))
            .arg("."));
        ok(world.docker().arg("import").arg(world.at("image.tar")).arg(IMAGE));
        Some(world)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["-H", &self.host]);
        command
    }

    /// The uses of the modules in both programs after a run with the volume at `mount`.
    fn run(&self, mount: &str, program: &str) -> [String; 2] {
        let state = tempfile::tempdir().unwrap();
        let mut scan = plimsoll(state.path());
        scan.args(["scan", "-s", "image", "-a", "test", "-c", "volumes", "-V", "1"]);
        ok(scan.arg(format!("docker:{IMAGE}")).env("DOCKER_HOST", &self.host));
        let volume = format!("{}:{mount}", self.at("volume").display());
        let mut run = plimsoll(state.path());
        run.args(["run", "-a", "test", "-c", "volumes", "-V", "1", "-o", "json", "--"]);
        run.args(["docker", "run", "--rm", "--network", "none", "-v", &volume, IMAGE, "/start", program]);
        run.env("DOCKER_HOST", &self.host);
        let output = ok(&mut run);
        let text = String::from_utf8(output.stdout).unwrap();
        let start = text.find("{\n").unwrap_or_else(|| panic!("no report: {text}"));
        let report: Value = serde_json::from_str(&text[start..]).unwrap();
        let packages = report["packages"].as_array().unwrap();
        ["srv/one/tool", "opt/two/tool"].map(|place| {
            let is_it = |package: &&Value| {
                package["name"] == "github.com/google/uuid" && package["locations"][0]["path"] == place
            };
            let found = packages.iter().find(is_it).unwrap_or_else(|| panic!("no {place}: {report:#}"));
            format!("{} {}", found["use"].as_str().unwrap(), found["use_reason"].as_str().unwrap())
        })
    }
}

fn ok(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn what_a_volume_has_of_an_image_is_not_called_unused() {
    let Some(world) = World::new() else { return };
    let none = "unused none of its files was used in 1 workload watched from the first exec";
    for (mount, program, expected) in [
        // A copy of the image's.
        ("/data", "/data/tool", "not_measured a copy of it may have been used"),
        // It hides the image's.
        ("/srv/one", "/srv/one/tool", "not_measured files of a volume"),
        // A program that the image does not have.
        ("/data", "/data/other", none),
        // The volume was not used.
        ("/data", "/srv/one/tool", "used code of it was loaded"),
    ] {
        let [one, two] = world.run(mount, program);
        assert!(one.starts_with(expected), "{mount} {program}: {one}");
        assert_eq!(two, none, "{mount} {program}");
    }
}
