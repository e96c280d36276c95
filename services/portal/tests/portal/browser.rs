//! The dashboard in headless Chromium with JavaScript switched off; screenshots are kept as test artefacts.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::{self, *};
use crate::support::RunningPortal;

/// Longest time that the browser may take for one page.
const BROWSER_DEADLINE: Duration = Duration::from_secs(90);

fn chromium() -> Option<PathBuf> {
    let found = ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
    });
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI is set, but there is no Chromium; install chromium");
        println!("skipped: there is no Chromium; install the package chromium");
    }
    found
}

/// Runs Chromium with a profile of its own, in which scripts are off; its standard output.
fn browse(browser: &Path, arguments: &[&str]) -> String {
    let profile = tempfile::tempdir().unwrap();
    // Scripts are off for all sites. (--blink-settings=scriptEnabled=false would also stop the browser's own page
    // that dumps the DOM.)
    let defaults = profile.path().join("profile/Default");
    std::fs::create_dir_all(&defaults).unwrap();
    let preferences = r#"{"profile":{"default_content_setting_values":{"javascript":2}}}"#;
    std::fs::write(defaults.join("Preferences"), preferences).unwrap();
    browse_with(browser, &profile, arguments)
}

fn browse_with(browser: &Path, profile: &tempfile::TempDir, arguments: &[&str]) -> String {
    let output = profile.path().join("stdout");
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg("--hide-scrollbars")
        .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + BROWSER_DEADLINE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("Chromium did not end in time");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "Chromium ended with {status}");
    std::fs::read_to_string(output).unwrap()
}

fn artifacts_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let folder = target.join("test-artifacts/portal");
    std::fs::create_dir_all(&folder).unwrap();
    folder.canonicalize().unwrap()
}

fn screenshot(browser: &Path, portal: &RunningPortal, path: &str, name: &str, size: &str, more: &[&str]) {
    let file = artifacts_folder().join(name);
    let _ = std::fs::remove_file(&file);
    let (shot, size) = (format!("--screenshot={}", file.display()), format!("--window-size={size}"));
    let url = portal.url(path);
    let mut arguments = vec![shot.as_str(), size.as_str()];
    arguments.extend(more);
    arguments.push(&url);
    browse(browser, &arguments);
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 10_000, "{name}: {} bytes", bytes.len());
}

#[test]
fn the_dashboard_works_without_javascript() {
    let Some(browser) = chromium() else { return };
    let Some((_database, portal)) = fixture::start() else { return };
    let dom = browse(&browser, &["--dump-dom", &portal.url(BASE)]);
    let matrix = dom.split("class=\"matrix\"").nth(1).unwrap().split("</table>").next().unwrap();
    let numbers: Vec<&str> =
        matrix.split("class=\"number\">").skip(1).map(|part| part.split('<').next().unwrap()).collect();
    let count = |vulnerable: &str, usage: &str| {
        APPLICATION_PACKAGES
            .iter()
            .chain(OS_PACKAGES)
            .filter(|spec| spec.vulnerable == vulnerable && spec.usage == usage)
            .count()
            .to_string()
    };
    assert_eq!(
        numbers,
        [count("yes", "used"), count("yes", "unused"), count("no", "used"), count("no", "unused")]
    );
    // What stands apart is shown, with its count.
    assert!(dom.contains("3 of 14 packages are in none of the four cells"));
    for text in [
        "Not measured",
        "Not measurable",
        "Not assessed",
        "eBPF: files that were executed, mapped or read; import hook in Python: modules",
    ] {
        assert!(dom.contains(text), "{text} is missing");
    }
    for spec in APPLICATION_PACKAGES.iter().chain(OS_PACKAGES) {
        assert!(dom.contains(spec.name) && dom.contains(spec.text), "{} is missing", spec.name);
    }
    assert!(dom.contains("venv/jinja2/module_000.py"));
    // A hostile name makes no element: the page has no script at all.
    let dom = browse(&browser, &["--dump-dom", &portal.url(&format!("{HOSTILE_BASE}?sort=name"))]);
    assert!(!dom.contains("<script") && dom.contains("&lt;script&gt;alert('x')&lt;/script&gt;"));
}

#[test]
fn screenshots_are_kept() {
    let Some(browser) = chromium() else { return };
    let Some((_database, portal)) = fixture::start() else { return };
    let artifact = format!("/artifacts/{}", plimsoll_schemas::identity::encode(ARTIFACT));
    let package =
        format!("{BASE}/packages/{}/{}", plimsoll_schemas::identity::encode(ARTIFACT), package_id("jinja2"));
    screenshot(&browser, &portal, BASE, "dashboard.png", "1360,2600", &[]);
    screenshot(
        &browser,
        &portal,
        BASE,
        "dashboard-dark.png",
        "1360,1500",
        &["--blink-settings=preferredColorScheme=0"],
    );
    screenshot(&browser, &portal, BASE, "dashboard-narrow.png", "500,1500", &[]);
    screenshot(&browser, &portal, "/", "applications.png", "1360,600", &[]);
    screenshot(&browser, &portal, "/applications/backend", "application.png", "1360,600", &[]);
    screenshot(&browser, &portal, &artifact, "artifact.png", "1360,2200", &[]);
    screenshot(&browser, &portal, &package, "package.png", "1360,1700", &[]);
    screenshot(&browser, &portal, "/alerts", "alerts.png", "1360,1000", &[]);
    screenshot(&browser, &portal, "/vulnerabilities/CVE-2020-28493", "vulnerability.png", "1360,700", &[]);
}

/// Looks at each page in a frame as wide as a telephone, with everything unfolded: which elements end to the right of it?
/// Tables may, within a box that scrolls. Chromium's own window cannot be that narrow.
const MEASURE: &str = r#"<pre id="found">not measured</pre><script>
addEventListener("load", () => {
  const found = [];
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, wide = [];
    page.querySelectorAll("details").forEach(one => one.open = true);
    for (const element of page.body.querySelectorAll("*")) {
      const isInBox = element.parentElement.closest(".scroll, pre, .unseen, .skip");
      const right = element.getBoundingClientRect().right;
      if (!isInBox && right > frame.clientWidth + 0.5) wide.push(element.localName + "." + element.className + " to " + right);
    }
    const tables = [...page.querySelectorAll("table")].filter(table => !table.closest(".scroll") && !table.matches(".matrix"));
    if (wide.length || tables.length || page.documentElement.scrollWidth > frame.clientWidth)
      found.push(`${frame.title}: ${page.documentElement.scrollWidth} wide; ${tables.length} tables without a box; ${wide.slice(0, 5).join(", ")}`);
  }
  document.getElementById("found").textContent = found.join("\n");
});
</script>"#;

#[test]
fn on_narrow_screens_only_tables_scroll_sideways() {
    let Some(browser) = chromium() else { return };
    let Some((_database, portal)) = fixture::start() else { return };
    let artifact = plimsoll_schemas::identity::encode(ARTIFACT);
    let mut pages = String::from("<!doctype html><meta charset=utf-8>");
    for path in [
        "/".to_owned(),
        "/applications/backend".to_owned(),
        BASE.to_owned(),
        format!("{BASE}/findings"),
        format!("{BASE}/alerts"),
        format!("{BASE}/packages/{artifact}/{}", package_id("jinja2")),
        HOSTILE_BASE.to_owned(),
        format!("{HOSTILE_BASE}/packages?sort=name"),
        format!("{HOSTILE_BASE}/packages/{IMAGE_ENCODED}/{}", package_id(HOSTILE)),
        "/artifacts".to_owned(),
        format!("/artifacts/{artifact}"),
        format!("/artifacts/{IMAGE_ENCODED}"),
        format!("/artifacts/{IMAGE_ENCODED}/components"),
        "/alerts".to_owned(),
        "/packages?purl=pkg%3Apypi%2Fjinja2".to_owned(),
        "/vulnerabilities/CVE-2020-28493".to_owned(),
        format!("/applications/{}", "a-name-without-any-blank".repeat(8)),
    ] {
        let page = portal.get(&path).body;
        let (head, behind) = page.split_once("<link rel=\"stylesheet\" href=\"").unwrap();
        let (style, rest) = behind.split_once("\">").unwrap();
        let page = format!("{head}<style>{}</style>{rest}", portal.get(style).body);
        let escaped = page.replace('&', "&amp;").replace('"', "&quot;");
        for width in [320, 360] {
            let title = format!("{path} at {width}").replace('"', "");
            pages += &format!(
                r#"<iframe width="{width}" height="1300" title="{title}" srcdoc="{escaped}"></iframe>"#
            );
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("narrow.html");
    std::fs::write(&file, pages + MEASURE).unwrap();
    let profile = tempfile::tempdir().unwrap();
    let address = format!("file://{}", file.display());
    let picture = artifacts_folder().join("narrow.png");
    let shot = format!("--screenshot={}", picture.display());
    browse_with(&browser, &profile, &[&shot, "--window-size=2100,8200", &address]);
    let dom = browse_with(&browser, &profile, &["--dump-dom", &address]);
    let found = dom.split("<pre id=\"found\">").nth(1).and_then(|rest| rest.split("</pre>").next());
    assert_eq!(found, Some(""), "{}", found.unwrap_or(&dom));
}
