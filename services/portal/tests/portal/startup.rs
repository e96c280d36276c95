//! Who may read, and what happens when ClickHouse is not there.

use plimsoll_kit::config::Sensitive;
use plimsoll_kit::lifecycle::{ServiceContext, ServiceInfo};
use plimsoll_portal::config::PortalConfig;
use plimsoll_portal::service;

use crate::support::{Database, RunningPortal, closed_url};

#[test]
fn clickhouse_unreachable_is_503_and_named() {
    let url = closed_url();
    let portal = RunningPortal::start(&url, "plimsoll", |_| {});
    let answer = portal.get("/api/v1/applications");
    assert_eq!((answer.status, answer.header("content-type")), (503, "application/problem+json"));
    let problem = answer.json();
    assert!(problem["detail"].as_str().unwrap().contains(&url), "{problem}");
    assert!(problem["remedy"].as_str().unwrap().contains("clickhouse.url"), "{problem}");
    let page = portal.get("/");
    assert_eq!(page.status, 503);
    assert!(page.body.contains("What to do") && page.body.contains(&url), "{}", page.body);
    assert_eq!(portal.get("/api/openapi.json").status, 200);
}

#[test]
fn an_empty_database_names_the_sink() {
    let Some(database) = Database::create() else { return };
    let portal = RunningPortal::start(&database.url, "no_such_database", |_| {});
    let answer = portal.get("/api/v1/artifacts");
    assert_eq!(answer.status, 503);
    assert!(answer.json()["remedy"].as_str().unwrap().contains("start the sink"));
    drop(portal);
    let portal = RunningPortal::start(&database.url, &database.name, |_| {});
    assert_eq!(portal.json("/api/v1/applications")["items"], serde_json::json!([]));
    assert!(portal.get("/").body.contains("Nothing here yet"));
}

#[test]
fn others_are_served_only_with_a_token() {
    let mut config = PortalConfig::default();
    config.portal.bind = "0.0.0.0:0".into();
    let context = ServiceContext::detached(ServiceInfo::new("portal", "0.0.0"));
    let error = service::run(config, context).unwrap_err().to_string();
    assert!(error.contains("portal.token_file"), "{error}");

    let token = "a-long-enough-token";
    let portal = RunningPortal::start(&closed_url(), "plimsoll", |config| {
        config.portal.bind = "0.0.0.0:0".into();
        config.portal.token = Some(Sensitive::new(token.to_owned()));
    });
    let local = portal.address.replace("0.0.0.0", "127.0.0.1");
    let portal = RunningPortalAt { portal, local };
    let refused = portal.get("/api/openapi.json", &[]);
    assert_eq!(refused.0, 401);
    assert!(refused.1.starts_with("Basic "));
    assert_eq!(portal.get("/", &[("authorization", "Bearer wrong-wrong-wrong")]).0, 401);
    assert_eq!(portal.get("/assets/portal.css", &[]).0, 401);
    let bearer = format!("Bearer {token}");
    assert_eq!(portal.get("/api/openapi.json", &[("authorization", &bearer)]).0, 200);
}

struct RunningPortalAt {
    portal: RunningPortal,
    local: String,
}

impl RunningPortalAt {
    fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        assert!(self.portal.address.starts_with("0.0.0.0:"));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut request = agent.get(format!("http://{}{path}", self.local));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.call().unwrap();
        let challenge =
            response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), challenge.unwrap_or_default())
    }
}

#[test]
fn every_answer_is_guarded() {
    let portal = RunningPortal::start(&closed_url(), "plimsoll", |_| {});
    for path in ["/", "/api/openapi.json", "/nothing", "/assets/portal.css", "/api/v1/nothing"] {
        let answer = portal.get(path);
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        let kept = if path.ends_with(".css") { "public, max-age=86400" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), kept, "{path}");
    }
    assert_eq!(portal.get("/nothing").status, 404);
    assert!(portal.get("/nothing").header("content-type").starts_with("text/html"));
    assert_eq!(portal.get("/api/v1/nothing").header("content-type"), "application/problem+json");
    // A stranger's page that resolves its own name to this address.
    assert_eq!(portal.get_with("/api/openapi.json", &[("host", "evil.example")]).status, 421);
    // Nobody would hear the request: no broker is configured.
    let wish = portal.post("/api/v1/scan-requests", r#"{"source":"fs","target":"/srv/app"}"#);
    assert_eq!(wish.status, 501);
    assert!(wish.json()["remedy"].as_str().unwrap().contains("kafka.brokers"));
    assert_eq!(portal.post("/api/v1/scan-requests", "{").status, 400);
    assert_eq!(portal.post("/api/v1/applications", "{}").status, 405);
}
