//! The pages, rendered by the server and useful without scripts. Style and script are embedded, and allowed by their
//! hashes alone. All links are relative, so that the pages work below any path of a proxy.

mod device;
mod overview;
mod parts;
mod smoke;
mod text;

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ring::digest::{SHA256, digest};

use crate::view::{ClockView, StatusView};

pub(crate) use device::device;
pub(crate) use overview::overview;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The policy of all pages: nothing is loaded from anywhere, and only this style and this script apply.
pub(crate) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(digest(&SHA256, text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// What surrounds each page. `root` leads from the page to the overview.
struct Shell<'a> {
    status: &'a StatusView,
    root: &'a str,
    title: String,
    telemetry_path: &'a str,
    /// Seconds after which a browser without scripts loads the page again.
    refresh: Option<u32>,
}

impl Shell<'_> {
    fn page(&self, content: &Markup) -> String {
        let status = self.status;
        let site = text::shown(&status.site, text::CUT);
        let metrics = format!(
            "{}{}",
            self.root,
            self.telemetry_path.trim_start_matches('/')
        );
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width,initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    @if let Some(seconds) = self.refresh {
                        meta http-equiv="refresh" content=(seconds);
                    }
                    title { (self.title) " · " (site) " · PingExporter" }
                    link rel="icon" href="data:,";
                    style { (PreEscaped(STYLE)) }
                }
                body data-root=(self.root) data-started=(status.started) {
                    a.skip href="#main" { "Skip to the content" }
                    header.top {
                        p.who { b { bdi { (site) } } " " a href=(self.root) { "PingExporter" } }
                        p #state data-live { (parts::agent_state(status, self.root)) }
                        p.grow #age data-live { (parts::age(status)) }
                        p #live { span.st.w { "not live" } }
                        button #pause type="button" aria-pressed="false" hidden { "Pause" }
                        nav aria-label="Pages" {
                            a href=(self.root) { "Devices" }
                            a href=(metrics) { "Metrics" }
                            a href={ (self.root) "api/v1/status" } { "API" }
                        }
                    }
                    main #main { (content) }
                    footer #foot data-live {
                        span { "PingExporter " (status.build.version) }
                        @if let Some(resident) = status.process.resident_bytes {
                            span { (text::bytes(resident)) " memory" }
                        }
                        @if !status.listen.is_empty() { span { "listens on " (status.listen.join(", ")) } }
                        span {
                            (parts::counted(status.groups.len(), "group")) " as configured "
                            @if status.reload.successful { "at " (text::clock(status.reload.attempted, status.now)) }
                            @else { "before the reload that was refused" }
                        }
                        (clock(&status.clock))
                        @if let Some(drops) = status.sockets.receive_drops.filter(|drops| *drops > 0.0) {
                            span { b.st.l { (text::count(drops as usize)) " replies dropped here" } ", the sockets' buffers were full" }
                        }
                        span { "times in UTC" }
                    }
                    p.vh #said role="status" aria-live="polite" {}
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        }
        .into_string()
    }
}

fn clock(clock: &ClockView) -> Markup {
    let ClockView {
        synchronized,
        ahead_of_receiver,
    } = clock;
    html! {
        @if synchronized.is_some() || ahead_of_receiver.is_some() {
            span #clock {
                "clock "
                @match synchronized {
                    Some(true) => "synchronised",
                    Some(false) => b.st.l { "not synchronised" },
                    None => "of unknown state",
                }
                @if let Some(ahead) = ahead_of_receiver { ", " (format!("{ahead:+.1}")) " s to the receiver's" }
            }
        }
    }
}
