//! `plimsoll report`: the recommendation for each package of a component, from local state or the portal.
//! It must never filter away what was not measured without saying so.

use anyhow::{Context as _, bail};
use plimsoll_portal::model::{Package, Report};
use plimsoll_scanner::Component;
use plimsoll_schemas::identity::encode;
use plimsoll_schemas::words::{usage, vulnerable};

use super::component;
use crate::Exit;
use crate::arguments::{self, Format};
use crate::config::CliConfig;
use crate::local;
use crate::output::{Files, Policy, ResultFile, print, print_json, report_table};

/// Largest report that is taken from the portal, in bytes.
const REPORT_MAX_BYTES: u64 = 1024 * 1024 * 1024;

pub fn execute(arguments: &arguments::Report, config: &CliConfig) -> anyhow::Result<Exit> {
    let policy = Policy::parse(arguments.output.fail_on.as_deref())?;
    let file = ResultFile::create(&arguments.output)?;
    let component = component(&arguments.names, "a report is about a component")?;
    let mut report = fetch(&component, config)?;
    let all = report.packages.len();
    let files = Files { all: arguments.files || arguments.find.is_some(), find: arguments.find.clone() };
    report.packages.retain(|package| {
        wanted(package, arguments) && (files.find.is_none() || !files.of(package).is_empty())
    });
    let left_out = all - report.packages.len();
    file.take_output()?;
    match arguments.output.output {
        Format::Json => print_json(&report)?,
        Format::Table => {
            let shown = (arguments.verbose || files.all).then_some(&files);
            print(&report_table(&report, left_out, shown))?;
        }
    }
    Ok(policy.judge(&report.packages))
}

/// The whole report of a component.
///
/// # Errors
/// If nothing is known of it, or the portal cannot be asked.
pub fn fetch(component: &Component, config: &CliConfig) -> anyhow::Result<Report> {
    if config.has_broker() || config.portal.url.is_some() {
        return from_portal(component, config);
    }
    local::report(&config.state_directory(), component)?.with_context(|| {
        format!(
            "nothing is known of application {:?}, component {:?}, version {:?}; scan it with `plimsoll scan` or run \
             it with `plimsoll run` first, under the same names",
            component.application(),
            component.component(),
            component.version()
        )
    })
}

fn wanted(package: &Package, arguments: &arguments::Report) -> bool {
    (!arguments.vulnerable || package.vulnerable == vulnerable::YES)
        && (!arguments.used || package.usage == usage::USED)
        && (!arguments.unused || package.usage == usage::UNUSED)
}

fn from_portal(component: &Component, config: &CliConfig) -> anyhow::Result<Report> {
    let Some(url) = &config.portal.url else {
        bail!(
            "reports come from the portal where a broker is configured; set portal.url (PLIMSOLL_PORTAL_URL)"
        );
    };
    let address = format!(
        "{}/api/v1/applications/{}/components/{}/versions/{}/report",
        url.trim_end_matches('/'),
        encode(component.application()),
        encode(component.component()),
        encode(component.version())
    );
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let mut request = agent.get(&address);
    if let Some(token) = &config.portal.token {
        request = request.header("Authorization", format!("Bearer {}", token.expose()));
    }
    let mut response =
        request.call().with_context(|| format!("asking the portal at {url}; is it running?"))?;
    let status = response.status();
    let body = response
        .body_mut()
        .with_config()
        .limit(REPORT_MAX_BYTES)
        .read_to_string()
        .with_context(|| format!("reading the answer of {address}"))?;
    if !status.is_success() {
        let problem = serde_json::from_str::<plimsoll_portal::model::Problem>(&body);
        match problem {
            Ok(problem) => bail!("{}: {}; {}", problem.title, problem.detail, problem.remedy),
            Err(_) => bail!("{address} answered {status}"),
        }
    }
    serde_json::from_str(&body).with_context(|| format!("{address} did not answer with a report"))
}
