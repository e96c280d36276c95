//! The frame of every page: head, navigation, breadcrumbs, foot.
//! It must never load anything from elsewhere.

use maud::{DOCTYPE, Markup, html};

use super::STYLE_ADDRESS;

/// The part of the navigation that a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Applications, components and their packages.
    Applications,
    /// Artifacts.
    Artifacts,
    /// Alerts.
    Alerts,
}

/// A page with its title, its place in the navigation, and the way to it (names with addresses).
pub fn page(title: &str, section: Option<Section>, way: &[(String, String)], content: &Markup) -> Markup {
    let entry = |wanted: Section, address: &str, name: &str| {
        let current = (section == Some(wanted)).then_some("true");
        html! { li { a href=(address) aria-current=[current] { (name) } } }
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Plimsoll" }
                link rel="icon" type="image/svg+xml" href="/assets/plimsoll.svg";
                link rel="stylesheet" href=(*STYLE_ADDRESS);
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header.bar {
                    div.wrap {
                        a.brand href="/" {
                            img src="/assets/plimsoll.svg" alt="" width="28" height="28";
                            span { "Plimsoll" }
                        }
                        nav aria-label="Main" {
                            ul {
                                (entry(Section::Applications, "/", "Applications"))
                                (entry(Section::Artifacts, "/artifacts", "Artifacts"))
                                (entry(Section::Alerts, "/alerts", "Alerts"))
                            }
                        }
                        form.find action="/search" method="get" role="search" {
                            label.unseen for="find" { "Find a vulnerability, a package URL or an artifact" }
                            input #find type="search" name="q" placeholder="CVE-… , pkg:… , artifact key";
                            button type="submit" { "Find" }
                        }
                    }
                }
                main #main.wrap {
                    @if !way.is_empty() {
                        nav.way aria-label="Breadcrumb" {
                            ol { @for (name, address) in way { li { a href=(address) { (name) } } } }
                        }
                    }
                    (content)
                }
                footer.wrap {
                    p { "Plimsoll " (env!("CARGO_PKG_VERSION")) " · " a href="/api/openapi.json" { "JSON API" } }
                }
            }
        }
    }
}
