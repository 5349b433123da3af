//! The page of one device.

use maud::{Markup, html};

use super::{Shell, parts, smoke, text};
use crate::view::{DeviceView, NeighbourView, Span, StatusView};

/// The page of a device, with its graph over `span`.
pub(crate) fn device(
    status: &StatusView,
    view: &DeviceView,
    span: Span,
    is_log: bool,
    telemetry_path: &str,
    refresh: Option<u32>,
) -> String {
    let row = &view.row;
    let name = text::shown(&row.device, 80);
    let shell = Shell {
        status,
        root: "../",
        title: format!("{name}, {}", row.state),
        telemetry_path,
        refresh,
    };
    let address = |span: Span, is_log: bool| {
        let scale = if is_log { "&scale=log" } else { "" };
        format!("?span={}{scale}", span.as_str())
    };
    let since = row.since.map(f64::from);
    let content = html! {
        nav.path aria-label="Devices of the group" {
            a href="../" { "‹ Devices" }
            span {
                @if let Some(other) = &view.previous { (neighbour(other, &address(span, is_log), "‹ ", "")) " " }
                (text::count(view.number)) " of " (text::count(view.of)) " in " bdi { (text::shown(&row.group, 60)) }
                @if let Some(other) = &view.next { " " (neighbour(other, &address(span, is_log), "", " ›")) }
            }
        }
        div.title #about data-live {
            h1 { bdi { (text::shown(&row.device, text::CUT)) } }
            p {
                b class={ "st " (parts::shape(row.state)) } {
                    (row.state) @if row.state == "losing" { " " (text::percent(row.loss_recent)) " %" }
                }
                @if row.state == "losing" { i { " of the latest requests," } }
                @if let Some(reason) = &row.reason { " " i { (reason) } }
                @if let Some(since) = since {
                    i { " since " (text::clock(since, status.now)) " (" (text::duration(status.now - since)) ")" }
                }
            }
            p.sub {
                (text::shown(&row.ip, text::CUT))
                @if let Some(address) = &row.address { " → " (address) }
                ". Group "
                a href={ "../?group=" (crate::query::escaped(&row.group)) "#devices" } { bdi { (text::shown(&row.group, 80)) } }
                ", measured every " (text::interval(view.interval)) "."
            }
        }
        div.tool {
            h2 { "Round-trip time and loss" }
            nav.seg aria-label="Span" {
                @for (one, words) in Span::ALL.into_iter().zip(["latest cycles", "3 h", "1 day"]) {
                    a href=(address(one, is_log)) aria-current=[(one == span).then_some("true")] { (words) }
                }
            }
            nav.seg aria-label="Scale" {
                @for (log, words) in [(false, "linear"), (true, "log")] {
                    a href=(address(span, log)) aria-current=[(log == is_log).then_some("true")] { (words) }
                }
            }
        }
        div.read {
            output #read data-live { (smoke::reading(&view.history)) }
            span hidden #steps {
                button type="button" value="-1" aria-label="Earlier" { "‹" } " "
                button type="button" value="1" aria-label="Later" { "›" }
            }
        }
        div #graph data-live { (smoke::graph(&name, &view.history, is_log)) }
        div.cols #facts data-live {
            div { (latest(view, status.now)) }
            div { (changes(view, status.now)) (errors(view, status.now)) }
            div { (labels(view)) }
        }
        (queries(view))
    };
    shell.page(&content)
}

fn neighbour(other: &NeighbourView, query: &str, before: &str, after: &str) -> Markup {
    html! { a href={ (other.id) (query) } { (before) bdi { (text::shown(&other.device, 40)) } (after) } }
}

fn latest(view: &DeviceView, now: f64) -> Markup {
    html! {
        section {
            h2 { "Latest values" @if let Some(at) = view.measured { i { " of " (text::clock(at, now)) } } }
            dl.kv {
                @for value in &view.latest {
                    dt title=(value.help) {
                        (value.name)
                        @for (label, word) in &value.labels { " " i { (label) "=" (text::shown(word, 60)) } }
                    }
                    dd { (text::value(value.value)) }
                }
            }
        }
    }
}

fn changes(view: &DeviceView, now: f64) -> Markup {
    html! {
        section {
            h2 { "Changes of state" }
            table.wrap {
                thead { tr { th scope="col" { "At" } th scope="col" { "Became" } th scope="col" { "Because" } th scope="col" { "For" } } }
                tbody {
                    @for (place, change) in view.changes.iter().enumerate() {
                        @let until = place.checked_sub(1).map_or(now, |next| view.changes[next].at.into());
                        tr {
                            td { (text::clock(change.at.into(), now)) }
                            td { b class={ "st " (parts::shape(change.state)) } { (change.state) } }
                            td { (change.reason.as_deref().unwrap_or("–")) }
                            td { (text::duration(until - f64::from(change.at))) }
                        }
                    }
                }
            }
        }
    }
}

fn errors(view: &DeviceView, now: f64) -> Markup {
    html! {
        section {
            h2 { "Requests without an answer, by reason" }
            @if view.errors.is_empty() { p.sub { "None since the start." } } @else {
                table.wrap.n {
                    thead { tr { th scope="col" { "Reason" } th scope="col" { "In all" } th scope="col" { "At last" } th scope="col" { "When" } } }
                    tbody { @for error in &view.errors {
                        tr { td { (text::shown(&error.reason, 60)) } td { (error.total) } td { (error.latest) } td { (text::clock(error.at.into(), now)) } }
                    } }
                }
            }
        }
    }
}

fn labels(view: &DeviceView) -> Markup {
    let value = |value: &str| {
        let whole = text::shown(value, usize::MAX);
        let is_long = whole.chars().count() > text::CUT;
        html! {
            @if is_long { details.in { summary { (text::shown(value, text::CUT)) } bdi { (whole) } } } @else { bdi { (whole) } }
        }
    };
    html! {
        section {
            h2 { "Labels" }
            dl.kv.t { @for (name, word) in &view.labels { dt { (name) } dd { (value(word)) } } }
        }
    }
}

/// Three queries for Prometheus with this device's labels.
fn queries(view: &DeviceView) -> Markup {
    let matcher = |name: &str, value: &str| {
        let escaped = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        format!("{name}=\"{escaped}\"")
    };
    let selector = format!(
        "{{{},{}}}",
        matcher("device", &view.row.device),
        matcher("ip", &view.row.ip)
    );
    let queries = [
        (
            "Round-trip time, s",
            format!("ping_rtt_mean_seconds{selector}"),
        ),
        (
            "Loss, 15 min",
            format!("avg_over_time(ping_loss_ratio{selector}[15m])"),
        ),
        (
            "Unanswered requests, 1 h",
            format!("sum by (reason) (increase(ping_errors_total{selector}[1h]))"),
        ),
    ];
    html! {
        section.pq {
            h2 { "PromQL" }
            @for (words, query) in &queries {
                div.ql { span { (words) } code { (text::shown(query, 2000)) } button.copy type="button" hidden { "Copy" } }
            }
        }
    }
}
