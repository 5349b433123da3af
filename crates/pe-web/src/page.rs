//! The status page: self-contained HTML without scripts.

use std::fmt::Write;

use pe_engine::EngineHandle;
use pe_scrape::CycleReport;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="10">
<title>PingExporter</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .75rem; border-bottom: 1px solid #8884; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.down { color: #c22; font-weight: 600; }
nav a { margin-right: 1rem; }
</style>
</head>
<body>
<h1>PingExporter</h1>
"#;

pub(crate) fn status(engine: &EngineHandle) -> String {
    let mut page = String::from(HEAD);
    let _ = writeln!(
        page,
        "<p>Version {}</p>\n<nav><a href=\"/metrics\">Metrics</a><a href=\"/-/healthy\">Health</a>\
         <a href=\"/-/ready\">Readiness</a></nav>\n<h2>Groups</h2>",
        env!("CARGO_PKG_VERSION")
    );
    let reports = engine.results().latest();
    if reports.is_empty() {
        page.push_str("<p>No group has finished a cycle yet.</p>\n");
    } else {
        page.push_str(
            "<table>\n<tr><th>Group</th><th class=\"number\">Devices</th><th class=\"number\">Down</th>\
             <th class=\"number\">Latest cycle took</th><th class=\"number\">Finished</th></tr>\n",
        );
        reports.iter().for_each(|report| row(&mut page, report));
        page.push_str("</table>\n");
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn row(page: &mut String, report: &CycleReport) {
    if report.is_stale {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"number\">{}</td><td class=\"down\" colspan=\"3\">nothing was measured for too \
             long: results are withheld</td></tr>",
            escape(&report.group),
            report.device_count,
        );
        return;
    }
    let down = report.states.down;
    let age = (report.started + report.duration)
        .elapsed()
        .unwrap_or_default();
    let _ = writeln!(
        page,
        "<tr><td>{}</td><td class=\"number\">{}</td><td class=\"number{}\">{}</td>\
         <td class=\"number\">{:.3} s</td><td class=\"number\">{} s ago</td></tr>",
        escape(&report.group),
        report.device_count,
        if down > 0 { " down" } else { "" },
        down,
        report.duration.as_secs_f64(),
        age.as_secs()
    );
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_cannot_break_out_of_the_page() {
        assert_eq!(
            super::escape("<a href='x'>&\""),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;"
        );
    }
}
