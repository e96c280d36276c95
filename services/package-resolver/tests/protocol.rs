//! Frames that break the protocol: the connection is closed with an error, and no other one notices.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use common::{IMAGE, OpenRoot, SOON, Stage, brief, debian};
use plimsoll_schemas::resolver_protocol::{
    FRAME_MAX_BYTES, PathQuery, REQUEST_MAX_PATH_BYTES, REQUEST_MAX_PATHS, ResolverReply, ResolverRequest,
};
use proptest::prelude::*;

fn open(artifact: &str, workload_id: &str, has_upper_directory: bool) -> ResolverRequest {
    ResolverRequest::Open {
        artifact: artifact.into(),
        workload_id: workload_id.into(),
        has_upper_directory,
        component: false,
        started_at_ms: 0,
    }
}

fn resolve(artifact: &str, workload_id: &str, count: usize, length: usize) -> ResolverRequest {
    let query = PathQuery { path: vec![b'a'; length], ..PathQuery::default() };
    ResolverRequest::Resolve {
        request_id: 1,
        artifact: artifact.into(),
        workload_id: workload_id.into(),
        paths: vec![query; count],
    }
}

/// Sends a frame on a connection of its own, which must be closed after a reason that contains `expect`.
#[track_caller]
fn refused(stage: &Stage, bytes: &[u8], descriptors: usize, expect: &str) {
    let mut agent = stage.agent();
    let file = File::open("/dev/null").unwrap();
    agent.channel.send(bytes, &vec![file.as_fd(); descriptors]).unwrap();
    match agent.reply() {
        Some(ResolverReply::Failed { request_id: 0, reason }) => assert!(reason.contains(expect), "{reason}"),
        other => panic!("expected a refusal with {expect:?}, got {other:?}"),
    }
    assert!(
        agent.channel.receive(SOON).map_or(true, |frame| frame.is_none()),
        "the connection is still open"
    );
}

#[test]
fn broken_requests_close_their_connection_only() {
    let directory = tempfile::tempdir().unwrap();
    debian(directory.path(), &[("libz1", "1", &["usr/lib/libz.so.1"])]);
    let stage = Stage::new();
    let mut good = stage.agent();
    let root = directory.path().to_str().unwrap();
    good.open(OpenRoot { artifact: IMAGE, workload: "w", root, ..Default::default() });
    assert_eq!(brief(&good.one(IMAGE, "w", "usr/lib/libz.so.1")), "owned libz1@1 image unknown");

    let json = |request: &ResolverRequest| serde_json::to_vec(request).unwrap();
    refused(&stage, b"", 0, "no request");
    refused(&stage, b"{\"Open\":", 1, "no request");
    refused(&stage, b"\xff\xfe\x00", 0, "no request");
    refused(&stage, b"{\"Shutdown\":{}}", 0, "no request");
    refused(&stage, &b"[".repeat(100_000), 0, "no request");
    refused(&stage, &json(&open(IMAGE, "x", false)), 0, "0 descriptors");
    refused(&stage, &json(&open(IMAGE, "x", true)), 1, "1 descriptors");
    refused(&stage, &json(&open(IMAGE, "x", false)), 3, "3 descriptors");
    refused(&stage, &json(&open("image/latest", "x", false)), 1, "digest");
    refused(&stage, &json(&open("pod/x", "x", false)), 1, "image/");
    refused(&stage, &json(&open(IMAGE, "", false)), 1, "workload id");
    refused(&stage, &json(&open(IMAGE, &"x".repeat(2_000), false)), 1, "workload id");
    refused(&stage, &json(&resolve(IMAGE, "w", REQUEST_MAX_PATHS + 1, 1)), 0, "paths in one request");
    refused(&stage, &json(&resolve(IMAGE, "w", 2, REQUEST_MAX_PATH_BYTES / 2 + 1)), 0, "bytes of paths");
    refused(&stage, &json(&resolve(IMAGE, "w", 1, 1)), 1, "1 descriptors");
    let layers = |workload: &str, remaining| {
        let workload_id = workload.to_owned();
        json(&ResolverRequest::Layers { artifact: IMAGE.into(), workload_id, remaining })
    };
    refused(&stage, &layers("w", u32::MAX), 1, "layers");
    // Those of a root that was refused are passed over.
    good.channel.send(&layers("none", 0), &[]).unwrap();

    // Frames whose end never comes, or whose length is a lie.
    let mut half = UnixStream::connect(stage.resolver.socket()).unwrap();
    half.write_all(&[0, 0]).unwrap();
    let mut lying = UnixStream::connect(stage.resolver.socket()).unwrap();
    lying.write_all(&(FRAME_MAX_BYTES + 1).to_be_bytes()).unwrap();
    lying.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(lying.read(&mut [0; 1]).unwrap(), 0, "closed");
    let mut cut = UnixStream::connect(stage.resolver.socket()).unwrap();
    cut.write_all(&100_u32.to_be_bytes()).unwrap();
    cut.write_all(b"{\"Resolve\"").unwrap();
    cut.shutdown(std::net::Shutdown::Write).unwrap();
    cut.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(cut.read(&mut [0; 1]).unwrap(), 0, "closed");

    assert_eq!(brief(&good.one(IMAGE, "w", "usr/lib/libz.so.1")), "owned libz1@1 image unknown");
    drop(half);
}

#[test]
fn the_largest_request_is_answered() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    agent.open(OpenRoot { artifact: IMAGE, workload: "w", root: "/proc/self/fd", ..Default::default() });
    let length = REQUEST_MAX_PATH_BYTES / REQUEST_MAX_PATHS;
    agent.send(&resolve(IMAGE, "w", REQUEST_MAX_PATHS, length), &[]);
    match agent.reply() {
        Some(ResolverReply::Ownership { entries, .. }) => assert_eq!(entries.len(), REQUEST_MAX_PATHS),
        other => panic!("{other:?}"),
    }
}

#[test]
fn roots_go_with_their_connection_and_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    debian(directory.path(), &[("libz1", "1", &["usr/lib/libz.so.1"])]);
    let root = directory.path().to_str().unwrap();
    let stage = Stage::with(|settings| settings.max_roots = 2);
    let mode = std::fs::metadata(stage.resolver.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let host = "host/m";
    let open = OpenRoot { artifact: host, workload: "a", root, ..Default::default() };
    let mut first = stage.agent();
    first.open(open);
    first.open(OpenRoot { workload: "b", ..open });
    assert_eq!(first.one(host, "b", "usr/lib/libz.so.1").state, "owned");
    first.open(OpenRoot { workload: "c", ..open });
    match first.reply() {
        Some(ResolverReply::Failed { request_id: 0, reason }) => {
            assert!(reason.contains("max_roots"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
    // The one that was refused is not known; the connection goes on.
    assert_eq!(first.one(host, "c", "usr/lib/libz.so.1").state, "unresolved");
    let close = ResolverRequest::Close { artifact: host.into(), workload_id: "b".into() };
    first.send(&close, &[]);
    first.open(OpenRoot { workload: "c", ..open });
    assert_eq!(first.one(host, "c", "usr/lib/libz.so.1").state, "owned");
    drop(first);
    let mut second = stage.agent();
    let deadline = std::time::Instant::now() + SOON;
    while second.one(host, "a", "usr/lib/libz.so.1").state != "unresolved" {
        assert!(std::time::Instant::now() < deadline, "the roots of a closed connection are still open");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever bytes come, the resolver closes that connection and answers the next one.
    #[test]
    fn garbage_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), framed in any::<bool>()) {
        thread_local! {
            static STAGE: Stage = Stage::new();
        }
        STAGE.with(|stage| {
            let mut stream = UnixStream::connect(stage.resolver.socket()).unwrap();
            if framed {
                stream.write_all(&u32::try_from(bytes.len()).unwrap().to_be_bytes()).unwrap();
            }
            // The other side may have closed in the middle of it.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            stream.set_read_timeout(Some(SOON)).unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(!String::from_utf8_lossy(&answer).contains("Ownership"));
            assert_eq!(stage.agent().one(IMAGE, "none", "a").state, "unresolved");
        });
    }
}
