//! The table: medians of paired runs with their spread, beside what they are compared with.

use std::fmt;

/// Everything that was measured.
#[derive(Default)]
pub struct Report {
    figures: Vec<Figure>,
    checked: Vec<String>,
}

impl Report {
    /// Adds figures, in the order of the table.
    pub fn extend(&mut self, figures: impl IntoIterator<Item = Figure>) {
        self.figures.extend(figures);
    }

    /// Says what was proven beside the figures.
    pub fn checked(&mut self, what: String) {
        self.checked.push(what);
    }
}

/// One line of the table.
pub struct Figure {
    name: String,
    unit: &'static str,
    ours: Vec<f64>,
    beside: &'static str,
    theirs: Vec<f64>,
    expected: &'static str,
    note: Option<(&'static str, Vec<f64>)>,
}

impl Figure {
    /// A line without numbers yet.
    pub fn new(name: &str, unit: &'static str) -> Figure {
        Figure {
            name: name.to_owned(),
            unit,
            ours: Vec::new(),
            beside: "",
            theirs: Vec::new(),
            expected: "",
            note: None,
        }
    }

    /// What it is compared with.
    pub fn beside(self, what: &'static str) -> Figure {
        Figure { beside: what, ..self }
    }

    /// What is hoped for. It is printed, not asserted.
    pub fn expected(self, what: &'static str) -> Figure {
        Figure { expected: what, ..self }
    }

    /// The figure of one run.
    pub fn add(&mut self, ours: f64) {
        self.ours.push(ours);
    }

    /// The figure of one run, and what it is compared with, from the same run.
    pub fn pair(&mut self, ours: f64, theirs: f64) {
        self.ours.push(ours);
        self.theirs.push(theirs);
    }

    /// Something that explains the figure.
    pub fn note_mean(&mut self, what: &'static str, value: f64) {
        self.note.get_or_insert((what, Vec::new())).1.push(value);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "| figure: median [least–most] of the runs | Fireside | beside it | ratio | expected |"
        )?;
        writeln!(out, "|---|---|---|---|---|")?;
        for figure in &self.figures {
            let Figure { name, unit, ours, beside, theirs, expected, note } = figure;
            let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
            let note = note.as_ref().map(|(what, values)| format!(" ({} {what})", Spread(values).median()));
            let note = note.unwrap_or_default();
            let beside =
                if theirs.is_empty() { String::new() } else { format!("{beside} {}", Spread(theirs)) };
            let ratio = if ratios.is_empty() { String::new() } else { Spread(&ratios).to_string() };
            writeln!(out, "| {name}, {unit}{note} | {} | {beside} | {ratio} | {expected} |", Spread(ours))?;
        }
        for what in &self.checked {
            write!(out, "\nChecked: {what}.")?;
        }
        Ok(())
    }
}

struct Spread<'a>(&'a [f64]);

impl Spread<'_> {
    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    fn median(&self) -> String {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() % 2 {
            _ if sorted.is_empty() => "?".to_owned(),
            0 => digits((sorted[middle - 1] + sorted[middle]) / 2.0),
            _ => digits(sorted[middle]),
        }
    }
}

impl fmt::Display for Spread<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sorted = self.sorted();
        let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else { return out.write_str("?") };
        write!(out, "{} [{}–{}]", self.median(), digits(*least), digits(*most))
    }
}

/// Three digits that count.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        // Nothing was measured that something could be compared with.
        v if !v.is_finite() => return "?".to_owned(),
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_pairs() {
        let mut figure = Figure::new("A", "µs").beside("loop").expected("≤ 1.5 ×");
        for (ours, theirs) in [(10.0, 5.0), (30.0, 10.0), (4.0, 4.0)] {
            figure.pair(ours, theirs);
            figure.note_mean("per write", 1.0);
        }
        let mut report = Report::default();
        report.extend([figure]);
        report.checked("all".to_owned());
        let text = report.to_string();
        assert!(
            text.contains("| A, µs (1.00 per write) | 10.0 [4.00–30.0] | loop 5.00 [4.00–10.0] | 2.00 [1.00–3.00] | ≤ 1.5 × |"),
            "{text}"
        );
        assert!(text.ends_with("Checked: all."));
    }

    #[test]
    fn a_figure_may_stand_alone() {
        let mut figure = Figure::new("B", "MiB");
        figure.add(1234.5);
        figure.add(0.25);
        let mut report = Report::default();
        report.extend([figure]);
        assert!(report.to_string().contains("| B, MiB | 617 [0.250–1234] |  |  |  |"), "{report}");
    }
}
