//! Printing tables, and what was to be reached.

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

/// A number with its thousands apart.
pub(crate) fn number(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with two decimals, if it has any.
fn short(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// A table in Markdown.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        let heads = heads.iter().map(|head| (*head).to_owned()).collect();
        Self { rows: vec![heads] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.rows[0].len());
        self.rows.push(cells);
    }

    pub(crate) fn print(&self) {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        for (at, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> = row
                .iter()
                .enumerate()
                .map(|(column, cell)| {
                    let width = width(column);
                    if column == 0 {
                        format!("{cell:<width$}")
                    } else {
                        format!("{cell:>width$}")
                    }
                })
                .collect();
            println!("| {} |", cells.join(" | "));
            if at == 0 {
                let rules: Vec<String> = (0..row.len())
                    .map(|column| {
                        let dashes = "-".repeat(width(column) - usize::from(column > 0));
                        if column == 0 { dashes } else { dashes + ":" }
                    })
                    .collect();
                println!("| {} |", rules.join(" | "));
            }
        }
    }
}

/// A number that was to be reached.
pub(crate) struct Goal {
    what: String,
    measured: f64,
    limit: f64,
    at_least: bool,
}

impl Goal {
    pub(crate) fn at_most(what: &str, measured: f64, limit: f64) -> Self {
        Self {
            what: what.to_owned(),
            measured,
            limit,
            at_least: false,
        }
    }

    pub(crate) fn at_least(what: &str, measured: f64, limit: f64) -> Self {
        Self {
            at_least: true,
            ..Self::at_most(what, measured, limit)
        }
    }

    /// Whether it was reached. A number that could not be measured was not.
    fn is_reached(&self) -> bool {
        if self.at_least {
            self.measured >= self.limit
        } else {
            self.measured <= self.limit
        }
    }

    /// Prints whether each was reached, and returns whether all were.
    #[must_use]
    pub(crate) fn print(goals: &[Self]) -> bool {
        println!();
        for goal in goals {
            println!(
                "- {}: {}: {}, goal at {} {}",
                if goal.is_reached() { "PASS" } else { "MISS" },
                goal.what,
                short(goal.measured),
                if goal.at_least { "least" } else { "most" },
                short(goal.limit)
            );
        }
        goals.iter().all(Self::is_reached)
    }
}
