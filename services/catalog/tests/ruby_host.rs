//! Compares gems with what RubyGems and Bundler say: those of this machine, and of an application installed here.
//! Needs ruby, gem and bundle; where they are missing the tests say so, except with CI=true.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use support::{has, owners, place, run, survey};

/// `G name version platform gemspec` of each gem, and `F name version file` of what can be required from it.
const LIST: &str = r#"
Gem::Specification.each do |spec|
  next unless spec.loaded_from && spec.loaded_from.start_with?("/")
  puts ["G", spec.name, spec.version, spec.platform, spec.loaded_from].join(" ")
  prefixes = spec.require_paths.map { |below| below + "/" }
  files = spec.files.grep(/\.(rb|so)$/).map { |file| prefixes.inject(file) { |name, prefix| name.delete_prefix(prefix) } }
  # Ruby's own first: Debian's package of a later version shadows a default gem without being it.
  own = RbConfig::CONFIG.values_at("rubylibdir", "rubyarchdir") + $LOAD_PATH.grep(/ruby/)
  places = spec.default_gem? ? own : spec.full_require_paths
  files += places.flat_map { |below| Dir.glob("**/*.{rb,so}", base: below) } unless spec.default_gem?
  files.uniq.each do |file|
    found = places.map { |below| File.join(below, file) }.find { |path| File.file?(path) }
    puts ["F", spec.name, spec.version, File.realpath(found)].join(" ") if found
  end
end
"#;

fn compare(root: &Path, ruby: &mut Command) {
    let said = run(ruby.args(["-e", LIST])).unwrap();
    let (outcome, index) = survey(root);
    let prefix = root.to_str().unwrap().trim_end_matches('/').to_owned() + "/";
    let gems: BTreeSet<String> = said
        .lines()
        .filter_map(|line| line.strip_prefix("G "))
        .filter_map(|line| {
            let (gem, gemspec) = line.rsplit_once(' ').unwrap();
            Some(format!("{gem} {}", gemspec.strip_prefix(&prefix)?))
        })
        .collect();
    assert!(!gems.is_empty(), "{said}");
    let paths: BTreeSet<&str> = gems.iter().map(|gem| gem.rsplit_once(' ').unwrap().1).collect();
    let found: BTreeSet<String> = outcome
        .packages
        .iter()
        .filter(|package| package.ecosystem == "gem" && paths.contains(place(package).as_str()))
        .map(|package| {
            let platform = package.purl.split_once("?platform=").map_or("ruby", |(_, platform)| platform);
            format!("{} {} {platform} {}", package.name, package.version, place(package))
        })
        .collect();
    assert_eq!(found, gems);
    let mut wrong = Vec::new();
    let files: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("F ")).collect();
    for file in &files {
        let (gem, path) = file.rsplit_once(' ').unwrap();
        let Some(path) = path.strip_prefix(&prefix) else { continue };
        let found = owners(&index, "gem", path);
        if !found.iter().any(|owner| owner == gem) {
            wrong.push(format!("{path}: {found:?}, but it is {gem}'s"));
        }
    }
    println!("{} gems, {} files", gems.len(), files.len());
    assert!(!files.is_empty() && wrong.is_empty(), "{} of {}:\n{wrong:#?}", wrong.len(), files.len());
}

#[test]
fn gems_of_this_machine() {
    if has("ruby", "--version") {
        compare(Path::new("/"), Command::new("ruby").env_remove("GEM_HOME").env_remove("RUBYOPT"));
    }
}

fn write(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

/// Gems made here, so that no registry is needed: installed by `gem`, and by Bundler from a git repository.
#[test]
fn gems_installed_by_gem_and_by_bundler() {
    if !has("gem", "--version") || !has("bundle", "--version") || !has("git", "--version") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let gemspec = |name: &str, version: &str, more: &str| {
        format!(
            "Gem::Specification.new do |spec|\n  spec.name = '{name}'\n  spec.version = {version}\n  spec.summary = 'x'\n  spec.authors = ['x']\n  spec.license = 'MIT'\n  spec.files = Dir['lib/**/*.rb', 'exe/*']\n{more}end\n"
        )
    };
    let sources = root.join("sources");
    for (name, version) in [("plain", "1.0.0"), ("plain", "2.0.0.beta1"), ("with-program", "0.3.0")] {
        let more = if name == "plain" {
            ""
        } else {
            "  spec.bindir = 'exe'\n  spec.executables = ['run-it']\n  spec.add_dependency 'plain', '>= 1'\n"
        };
        let source = sources.join(format!("{name}-{version}"));
        write(&source, &format!("{name}.gemspec"), &gemspec(name, &format!("'{version}'"), more));
        write(&source, &format!("lib/{}.rb", name.replace('-', "/")), "");
        write(&source, "exe/run-it", "#!/usr/bin/env ruby\n");
        run(Command::new("gem")
            .args(["build", "--output", "../x.gem"])
            .arg(format!("{name}.gemspec"))
            .current_dir(&source))
        .unwrap();
        let mut install = Command::new("gem");
        install.args(["install", "--local", "--force", "--no-document", "x.gem"]).current_dir(&sources);
        run(install.env("GEM_HOME", root.join("home"))).unwrap();
    }
    let repository = root.join("repository");
    write(
        &repository,
        "from-git.gemspec",
        &format!(
            "require_relative 'lib/from/git/version'\n{}",
            gemspec("from-git", "From::Git::VERSION", "")
        ),
    );
    write(
        &repository,
        "lib/from/git/version.rb",
        "module From\n  module Git\n    VERSION = '4.5.6'\n  end\nend\n",
    );
    write(&repository, "lib/from/git.rb", "");
    for arguments in [
        &["init", "-q", "-b", "main"][..],
        &["add", "."],
        &["-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "-m", "x"],
    ] {
        run(Command::new("git").args(arguments).current_dir(&repository)).unwrap();
    }
    let application = root.join("app");
    write(
        &application,
        "Gemfile",
        &format!("gem 'from-git', git: '{}', branch: 'main'\n", repository.display()),
    );
    let bundle = || {
        let mut bundle = Command::new("bundle");
        bundle.current_dir(&application).env("BUNDLE_PATH", "vendor/bundle").env("HOME", &root);
        bundle.env_remove("RUBYOPT").env_remove("BUNDLE_GEMFILE");
        bundle
    };
    run(bundle().arg("install")).unwrap();
    compare(
        &root,
        Command::new("ruby").env("GEM_HOME", root.join("home")).env("GEM_PATH", root.join("home")),
    );
    let (outcome, index) = survey(&root);
    let from_git = outcome.packages.iter().find(|package| package.name == "from-git").unwrap();
    assert_eq!(from_git.version, "4.5.6");
    let said = run(bundle().args(["info", "--path", "from-git"])).unwrap();
    let said = Path::new(said.trim()).strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    assert_eq!(Path::new(&place(from_git)).parent().unwrap().to_str().unwrap(), said);
    assert_eq!(owners(&index, "gem", &format!("{said}/lib/from/git.rb")), ["from-git 4.5.6"]);
    assert_eq!(owners(&index, "gem", "home/bin/run-it"), ["with-program 0.3.0"]);
    // What is neither installed nor checked out is no package.
    assert_eq!(outcome.packages.iter().filter(|package| package.ecosystem == "gem").count(), 4);
    assert_eq!(outcome.warnings, []);
}
