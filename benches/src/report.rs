//! What the commands print: a line a measurement as it is made, at the end one row for the table in
//! `benches/README.md`.

use crate::contest::Name;

/// Figures of one kind, by contestant, in the order in which they were measured.
#[derive(Debug, Default)]
pub struct Series(Vec<(Name, f64)>);

impl Series {
    /// One more figure.
    pub fn push(&mut self, name: Name, figure: f64) {
        self.0.push((name, figure));
    }

    /// The median of a contestant's figures.
    pub fn median(&self, name: Name) -> Option<f64> {
        median(self.of(name).collect())
    }

    /// Tidemill's figure by that of `other` in the same round, the median of all rounds: a machine that is slow
    /// for a round is slow for both.
    pub fn ratio(&self, other: Name) -> Option<f64> {
        median(self.of(Name::Tidemill).zip(self.of(other)).map(|(own, other)| own / other).collect())
    }

    fn of(&self, name: Name) -> impl Iterator<Item = f64> {
        self.0.iter().filter(move |(of, _)| *of == name).map(|(_, figure)| *figure)
    }
}

/// The middle one, or the mean of the middle two.
pub fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let upper = *figures.get(figures.len() / 2)?;
    let lower = *figures.get((figures.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// Prints the row: what was done, what came out, how, on what, when.
pub fn row(work: &str, figure: &str) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let profile = if cfg!(debug_assertions) { "" } else { " --release" };
    let command = format!("cargo run{profile} -p tidemill-benches -- {}", arguments.join(" "));
    let warning = if cfg!(debug_assertions) { "**debug build, not a figure** " } else { "" };
    println!(
        "\n| {work} | {warning}{figure} | `{command}` | {} | {} |",
        machine(),
        jiff::Timestamp::now().strftime("%F")
    );
}

/// `1.15 M` or `830 k`.
pub fn rate(records: f64) -> String {
    if records >= 1e6 { format!("{:.2} M", records / 1e6) } else { format!("{:.0} k", records / 1e3) }
}

/// Bytes as MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

/// Cores, processor, memory.
fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal");
    let kib: f64 = memory.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default();
    format!("{cores} cores {}, {:.0} GiB", field("/proc/cpuinfo", "model name"), kib / 1024.0 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_the_rounds() {
        let mut series = Series::default();
        for (bare, tidemill) in [(10.0, 8.0), (100.0, 1.0), (20.0, 18.0)] {
            series.push(Name::Bare, bare);
            series.push(Name::Tidemill, tidemill);
        }
        assert_eq!(series.median(Name::Bare), Some(20.0));
        assert_eq!(series.median(Name::Tidemill), Some(8.0));
        assert_eq!(series.ratio(Name::Bare), Some(0.8));
        assert_eq!(series.ratio(Name::Streams), None, "who was not measured has no ratio");
    }

    #[test]
    fn an_even_number_of_figures_has_its_median_between_the_middle_two() {
        let mut series = Series::default();
        for figure in [4.0, 1.0, 3.0, 2.0] {
            series.push(Name::Bare, figure);
        }
        assert_eq!(series.median(Name::Bare), Some(2.5));
    }
}
