//! The overview: what is wrong, since when, and which devices.

use maud::{Markup, html};

use super::{Shell, parts, text};
use crate::history::Kind;
use crate::query::{DeviceQuery, Sort};
use crate::view::{CountView, DeviceRow, DevicesView, GroupView, ReloadView, SinkView, StatusView};

/// Groups that the overview shows, the worst first.
const GROUPS: usize = 10;

/// Diagnostics that are shown before one has to unfold.
const DIAGNOSTICS: usize = 5;

/// The overview with a list of devices.
pub(crate) fn overview(
    status: &StatusView,
    list: &DevicesView,
    query: &DeviceQuery,
    telemetry_path: &str,
    refresh: Option<u32>,
) -> String {
    let down = status.devices.down;
    let shell = Shell {
        status,
        root: "./",
        title: match down {
            0 => "Devices".to_owned(),
            _ => format!("{} down", text::count(down)),
        },
        telemetry_path,
        refresh,
    };
    let content = html! {
        div.title {
            h1 {
                (parts::counted(status.devices.total, "device")) " in " (parts::counted(status.groups.len(), "group"))
            }
            p.sub { "running since " (text::clock(status.started, status.now)) }
        }
        div #top data-live {
            (counts(status))
            (reload(&status.reload, status.now))
            div.two {
                (groups(status, query))
                (sinks(&status.sinks, status.now))
            }
        }
        (devices(status, list, query))
    };
    shell.page(&content)
}

fn counts(status: &StatusView) -> Markup {
    let devices = &status.devices;
    let link = |state: &str| format!("./?state={state}#devices");
    let reasons = |state: &str| {
        let found = devices.reasons.get(state).map_or(&[][..], Vec::as_slice);
        html! {
            ul {
                @for (reason, count) in found.iter().take(3) {
                    li { a href={ "./?state=" (state) "&reason=" (crate::query::escaped(reason)) "#devices" } {
                        b { (text::count(*count)) } " " (text::shown(reason, text::CUT))
                    } }
                }
            }
        }
    };
    let history = |value: fn(&CountView) -> u32| {
        let values: Vec<(u64, u32)> = devices
            .history
            .iter()
            .map(|slot| (slot.start, value(slot)))
            .collect();
        parts::line(&values)
    };
    let figure = |state: &str, count: usize| {
        html! {
            a.fig href=(link(state)) { (parts::state(state)) " " b { (text::count(count)) } }
        }
    };
    let [few, some, many] = devices.loss_bands;
    let share = (devices.up as f64) / (devices.total.max(1) as f64) * 100.0;
    html! {
        ul.counts aria-label="Devices by state" {
            li { (figure("down", devices.down)) (reasons("down")) p.h { (history(|slot| slot.down)) } }
            li { (figure("unknown", devices.unknown)) (reasons("unknown")) p.h { (history(|slot| slot.unknown)) } }
            li {
                (figure("losing", devices.losing))
                ul {
                    @for (count, words) in [(few, "up to 5 %"), (some, "up to 20 %"), (many, "over 20 %")] {
                        @if count > 0 { li { a href=(link("losing")) { b { (text::count(count)) } " " (words) } } }
                    }
                }
                p.h { (history(|slot| slot.losing)) }
            }
            li {
                (figure("up", devices.up))
                ul { @if devices.waiting > 0 {
                    li { a href=(link("waiting")) { b { (text::count(devices.waiting)) } " waiting for a first result" } }
                } }
                p.h { @if devices.total > 0 { (format!("{share:.1}")) " % of " (parts::counted(devices.total, "device")) } }
            }
        }
    }
}

fn reload(reload: &ReloadView, now: f64) -> Markup {
    if reload.diagnostics.is_empty() && reload.successful {
        return html! {};
    }
    let errors = reload
        .diagnostics
        .iter()
        .filter(|found| found.severity == "error")
        .count();
    let warnings = reload.diagnostics.len() - errors;
    let row = |found: &crate::view::DiagnosticView| {
        html! {
            code { (text::shown(&found.location, text::CUT)) }
            span {
                @if found.severity == "warning" { "warning: " }
                (text::shown(&found.message, 1000))
                @if let Some(hint) = &found.hint { " " i { "hint: " (text::shown(hint, 1000)) } }
            }
        }
    };
    html! {
        section.note.bad[!reload.successful] #reload aria-labelledby="reload-title" {
            p {
                @if reload.successful {
                    b.st.l #reload-title { "Configuration with warnings" }
                } @else {
                    b.st.d #reload-title { "Reload refused" }
                }
                i {
                    " at " (text::clock(reload.attempted, now)) ", " (text::duration(now - reload.attempted)) " ago: "
                    @if errors > 0 { (parts::counted(errors, "error")) }
                    @if errors > 0 && warnings > 0 { ", " }
                    @if warnings > 0 { (parts::counted(warnings, "warning")) }
                    @if !reload.successful { ". The configuration before stays in force." }
                }
            }
            div.diag { @for found in reload.diagnostics.iter().take(DIAGNOSTICS) { (row(found)) } }
            @if reload.diagnostics.len() > DIAGNOSTICS {
                details {
                    summary { "All " (reload.diagnostics.len()) }
                    div.diag { @for found in reload.diagnostics.iter().skip(DIAGNOSTICS) { (row(found)) } }
                }
            }
        }
    }
}

fn groups(status: &StatusView, query: &DeviceQuery) -> Markup {
    let mut groups: Vec<&GroupView> = status.groups.iter().collect();
    let count =
        |group: &GroupView, state: &str| group.states.get(state).copied().unwrap_or_default();
    let shown = if query.all_groups {
        groups.len()
    } else {
        GROUPS
    };
    if groups.len() > shown {
        groups.sort_by_key(|group| {
            let bad = (
                count(group, "down"),
                count(group, "unknown"),
                count(group, "losing"),
            );
            (std::cmp::Reverse(group.is_stale), std::cmp::Reverse(bad))
        });
    }
    let number =
        |count: usize| html! { @if count == 0 { i { "0" } } @else { (text::count(count)) } };
    html! {
        section #group aria-labelledby="groups-title" {
            h2 #groups-title { "Groups" @if groups.len() > shown {
                i { " the worst " (shown) " of " (text::count(groups.len())) ", " }
                a href={ "./" (query.changed(|query| query.all_groups = true).to_query()) "#group" } { "show all" }
            } }
            @if groups.is_empty() {
                p.big { span.st.w { "Nothing to measure" } }
                @match &status.watched {
                    Some(directory) => p.sub {
                        "There is no group file in " code { (text::shown(directory, 1000)) }
                        ". The directory is watched: devices appear as soon as a file does."
                    },
                    None => p.sub { "Groups appear here when they are added." },
                }
            } @else {
                table.n {
                    thead { tr {
                        th scope="col" { "Group" } th.hide scope="col" { "Devices" }
                        th scope="col" { (parts::state("down")) } th scope="col" { (parts::state("unknown")) }
                        th scope="col" { (parts::state("losing")) }
                        th scope="col" { "Cycle took" } th.hide scope="col" { "Overruns, 1 h" } th.hide scope="col" { "Age" }
                    } }
                    tbody { @for group in groups.iter().take(shown) {
                        tr {
                            td { a href={ "./?group=" (crate::query::escaped(&group.name)) "#devices" } {
                                bdi { (text::shown(&group.name, 60)) }
                            } }
                            td.hide { (text::count(group.devices)) }
                            td { (number(count(group, "down"))) }
                            td { (number(count(group, "unknown"))) }
                            td { (number(count(group, "losing"))) }
                            td { (cycle(group)) }
                            td.hide {
                                @match group.overruns_1h {
                                    0 => { i { "0" } }
                                    some => { b.st.l { (text::count(some as usize)) } }
                                }
                            }
                            td.hide { @match group.finished {
                                Some(finished) => {
                                    @if group.is_stale { b.st.d { "stale, " (text::duration(status.now - finished)) } }
                                    @else { (text::duration(status.now - finished)) }
                                }
                                None => { i { "–" } }
                            } }
                        }
                    } }
                }
            }
        }
    }
}

fn cycle(group: &GroupView) -> Markup {
    let Some(took) = group.cycle else {
        return html! { i { "first one under way" } };
    };
    let width = (54.0 * (took / group.interval).min(1.0)).round();
    html! {
        svg.bar viewBox="0 0 54 8" aria-hidden="true" {
            path.t d="M0 0h54v8H0" {}
            path.o[group.is_long()] d={ "M0 0h" (width) "v8H0" } {}
        }
        (format!("{took:.2} of {}", text::number(group.interval))) " s"
        @if group.is_long() { " " span.vh { "(long)" } }
    }
}

fn sinks(sinks: &[SinkView], now: f64) -> Markup {
    html! {
        section #sink aria-labelledby="sinks-title" {
            h2 #sinks-title { "Sinks" }
            @if sinks.is_empty() {
                p.sub { "None: results are served here and pushed nowhere." }
            } @else {
                table.n.sinks {
                    thead { tr {
                        th scope="col" { "Sink" } th scope="col" { "State" } th scope="col" { "Last success" }
                        th scope="col" { "Queue" } th scope="col" { "Oldest" }
                    } }
                    tbody { @for sink in sinks {
                        tr {
                            td { bdi { (text::shown(&sink.name, 60)) } }
                            td { @if sink.state == "failing" { b.st.d { "failing" } } @else { (parts::state(sink.state)) } }
                            td { @match sink.last_success {
                                Some(at) => { (text::duration(now - at)) " ago" }
                                None => { i { "none" } }
                            } }
                            td { @match &sink.queue { Some(queue) => { (text::bytes(queue.bytes)) } None => { i { "none" } } } }
                            td { @match sink.queue.as_ref().and_then(|queue| queue.oldest) {
                                Some(at) => { (text::duration(now - at)) }
                                None => { i { "–" } }
                            } }
                        }
                        tr.m { td colspan="5" {
                            (sink.kind) @if !sink.target.is_empty() { " to " (text::shown(&sink.target, text::CUT)) }
                            @if let Some(error) = &sink.error {
                                ". " b { (text::shown(error, 500)) }
                                @if let Some(since) = sink.since { ", since " (text::clock(since, now)) }
                                @match sink.next_try {
                                    Some(next) if next > now => { "; next try in " (text::duration((next - now).ceil())) }
                                    Some(_) => { "; being tried now" }
                                    None => { "; tried again with the next results" }
                                }
                            }
                            @if !sink.dropped.is_empty() {
                                ". Dropped since the start: "
                                @for (place, dropped) in sink.dropped.iter().enumerate() {
                                    @if place > 0 { ", " }
                                    (text::count(dropped.count as usize)) " " (dropped.what) " (" (dropped.reason) ")"
                                }
                            }
                        } }
                    } }
                }
            }
        }
    }
}

fn devices(status: &StatusView, list: &DevicesView, query: &DeviceQuery) -> Markup {
    let all: usize = list.states.values().sum();
    let link = |query: DeviceQuery| format!("./{}#devices", query.to_query());
    let first = if list.devices.is_empty() {
        0
    } else {
        list.offset + 1
    };
    let last = list.offset + list.devices.len();
    let range = format!(
        "{}–{} of {}",
        text::count(first),
        text::count(last),
        text::count(list.total)
    );
    html! {
        section #devices aria-labelledby="devices-title" {
            form.tool role="search" method="get" action="./" {
                h2 #devices-title { "Devices" }
                input #q type="search" name="q" maxlength="200" placeholder="Name, address or label"
                    aria-label="Search by name, address or label" value=(query.filter.as_deref().unwrap_or_default());
                nav.seg #states aria-label="Filter by state" data-live {
                    a href=(link(query.changed(|query| query.state = None)))
                        aria-current=[query.state.is_none().then_some("true")] { "all " i { (text::count(all)) } }
                    @for kind in Kind::ALL {
                        @let count = list.states.get(kind.as_str()).copied().unwrap_or_default();
                        @if kind != Kind::Waiting || count > 0 {
                            a href=(link(query.changed(|query| query.state = Some(kind))))
                                aria-current=[(query.state == Some(kind)).then_some("true")] {
                                (parts::state(kind.as_str())) " " i { (text::count(count)) }
                            }
                        }
                    }
                }
                @if status.groups.len() > 1 && status.groups.len() <= 200 {
                    select name="group" aria-label="Group" {
                        option value="" { "every group" }
                        @for group in &status.groups {
                            option value=(group.name) selected[query.group.as_ref() == Some(&group.name)] {
                                (text::shown(&group.name, 60))
                            }
                        }
                    }
                } @else if let Some(group) = &query.group {
                    input type="hidden" name="group" value=(group);
                }
                @if let Some(state) = query.state { input type="hidden" name="state" value=(state.as_str()); }
                select.phone name="sort" aria-label="Sort by" {
                    @if query.descending {
                        option value={ "-" (query.sort.as_str()) } selected { "by " (query.sort.as_str()) ", reversed" }
                    }
                    @for sort in Sort::ALL {
                        option value=(sort.as_str()) selected[query.sort == sort && !query.descending] { "by " (sort.as_str()) }
                    }
                }
                button type="submit" { "Apply" }
                @if query.reason.is_some() || query.label.is_some() || query.filter.is_some() || query.group.is_some() {
                    a href="./#devices" {
                        "Clear " @if let Some(reason) = &query.reason { "reason " (text::shown(reason, 60)) " and " } "all filters"
                    }
                }
            }
            div #list data-live {
                @if list.devices.is_empty() {
                    @if status.devices.total == 0 {
                        p.big { "No devices yet" }
                        @if let Some(directory) = &status.watched {
                            p { "They come from the files " code { "*.json" } " in " code { (text::shown(directory, 1000)) } "." }
                        }
                        @if let Some(command) = &status.example_command {
                            p { "To write an example to start from: " code { (command) } }
                        }
                    } @else {
                        p.big { "No device matches" }
                        p { a href="./#devices" { "Clear all filters" } }
                    }
                } @else {
                    table.dev role="table" {
                        caption.vh { "Devices, sorted by " (query.sort.as_str()) ", " (range) }
                        thead role="rowgroup" { tr role="row" {
                            (head(query, Sort::Worst, "State"))
                            (head(query, Sort::Name, "Name"))
                            (head(query, Sort::Address, "Address"))
                            (head(query, Sort::Group, "Group"))
                            (head(query, Sort::Rtt, "RTT, ms"))
                            (head(query, Sort::Jitter, "Jitter, ms"))
                            (head(query, Sort::Loss, "Loss, %"))
                            th scope="col" role="columnheader" { "Latest cycles" }
                            (head(query, Sort::Change, "Last change"))
                        } }
                        tbody role="rowgroup" {
                            @for row in &list.devices { (device_row(row, status.now)) }
                        }
                    }
                }
                nav.page aria-label="Pages of the table" {
                    span { (range) }
                    @if list.offset > 0 {
                        a href=(link(query.changed(|query| query.offset = list.offset.saturating_sub(list.limit)))) { "‹ Previous" }
                    } @else { i { "‹ Previous" } }
                    @if last < list.total {
                        a href=(link(query.changed(|query| query.offset = list.offset + list.limit))) { "Next ›" }
                    } @else { i { "Next ›" } }
                    span.seg role="group" aria-label="Rows on a page" {
                        @for rows in [25, 50, 100] {
                            a href=(link(query.changed(|query| query.limit = rows)))
                                aria-current=[(query.limit == rows).then_some("true")] { (rows) }
                        }
                    }
                }
            }
        }
    }
}

fn head(query: &DeviceQuery, sort: Sort, words: &str) -> Markup {
    let is_this = query.sort == sort;
    // A second click turns it round.
    let next = query.changed(|query| {
        query.descending = is_this && !query.descending;
        query.sort = sort;
    });
    let order = is_this.then_some(if query.descending {
        "descending"
    } else {
        "ascending"
    });
    html! {
        th scope="col" role="columnheader" aria-sort=[order] {
            a href={ "./" (next.to_query()) "#devices" } {
                (words)
                @if is_this { @if sort == Sort::Worst && !query.descending { ", worst first" } @if query.descending { " ↑" } @else { " ↓" } }
            }
        }
    }
}

fn device_row(row: &DeviceRow, now: f64) -> Markup {
    let since = row.since.map(f64::from);
    let loss = row.loss_recent;
    html! {
        tr role="row" data-id=(row.id) {
            td role="cell" {
                b class={ "st " (parts::shape(row.state)) } { (row.state) }
                @if let Some(reason) = &row.reason { " " i { (reason) } }
            }
            td role="cell" { a href={ "device/" (row.id) } { bdi { (text::shown(&row.device, CUT_IN_TABLE)) } } }
            td role="cell" {
                bdi { (text::shown(&row.ip, CUT_IN_TABLE)) }
                @if let Some(address) = &row.address { i { " → " (address) } }
            }
            td role="cell" { bdi { (text::shown(&row.group, 60)) } }
            td.x[row.rtt.is_none()] role="cell" { (text::milliseconds(row.rtt)) }
            td role="cell" { (text::milliseconds(row.jitter)) }
            td.x[loss.is_none()] role="cell" {
                @if loss.is_some_and(|loss| loss >= 0.05) { b { (text::percent(loss)) } } @else { (text::percent(loss)) }
            }
            td role="cell" { (parts::trace(&row.trace)) }
            td role="cell" {
                @if let Some(since) = since {
                    (text::duration(now - since)) " " i { (text::clock(since, now)) }
                } @else { i { "–" } }
            }
        }
    }
}

/// Names in tables are cut to one line; this is more than fits.
const CUT_IN_TABLE: usize = 120;
