//! Tables of keys for the reference page, made from the tables of keys in the code.

use pe_scrape::settings::{Bounds, Key, Kind, Table};
use pe_scrape::{DeviceEntry, GroupSettings, ScraperRegistry, SinkRegistry, Value};

use crate::file::SCHEMA;
use crate::group::TARGET_GROUP;
use crate::layers::Section;
use crate::push;

/// Tables in Markdown of all keys that files may have, each with a name for its place in a page: `conf`, `jobs`, `push` and
/// `targets` for the files; the key for an object within these, such as `pacer`; the name of each scraper and sink that
/// declares its settings, and `NAME.KEY` for an object that one of these keys can be or hold; `sinks` for what all sinks have; `variables` for the
/// keys that environment variables and flags may set.
#[must_use]
pub fn reference(scrapers: &ScraperRegistry, sinks: &SinkRegistry) -> Vec<(String, String)> {
    let mut tables = Vec::new();
    add(&mut tables, "conf", "", GroupSettings::TABLE.keys);
    add(&mut tables, "jobs", "", DeviceEntry::TABLE.keys);
    add(&mut tables, "targets", "", TARGET_GROUP);
    let mut push = push::keys(sinks);
    push.extend([push::EXTERNAL_LABELS, push::SINKS, SCHEMA]);
    add(&mut tables, "push", "", &push);
    add(&mut tables, "sinks", "", &[push::NAME]);
    let scrapers = scrapers
        .names()
        .into_iter()
        .map(|name| (name, scrapers.table(name)));
    let sinks_own = sinks
        .names()
        .into_iter()
        .map(|name| (name, sinks.table(name)));
    for (name, table) in scrapers.chain(sinks_own) {
        if let Some(Table { keys, .. }) = table {
            add(&mut tables, name, &format!("{name}."), keys);
        }
    }
    tables.push(("variables".to_owned(), variables(sinks)));
    tables
}

/// The page with the tables in their places: each between a line `<!-- keys: NAME -->` and a line `<!-- end keys -->`. A
/// place whose name is none of the tables is left as it is, and so is a table without a place.
///
/// ```
/// let page = "The keys:\n\n<!-- keys: x -->\nold\n<!-- end keys -->\n";
/// let filled = pe_config::fill_reference(page, &[("x".to_owned(), "| key |\n".to_owned())]);
/// assert_eq!(filled, "The keys:\n\n<!-- keys: x -->\n\n| key |\n\n<!-- end keys -->\n");
/// ```
#[must_use]
pub fn fill_reference(page: &str, tables: &[(String, String)]) -> String {
    let mut filled = page.to_owned();
    for (name, table) in tables {
        let start = format!("<!-- keys: {name} -->\n");
        let Some(from) = filled.find(&start).map(|at| at + start.len()) else {
            continue;
        };
        if let Some(length) = filled[from..].find("<!-- end keys -->") {
            filled.replace_range(from..from + length, &format!("\n{table}\n"));
        }
    }
    filled
}

/// Adds the table of `keys`, and those of objects within them, whose names start with `prefix`.
fn add(tables: &mut Vec<(String, String)>, name: &str, prefix: &str, keys: &[Key]) {
    let mut rows = String::from("| key | type | default | meaning |\n| --- | --- | --- | --- |\n");
    for key in keys {
        let cells = [
            format!("`{}`", key.name),
            kind(&key.kind, &key.bounds),
            default(key),
            key.description(),
        ];
        rows.push_str(&row(&cells));
    }
    tables.push((name.to_owned(), rows));
    for key in keys {
        if let Some(table) = object(&key.kind) {
            let name = format!("{prefix}{}", key.name);
            if !tables.iter().any(|(known, _)| *known == name) {
                add(tables, &name, &format!("{prefix}{}.", key.name), table.keys);
            }
        }
    }
}

/// The keys of the object that a value of this kind can be, or can hold.
fn object(kind: &Kind) -> Option<&'static Table> {
    match kind {
        Kind::Object(table) => Some(table),
        Kind::List(of) => object(of),
        Kind::Either(kinds) => kinds.iter().find_map(object),
        _ => None,
    }
}

fn variables(sinks: &SinkRegistry) -> String {
    let mut rows = String::from("| key | variable |\n| --- | --- |\n");
    for section in [Section::push(sinks), Section::conf()] {
        for (key, variable) in section.names() {
            rows.push_str(&row(&[format!("`{key}`"), format!("`{variable}`")]));
        }
    }
    rows
}

fn row(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn kind(kind: &Kind, bounds: &Bounds) -> String {
    match kind {
        Kind::Flag => "`true`, `false`".to_owned(),
        Kind::Number => numbers("number", bounds),
        Kind::Integer => numbers("whole number", bounds),
        Kind::Duration => numbers("duration", bounds),
        Kind::Text => "string".to_owned(),
        Kind::Secret => "string, secret".to_owned(),
        Kind::SecretFile(_) | Kind::Path => "path".to_owned(),
        Kind::Port => "number or string".to_owned(),
        Kind::Address => "IPv4 or IPv6 address".to_owned(),
        Kind::Choice(words) => {
            let words: Vec<String> = words
                .iter()
                .map(|word| match word.parse::<u64>() {
                    Ok(number) => format!("`{number}`"),
                    Err(_) => format!("`\"{word}\"`"),
                })
                .collect();
            words.join(", ")
        }
        Kind::Labels | Kind::Texts => "object of strings".to_owned(),
        Kind::Scrapers | Kind::Sinks => "list".to_owned(),
        Kind::List(of) => match of {
            Kind::Text => "list of strings".to_owned(),
            Kind::Object(_) => "list of objects".to_owned(),
            of => format!("list, each {}", self::kind(of, bounds)),
        },
        Kind::Object(_) => "object".to_owned(),
        Kind::Either(kinds) => {
            let kinds: Vec<String> = kinds.iter().map(|of| self::kind(of, bounds)).collect();
            kinds.join(" or ")
        }
        _ => "see its meaning".to_owned(),
    }
}

fn numbers(what: &str, bounds: &Bounds) -> String {
    match (bounds.min, bounds.above, bounds.max) {
        (Some(min), _, Some(max)) => format!("{what} from {min} to {max}"),
        (Some(min), _, None) => format!("{what} of at least {min}"),
        (None, Some(above), _) => format!("{what} above {above}"),
        (None, None, Some(max)) => format!("{what} of at most {max}"),
        (None, None, None) => what.to_owned(),
    }
}

fn default(key: &Key) -> String {
    if key.required {
        return "required".to_owned();
    }
    if let Some(words) = key.otherwise {
        return words.to_owned();
    }
    match key.default.map(|default| default()) {
        None | Some(Value::Null) => "none".to_owned(),
        Some(value) => format!("`{value}`"),
    }
}
