//! Which index answers for a Java package while archives come, and at what pace indexes are built for that.

use std::path::Path;

use plimsoll_kit::lifecycle::{ServiceContext, ServiceInfo};
use plimsoll_schemas::resolver_protocol::PathQuery;
use plimsoll_schemas::words::ownership_state::UNRESOLVED;

use super::*;
use crate::answer::Question;
use crate::contents::Contents;
use crate::roots::{Announcement, Roots};

/// A jar with classes of several components.
pub(crate) const BOOT: &[u8] = include_bytes!("../../catalog/src/java/fixtures/boot.jar");
pub(crate) const ARTIFACT: &str = "component/a/c/1";
/// A Java package with classes of the jar above.
pub(crate) const ASKED: &[u8] = b"?!/com/acme/shaded/org/apache/logging/log4j/core";

impl IndexCache {
    /// As if building for this artifact had taken so long.
    pub(crate) fn spend(&self, artifact: &str, time: Duration) {
        self.lock().artifacts.get_mut(artifact).unwrap().pace.spend(time, Instant::now());
    }
}

struct Stage {
    directory: tempfile::TempDir,
    cache: IndexCache,
    contents: Contents,
    root: Arc<Root>,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let metrics = ServiceContext::detached(ServiceInfo::new("package-resolver", "0")).metrics;
        let roots = Roots::new(1, false);
        let key = (ARTIFACT.to_owned(), "w".to_owned());
        let opened = std::fs::File::open(directory.path()).unwrap().into();
        let announced = Announcement {
            directory: opened,
            upper: None,
            component: true,
            is_replica: false,
            started_at_ms: 0,
        };
        roots.open(key.clone(), 0, announced).unwrap();
        let cache = IndexCache::new(1 << 20, Duration::from_secs(5), &metrics);
        Self { directory, cache, contents: Contents::new(1 << 20), root: roots.get(&key).unwrap() }
    }

    fn put(&self, path: &str) {
        let path: &Path = &self.directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, BOOT).unwrap();
    }

    /// State and number of owners, and how many indexes were built in all.
    fn ask(&self, asked_at: Instant) -> (String, usize, u64) {
        self.answer(asked_at, false)
    }

    fn answer(&self, asked_at: Instant, is_last: bool) -> (String, usize, u64) {
        let tree = self.root.tree().unwrap();
        let until = self.root.asked.since(ASKED, asked_at);
        let found = self.cache.find(ARTIFACT, &self.root, &tree, &[], Some(Archives { until, is_last }));
        let question = Question {
            artifact: ARTIFACT,
            root: &self.root,
            host: None,
            tree: &tree,
            found: &found,
            contents: &self.contents,
            asked_at,
            now_ms: 1,
        };
        let entry = question.answer(&PathQuery { path: ASKED.to_vec(), ..PathQuery::default() });
        (entry.state, entry.owners.len(), self.cache.builds.get())
    }

    fn spend(&self, time: Duration) {
        self.cache.spend(ARTIFACT, time);
    }
}

/// Waits until the clock has passed what was just written: an index built at that very moment is not kept.
pub(crate) fn settle() {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(50) {
        std::thread::yield_now();
    }
}

#[test]
fn an_older_index_answers_for_no_java_package() {
    let stage = Stage::new();
    let answer = |owners, builds| (UNRESOLVED.to_owned(), owners, builds);
    stage.put("lib/x.jar");
    settle();
    let first = Instant::now();
    assert_eq!(stage.ask(first), answer(1, 1));
    stage.put("cache/1/bundle.jar");
    settle();
    // An index begun after the question was asked knows enough.
    assert_eq!(stage.ask(first), answer(1, 1));
    assert_eq!(stage.ask(Instant::now()), answer(2, 2));

    stage.put("cache/2/bundle.jar");
    settle();
    stage.spend(Duration::from_secs(3_600));
    let second = Instant::now();
    for _ in 0..2 {
        assert_eq!(stage.ask(second), answer(0, 2), "the old index is no answer, and a new one is not due");
    }
    stage.cache.lock().artifacts.get_mut(ARTIFACT).unwrap().pace = Pace::default();
    assert_eq!(stage.ask(Instant::now()), answer(3, 3));

    // Who asks again needs no newer index than the first time.
    stage.spend(Duration::from_secs(3_600));
    let third = Instant::now();
    assert_eq!(stage.ask(third), answer(0, 3));
    stage.cache.lock().artifacts.get_mut(ARTIFACT).unwrap().pace = Pace::default();
    let tree = stage.root.tree().unwrap();
    let archives = Archives { until: Instant::now(), is_last: false };
    stage.cache.find(ARTIFACT, &stage.root, &tree, &[], Some(archives));
    stage.spend(Duration::from_secs(3_600));
    assert_eq!(stage.ask(Instant::now()), answer(3, 4));
    assert_eq!(stage.cache.lock().artifacts[ARTIFACT].others.len(), 2, "the first and the last are kept");

    // The last question may cost more.
    stage.cache.lock().artifacts.get_mut(ARTIFACT).unwrap().pace = Pace::default();
    stage.spend(Duration::from_secs(20));
    assert_eq!(stage.ask(Instant::now()), answer(0, 4));
    assert_eq!(stage.answer(Instant::now(), true), answer(3, 5));
    // What was there at first may have been loaded before it was deleted, unlike what came and went.
    std::fs::remove_dir_all(stage.directory.path().join("lib")).unwrap();
    std::fs::remove_dir_all(stage.directory.path().join("cache")).unwrap();
    assert_eq!(stage.ask(Instant::now()), answer(1, 6));
}
