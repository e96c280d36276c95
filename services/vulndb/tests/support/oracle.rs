//! The ecosystems' own tools as judges of version orders: each reads `A<TAB>B` lines and prints `-1`, `0`, `1` or `invalid`.
//! Never downloads anything: a tool that is not here is `None`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A tool that is ready to be asked. Lives as long as its scratch files.
pub struct Tool {
    pub name: &'static str,
    program: &'static str,
    arguments: Vec<String>,
    _scratch: Option<tempfile::TempDir>,
}

impl Tool {
    fn script(name: &'static str, program: &'static str, arguments: &[&str]) -> Option<Tool> {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Tool { name, program, arguments, _scratch: None }.answering()
    }

    /// `None` unless the tool finds a version equal to itself.
    fn answering(self) -> Option<Tool> {
        let probe = [("1.0.0".to_owned(), "1.0.0".to_owned())];
        self.ask(&probe).filter(|answers| answers == &["0"]).map(|_| self)
    }

    /// Program and arguments, for another program that asks the tool.
    pub fn command_line(&self) -> Vec<String> {
        std::iter::once(self.program.to_owned()).chain(self.arguments.iter().cloned()).collect()
    }

    /// One answer for each pair; `None` if the tool failed.
    pub fn ask(&self, pairs: &[(String, String)]) -> Option<Vec<String>> {
        let mut child = Command::new(self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut stdin = child.stdin.take()?;
        let input: String = pairs.iter().map(|(a, b)| format!("{a}\t{b}\n")).collect();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().ok()?;
        let _ = writer.join();
        let lines: Vec<String> = String::from_utf8(output.stdout).ok()?.lines().map(str::to_owned).collect();
        (output.status.success() && lines.len() == pairs.len()).then_some(lines)
    }
}

pub fn dpkg_perl() -> Option<Tool> {
    let script = r#"use Dpkg::Version; while (<STDIN>) { chomp; my ($a, $b) = map { Dpkg::Version->new($_, check => 0) } split /\t/;
        print((($a->is_valid && $b->is_valid) ? ($a <=> $b) : "invalid"), "\n"); }"#;
    Tool::script("perl's Dpkg::Version (libdpkg-perl)", "perl", &["-e", script])
}

pub fn packaging() -> Option<Tool> {
    let script = r#"
import sys
try:
    from packaging.version import Version, InvalidVersion
except ImportError:
    from pip._vendor.packaging.version import Version, InvalidVersion
for line in sys.stdin:
    a, b = line.rstrip("\n").split("\t")
    try:
        a, b = Version(a), Version(b)
        print((a > b) - (a < b))
    except InvalidVersion:
        print("invalid")
"#;
    Tool::script("Python's packaging", "python3", &["-c", script])
}

pub fn rubygems() -> Option<Tool> {
    let script = r#"
STDIN.each_line do |line|
  pair = line.chomp.split("\t", -1)
  puts pair.all? { |v| !v.strip.empty? && Gem::Version.correct?(v) } ? (Gem::Version.new(pair[0]) <=> Gem::Version.new(pair[1])) : "invalid"
end
"#;
    Tool::script("RubyGems' Gem::Version (ruby)", "ruby", &["-e", script])
}

/// A named branch counts as invalid: composer/semver never matches it with a range.
pub fn composer() -> Option<Tool> {
    let script = r#"
require 'Composer/Semver/autoload.php';
$parser = new Composer\Semver\VersionParser();
function normal($parser, $text) {
    try { $version = $parser->normalize($text); } catch (UnexpectedValueException $e) { return null; }
    return strpos($version, 'dev-') === 0 ? null : $version;
}
while (($line = fgets(STDIN)) !== false) {
    [$a, $b] = explode("\t", rtrim($line, "\n"));
    $a = normal($parser, $a); $b = normal($parser, $b);
    if ($a === null || $b === null) { echo "invalid\n"; continue; }
    $less = Composer\Semver\Comparator::lessThan($a, $b);
    $more = Composer\Semver\Comparator::greaterThan($a, $b);
    echo $less ? -1 : ($more ? 1 : 0), "\n";
}
"#;
    Tool::script("composer/semver (php, composer)", "php", &["-r", script])
}

/// npm's own copy of node-semver; `loose` as npm reads what is installed, else by the specification's grammar.
pub fn node_semver(loose: bool) -> Option<Tool> {
    let script = r#"
const { execSync } = require('child_process'), fs = require('fs'), path = require('path');
let roots = [];
try { roots.push(path.join(execSync('npm root -g', { stdio: ['ignore', 'pipe', 'ignore'] }).toString().trim(), 'npm')); } catch {}
try { roots.push(path.dirname(fs.realpathSync(execSync('command -v npm', { shell: true }).toString().trim()))); } catch {}
const semver = require(require.resolve('semver', { paths: roots }));
const options = { loose: process.argv[1] === 'loose' };
const lines = fs.readFileSync(0, 'utf8').split('\n');
lines.pop();
const out = lines.map((line) => {
  const [a, b] = line.split('\t').map((text) => semver.parse(text, options));
  return a && b ? semver.compare(a, b) : 'invalid';
});
process.stdout.write(out.join('\n') + '\n');
"#;
    Tool::script("npm's semver", "node", &["-e", script, if loose { "loose" } else { "strict" }])
}

/// Maven's own jar, wherever `mvn` is installed.
pub fn maven() -> Option<Tool> {
    const SOURCE: &str = r#"
import java.io.*;
import org.apache.maven.artifact.versioning.ComparableVersion;
public class Oracle {
    public static void main(String[] arguments) throws IOException {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        StringBuilder out = new StringBuilder();
        for (String line; (line = in.readLine()) != null; ) {
            String[] pair = line.split("\t", -1);
            out.append(Integer.signum(new ComparableVersion(pair[0]).compareTo(new ComparableVersion(pair[1])))).append('\n');
        }
        System.out.print(out);
    }
}
"#;
    let jar = maven_artifact_jar()?;
    let scratch = tempfile::tempdir().ok()?;
    let source = scratch.path().join("Oracle.java");
    std::fs::write(&source, SOURCE).ok()?;
    let arguments = vec!["-cp".to_owned(), jar.to_str()?.to_owned(), source.to_str()?.to_owned()];
    let name = "Maven's ComparableVersion (maven, java)";
    Tool { name, program: "java", arguments, _scratch: Some(scratch) }.answering()
}

fn maven_artifact_jar() -> Option<PathBuf> {
    let output = Command::new("mvn").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let home = text.lines().find_map(|line| line.strip_prefix("Maven home: "))?;
    let entries = std::fs::read_dir(Path::new(home).join("lib")).ok()?;
    let is_jar = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        name.starts_with("maven-artifact-") && name.ends_with(".jar")
    };
    entries.flatten().map(|entry| entry.path()).find(is_jar)
}

/// golang.org/x/mod/semver as Go's own toolchain carries it; versions come without their `v`.
pub fn go_semver() -> Option<Tool> {
    let body = r#"a, b := "v"+strings.TrimPrefix(pair[0], "v"), "v"+strings.TrimPrefix(pair[1], "v")
		if semver.IsValid(a) && semver.IsValid(b) { return fmt.Sprint(semver.Compare(a, b)) }"#;
    go_program("golang.org/x/mod/semver (go)", "oracle/semver", body)
}

/// The standard library's go/version: releases of Go, with or without `go`.
pub fn go_release() -> Option<Tool> {
    let body = r#"a, b := "go"+strings.TrimPrefix(pair[0], "go"), "go"+strings.TrimPrefix(pair[1], "go")
		if version.IsValid(a) && version.IsValid(b) { return fmt.Sprint(version.Compare(a, b)) }"#;
    go_program("go/version (go)", "go/version", body)
}

fn go_program(name: &'static str, import: &str, body: &str) -> Option<Tool> {
    let source = format!(
        r#"package main
import ("bufio"; "fmt"; "os"; "strings"; "{import}")
func main() {{
	in, out := bufio.NewScanner(os.Stdin), bufio.NewWriter(os.Stdout)
	defer out.Flush()
	judge := func(pair []string) string {{
		{body}
		return "invalid"
	}}
	for in.Scan() {{ fmt.Fprintln(out, judge(strings.Split(in.Text(), "\t"))) }}
}}
"#
    );
    let scratch = tempfile::tempdir().ok()?;
    let directory = scratch.path();
    let output = Command::new("go").args(["env", "GOROOT"]).output().ok()?;
    let root = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    std::fs::create_dir(directory.join("semver")).ok()?;
    std::fs::copy(
        root.join("src/cmd/vendor/golang.org/x/mod/semver/semver.go"),
        directory.join("semver/semver.go"),
    )
    .ok()?;
    std::fs::write(directory.join("go.mod"), "module oracle\n\ngo 1.21\n").ok()?;
    std::fs::write(directory.join("main.go"), source).ok()?;
    let program = directory.join("judge");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(directory)
        .env("GOFLAGS", "-mod=mod")
        .env("GOTOOLCHAIN", "local")
        .output()
        .ok()?;
    if !built.status.success() {
        return None;
    }
    let arguments = vec![program.to_str()?.to_owned()];
    Tool { name, program: "env", arguments, _scratch: Some(scratch) }.answering()
}
