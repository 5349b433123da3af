//! What a monitoring plugin says, in the conventions of Nagios: a state by its exit code, a line for people, and performance data
//! behind a bar (`|`), which more lines may continue.
//!
//! Each piece of performance data is `'label'=value[unit];[warning];[critical];[minimum];[maximum]`. Values become base units:
//! seconds, bytes, and shares of one. Letters for bytes are powers of 1024, as the plugins themselves have it (`check_disk`). What
//! cannot be read is left out and counted; a piece that cannot be read costs no other. No I/O.
//!
//! Source: <https://www.monitoring-plugins.org/doc/guidelines.html>, sections 2.5 and 2.6.

/// Most pieces of performance data that are read.
pub const MAX_PIECES: usize = 1000;

/// The state that a plugin tells by its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// 0: all is well.
    Ok,
    /// 1: above a threshold for warnings, or not quite right.
    Warning,
    /// 2: not running, or above a critical threshold.
    Critical,
    /// 3: the plugin could not tell.
    Unknown,
}

impl State {
    /// All states, by their exit codes.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Warning, Self::Critical, Self::Unknown];

    /// The state of an exit code, if it is one.
    #[must_use]
    pub fn of(code: i32) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Unknown => "unknown",
        }
    }
}

/// What the numbers of a piece of performance data are, in base units.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PieceUnit {
    /// A plain number.
    Number,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A share of one.
    Ratio,
    /// What only goes up (`c`).
    Counter,
    /// A unit that the conventions do not know, as it was written.
    Other(String),
}

/// The unit that letters stand for, and what makes a base unit of it.
fn unit(letters: &str) -> (PieceUnit, f64) {
    let bytes = |power| (PieceUnit::Bytes, 1024_f64.powi(power));
    match letters {
        "" => (PieceUnit::Number, 1.0),
        "s" => (PieceUnit::Seconds, 1.0),
        "ms" => (PieceUnit::Seconds, 1e-3),
        "us" | "µs" | "μs" => (PieceUnit::Seconds, 1e-6),
        "ns" => (PieceUnit::Seconds, 1e-9),
        "%" => (PieceUnit::Ratio, 1e-2),
        "c" => (PieceUnit::Counter, 1.0),
        "B" | "b" => bytes(0),
        "KB" | "kB" | "KiB" => bytes(1),
        "MB" | "MiB" => bytes(2),
        "GB" | "GiB" => bytes(3),
        "TB" | "TiB" => bytes(4),
        "PB" | "PiB" => bytes(5),
        other => (PieceUnit::Other(other.to_owned()), 1.0),
    }
}

/// A threshold: outside of the range from `low` to `high`, or inside of it, there is an alert.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    /// The lower end; negative infinity where there is none.
    pub low: f64,
    /// The upper end; infinity where there is none.
    pub high: f64,
    /// Whether the alert is inside (`@`).
    pub inside: bool,
}

impl Range {
    /// Reads `10`, `10:`, `~:10`, `10:20` or `@10:20`, and multiplies the ends.
    fn parse(text: &str, factor: f64) -> Option<Self> {
        let (text, inside) = match text.strip_prefix('@') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (low, high) = match text.split_once(':') {
            None => (0.0, number(text)?),
            Some((low, high)) => {
                let low = match low {
                    "~" => f64::NEG_INFINITY,
                    "" => 0.0,
                    low => number(low)?,
                };
                let high = match high {
                    "" => f64::INFINITY,
                    high => number(high)?,
                };
                (low, high)
            }
        };
        (low <= high).then_some(Self {
            low: low * factor,
            high: high * factor,
            inside,
        })
    }
}

/// A piece of performance data, in base units.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// What was measured.
    pub label: String,
    /// What the numbers are.
    pub unit: PieceUnit,
    /// The value; `None` where the plugin could not tell (`U`).
    pub value: Option<f64>,
    /// When the plugin warns.
    pub warning: Option<Range>,
    /// When it is critical.
    pub critical: Option<Range>,
    /// The least value that there can be.
    pub min: Option<f64>,
    /// The greatest.
    pub max: Option<f64>,
}

/// What a plugin wrote.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PluginOutput {
    /// The first line, for people.
    pub summary: String,
    /// Its performance data, each label once.
    pub pieces: Vec<Piece>,
    /// Pieces that could not be read, came twice, or were too many.
    pub invalid: usize,
}

impl PluginOutput {
    /// Reads standard output. Bytes that are no UTF-8 are shown as such.
    #[must_use]
    pub fn parse(output: &[u8]) -> Self {
        let text = String::from_utf8_lossy(output);
        let (summary, data) = sections(&text);
        let mut parsed = Self {
            summary: summary.trim().to_owned(),
            ..Self::default()
        };
        let mut labels = std::collections::HashSet::new();
        let mut rest = data.as_str();
        while let Some((piece, after)) = next_piece(rest) {
            rest = after;
            match piece.filter(|_| parsed.pieces.len() < MAX_PIECES) {
                Some(piece) if labels.insert(piece.label.clone()) => parsed.pieces.push(piece),
                _ => parsed.invalid += 1,
            }
        }
        parsed
    }
}

/// The first line's text, and all performance data: behind the bar of the first line, and in all lines from the next bar on.
fn sections(text: &str) -> (&str, String) {
    let (first, more) = text.split_once('\n').unwrap_or((text, ""));
    let (summary, mut data) = match first.split_once('|') {
        Some((summary, data)) => (summary, data.to_owned()),
        None => (first, String::new()),
    };
    if let Some((_, further)) = more.split_once('|') {
        data.push(' ');
        data.extend(further.chars().map(|c| if c == '\n' { ' ' } else { c }));
    }
    (summary, data)
}

/// Takes the next piece from the front; `None` for one that cannot be read. Ends where there is nothing more.
fn next_piece(data: &str) -> Option<(Option<Piece>, &str)> {
    let data = data.trim_start();
    if data.is_empty() {
        return None;
    }
    let Some((label, rest)) = label(data) else {
        // Up to the next space: what follows may be in order.
        let end = data.find(char::is_whitespace).unwrap_or(data.len());
        return Some((None, &data[end..]));
    };
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (fields, rest) = rest.split_at(end);
    Some((piece(label, fields), rest))
}

/// The label in front of an equals sign, and what follows the sign. In quotes it may hold spaces; a doubled quote stands for one.
fn label(data: &str) -> Option<(String, &str)> {
    let Some(quoted) = data.strip_prefix('\'') else {
        let (label, rest) = data.split_once('=')?;
        let is_whole = !label.is_empty() && !label.contains(char::is_whitespace);
        return is_whole.then(|| (label.to_owned(), rest));
    };
    let mut label = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        if c != '\'' {
            label.push(c);
        } else if quoted[at + 1..].starts_with('\'') {
            label.push(c);
            chars.next();
        } else {
            let rest = quoted[at + 1..].strip_prefix('=')?;
            return (!label.is_empty()).then_some((label, rest));
        }
    }
    None
}

fn piece(label: String, fields: &str) -> Option<Piece> {
    let mut fields = fields.split(';');
    let value = fields.next()?;
    // The unit begins where the number ends; a `U` alone is no unit.
    let (value, letters) = match value.strip_prefix('U') {
        Some(letters) => (None, letters),
        None => {
            let end = number_end(value);
            (Some(number(&value[..end])?), &value[end..])
        }
    };
    let (unit, factor) = unit(letters);
    let mut optional = || {
        fields
            .next()
            .map(str::trim)
            .filter(|field| !field.is_empty())
    };
    let piece = Piece {
        label,
        value: value.map(|value| value * factor),
        warning: optional().and_then(|text| Range::parse(text, factor)),
        critical: optional().and_then(|text| Range::parse(text, factor)),
        min: optional().and_then(number).map(|value| value * factor),
        max: optional().and_then(number).map(|value| value * factor),
        unit,
    };
    Some(piece)
}

/// Where a number at the front of `text` ends.
fn number_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes
            .get(at)
            .is_some_and(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b','))
        {
            at += 1;
        }
        at
    };
    let sign = |at| usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
    let end = digits(sign(0));
    if end > sign(0) && matches!(bytes.get(end), Some(b'e' | b'E')) {
        let first = end + 1 + sign(end + 1);
        let last = digits(first);
        if last > first {
            return last;
        }
    }
    end
}

/// A finite number. Some plugins write a comma for the point, whatever the language of the system is.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let is_number =
        text.bytes().any(|byte| byte.is_ascii_digit()) && number_end(text) == text.len();
    let number: f64 = text.replace(',', ".").parse().ok().filter(|_| is_number)?;
    number.is_finite().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(data: &str) -> Piece {
        let output = PluginOutput::parse(format!("OK | {data}").as_bytes());
        assert_eq!(output.invalid, 0, "{data}");
        output
            .pieces
            .into_iter()
            .next()
            .unwrap_or_else(|| panic!("{data}"))
    }

    #[test]
    fn output_of_real_plugins_is_read() {
        // check_http, check_disk, check_ping, check_load of Debian 12.
        let http = "HTTP OK: HTTP/1.1 200 OK - 300 bytes in 0.002 second response time \
                    |time=0.002162s;1.000000;2.000000;0.000000;10.000000 size=300B;;;0\n";
        let output = PluginOutput::parse(http.as_bytes());
        assert!(output.summary.starts_with("HTTP OK: HTTP/1.1 200 OK"));
        assert!(output.summary.ends_with("response time"));
        let [time, size] = &output.pieces[..] else {
            panic!("{output:?}")
        };
        assert_eq!((time.label.as_str(), time.value), ("time", Some(0.002162)));
        assert_eq!(
            time.warning,
            Some(Range {
                low: 0.0,
                high: 1.0,
                inside: false
            })
        );
        assert_eq!((time.min, time.max), (Some(0.0), Some(10.0)));
        assert_eq!(
            (&size.unit, size.value, size.warning),
            (&PieceUnit::Bytes, Some(300.0), None)
        );

        let disk = one("/=2643MB;5948;5958;0;5968");
        assert_eq!(disk.value, Some(2643.0 * 1_048_576.0));
        assert_eq!(disk.max, Some(5968.0 * 1_048_576.0));
        assert_eq!(
            disk.critical.map(|range| range.high),
            Some(5958.0 * 1_048_576.0)
        );

        let ping = PluginOutput::parse(
            b"PING OK|rta=0.059000ms;100.000000;500.000000;0.000000 pl=0%;20;60;0",
        );
        assert!((ping.pieces[0].value.unwrap() - 0.000059).abs() < 1e-12);
        assert_eq!(ping.pieces[0].warning.unwrap().high, 0.1);
        assert_eq!(
            (&ping.pieces[1].unit, ping.pieces[1].critical.unwrap().high),
            (&PieceUnit::Ratio, 0.6)
        );
    }

    #[test]
    fn data_may_go_on_in_further_lines() {
        let text = "DISK OK - free space: / 3326 MB (56%); | /=2643MB;5948;5958;0;5968\n\
                    / 15272 MB (77%);\n/boot 68 MB (69%);\n\
                    /home 69357 MB (27%); | /boot=68MB;88;93;0;98\n/home=69357MB;253404;253409;0;253414\n\
                    /var/log=818MB;970;975;0;980\n";
        let output = PluginOutput::parse(text.as_bytes());
        let labels: Vec<&str> = output
            .pieces
            .iter()
            .map(|piece| piece.label.as_str())
            .collect();
        assert_eq!(labels, ["/", "/boot", "/home", "/var/log"]);
        assert_eq!(output.summary, "DISK OK - free space: / 3326 MB (56%);");
        // A text of several lines without data behind the first.
        let output = PluginOutput::parse(b"OK\nmore\n| a=1\n");
        assert_eq!((output.summary.as_str(), output.pieces.len()), ("OK", 1));
    }

    #[test]
    fn labels_may_be_quoted() {
        assert_eq!(one("'C: used'=5%").label, "C: used");
        assert_eq!(one("'it''s = here'=5").label, "it's = here");
        let output = PluginOutput::parse(b"OK | 'open=1 b=2 =3 ''=4 'a'b=5 c=6");
        let labels: Vec<&str> = output
            .pieces
            .iter()
            .map(|piece| piece.label.as_str())
            .collect();
        assert_eq!((labels, output.invalid), (vec!["b", "c"], 4));
    }

    #[test]
    fn units_become_base_units() {
        for (text, unit, value) in [
            ("a=5", PieceUnit::Number, 5.0),
            ("a=-5.5", PieceUnit::Number, -5.5),
            ("a=1e3", PieceUnit::Number, 1000.0),
            ("a=0,5s", PieceUnit::Seconds, 0.5),
            ("a=250us", PieceUnit::Seconds, 0.00025),
            ("a=4c", PieceUnit::Counter, 4.0),
            ("a=2KB", PieceUnit::Bytes, 2048.0),
            ("a=-70dBm", PieceUnit::Other("dBm".to_owned()), -70.0),
            ("a=3e", PieceUnit::Other("e".to_owned()), 3.0),
        ] {
            let piece = one(text);
            assert_eq!(piece.unit, unit, "{text}");
            assert!((piece.value.unwrap() - value).abs() < 1e-12, "{text}");
        }
        assert_eq!(one("a=U").value, None);
    }

    #[test]
    fn thresholds_have_several_forms() {
        let range = |text: &str| one(&format!("a=1;{text}")).warning;
        let all = |low, high, inside| Some(Range { low, high, inside });
        assert_eq!(range("10"), all(0.0, 10.0, false));
        assert_eq!(range("10:"), all(10.0, f64::INFINITY, false));
        assert_eq!(range("~:10"), all(f64::NEG_INFINITY, 10.0, false));
        assert_eq!(range("@10:20"), all(10.0, 20.0, true));
        for text in ["", "20:10", "a", "@", "~"] {
            assert_eq!(range(text), None, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_costs_nothing_else() {
        let output = PluginOutput::parse(b"\xff | a=1 b=x c=inf d=NaN e= f=1.2.3 a=2 g=7");
        let labels: Vec<&str> = output
            .pieces
            .iter()
            .map(|piece| piece.label.as_str())
            .collect();
        assert_eq!((labels, output.invalid), (vec!["a", "g"], 6));
        assert_eq!(PluginOutput::parse(b""), PluginOutput::default());
        let many: String = (0..=MAX_PIECES).map(|n| format!(" a{n}=1")).collect();
        let output = PluginOutput::parse(format!("OK|{many}").as_bytes());
        assert_eq!((output.pieces.len(), output.invalid), (MAX_PIECES, 1));
        assert_eq!(State::of(4), None);
        assert_eq!(State::of(-1), None);
        assert_eq!(State::of(1), Some(State::Warning));
    }
}
