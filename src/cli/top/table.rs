//! The table: as wide and as high as the terminal is. Where it is narrow the columns that tell least go first, and the last
//! one is cut.

use super::look::{Row, View};

/// A column: its head, whether it stands to the right, and when it goes: the highest first.
struct Column {
    head: &'static str,
    is_number: bool,
    goes: u8,
    cell: fn(&Row) -> String,
}

const COLUMNS: [Column; 9] = [
    Column { head: "FUNCTION", is_number: false, goes: 0, cell: |row| row.function.clone() },
    Column { head: "STATE", is_number: false, goes: 1, cell: |row| row.state.clone() },
    Column { head: "WORKERS", is_number: true, goes: 2, cell: workers },
    Column { head: "LAG", is_number: true, goes: 0, cell: |row| maybe(row.lag.map(count)) },
    Column {
        head: "BEHIND",
        is_number: true,
        goes: 3,
        cell: |row| maybe(row.behind_ms.map(|ms| time(ms as u64))),
    },
    Column { head: "IN/S", is_number: true, goes: 5, cell: |row| maybe(row.arrival_rate.map(rate)) },
    Column { head: "OUT/S", is_number: true, goes: 4, cell: |row| maybe(row.throughput.map(rate)) },
    Column { head: "DUE IN", is_number: true, goes: 6, cell: |row| maybe(row.wake_in_ms.map(time)) },
    Column { head: "WHY", is_number: false, goes: 7, cell: why },
];

/// Between two columns.
const GAP: &str = "  ";
/// Of the last column so much has to be left to show any of it.
const LEAST: usize = 10;

fn maybe(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn workers(row: &Row) -> String {
    match row.wanted {
        Some(wanted) => format!("{}/{wanted}", row.workers),
        None => row.workers.to_string(),
    }
}

fn why(row: &Row) -> String {
    if let Some(problem) = &row.problem {
        return line(problem);
    }
    if let Some(fixed) = &row.fixed {
        let (workers, left) = (&fixed["workers"], fixed["leftMs"].as_u64().unwrap_or(0));
        return format!("fixed at {workers} for another {}", time(left));
    }
    row.why.as_deref().map(line).unwrap_or_default()
}

/// Of texts from elsewhere nothing steers the terminal.
fn line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// At most five places.
fn count(number: u64) -> String {
    match number {
        0..100_000 => number.to_string(),
        100_000..10_000_000 => format!("{}k", number / 1000),
        10_000_000..10_000_000_000 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}

fn rate(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { count(rate as u64) }
}

/// The two largest units, or one.
fn time(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..10 => format!("{:.1}s", ms as f64 / 1000.0),
        10..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The table, and what stands below it; in a terminal of so many columns and rows no more than fits.
pub fn lines(view: &View, size: Option<(usize, usize)>) -> Vec<String> {
    let cells: Vec<Vec<String>> =
        view.functions.iter().map(|row| COLUMNS.iter().map(|column| (column.cell)(row)).collect()).collect();
    let widths: Vec<usize> = COLUMNS
        .iter()
        .enumerate()
        .map(|(place, column)| {
            let cells = cells.iter().filter_map(|row| row.get(place)).map(|cell| cell.chars().count());
            cells.chain([column.head.len()]).max().unwrap_or(0)
        })
        .collect();
    let shown = shown(&widths, size.map(|(columns, _)| columns));
    let heads = COLUMNS.iter().map(|column| column.head.to_owned()).collect();
    let mut table: Vec<String> =
        std::iter::once(&heads).chain(&cells).map(|cells| row_of(cells, &widths, &shown)).collect();
    if view.functions.is_empty() {
        table.push("no function: no group `tidemill.*` has committed anything".to_owned());
    }
    let mut below = Vec::new();
    if !view.silent.is_empty() {
        below.push(String::new());
        below.extend(view.silent.iter().map(|silent| format!("not asked: {}", line(silent))));
    }
    let Some((columns, rows)) = size else {
        table.extend(below);
        return table;
    };
    let room = rows.saturating_sub(below.len().min(rows / 3));
    if table.len() > room {
        let more = table.len() - room.saturating_sub(1);
        table.truncate(room.saturating_sub(1));
        table.push(format!("and {more} more"));
    }
    table.extend(below);
    fit(table, (columns, rows))
}

/// Cuts what is beyond the terminal.
pub fn fit(lines: Vec<String>, (columns, rows): (usize, usize)) -> Vec<String> {
    lines.into_iter().take(rows).map(|line| line.chars().take(columns).collect()).collect()
}

/// Which columns there is room for.
fn shown(widths: &[usize], room: Option<usize>) -> Vec<bool> {
    let mut shown = vec![true; COLUMNS.len()];
    let Some(room) = room else { return shown };
    let last = COLUMNS.len() - 1;
    loop {
        let needed = |place: usize| if place == last { LEAST.min(widths[place]) } else { widths[place] };
        let there = (0..COLUMNS.len()).filter(|place| shown[*place]);
        let total: usize = there.map(|place| needed(place) + GAP.len()).sum();
        if total <= room + GAP.len() {
            return shown;
        }
        let goes = (0..COLUMNS.len()).filter(|place| shown[*place] && COLUMNS[*place].goes > 0);
        match goes.max_by_key(|place| COLUMNS[*place].goes) {
            Some(place) => shown[place] = false,
            None => return shown,
        }
    }
}

fn row_of(cells: &[String], widths: &[usize], shown: &[bool]) -> String {
    let places = (0..COLUMNS.len()).filter(|place| shown[*place]);
    let cells = places.map(|place| {
        let (cell, width) = (&cells[place], widths[place]);
        if COLUMNS[place].is_number { format!("{cell:>width$}") } else { format!("{cell:width$}") }
    });
    cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(rows: usize) -> View {
        let row = |n: usize| Row {
            function: format!("default/rides-{n}"),
            state: "running".to_owned(),
            workers: 2,
            wanted: Some(3),
            lag: Some(1_234_567),
            behind_ms: Some(61_500),
            arrival_rate: Some(12.34),
            throughput: Some(1234.5),
            wake_in_ms: Some(3000),
            why: Some("more are needed".to_owned()),
            ..Row::default()
        };
        View { at_ms: 0, functions: (0..rows).map(row).collect(), silent: Vec::new() }
    }

    #[test]
    fn a_wide_table_has_everything() {
        assert_eq!(
            lines(&view(1), None),
            [
                "FUNCTION         STATE    WORKERS    LAG  BEHIND  IN/S  OUT/S  DUE IN  WHY",
                "default/rides-0  running      2/3  1234k     61s  12.3   1234    3.0s  more are needed",
            ]
        );
    }

    #[test]
    fn a_narrow_one_keeps_what_tells_most() {
        let head = |columns| lines(&view(1), Some((columns, 24))).remove(0);
        assert!(head(85).ends_with("WHY"));
        assert!(head(70).ends_with("DUE IN"));
        assert!(head(62).ends_with("OUT/S"));
        assert_eq!(head(30).trim_end(), "FUNCTION           LAG");
        for columns in 1..100 {
            for rows in 1..8 {
                let lines = lines(&view(5), Some((columns, rows)));
                assert!(lines.len() <= rows && lines.iter().all(|line| line.chars().count() <= columns));
            }
        }
    }

    #[test]
    fn a_low_one_says_how_many_there_are_more() {
        let lines = lines(&view(9), Some((120, 5)));
        assert_eq!((lines.len(), lines[4].as_str()), (5, "and 6 more"));
    }

    #[test]
    fn numbers_stay_short() {
        let texts =
            [time(0), time(9_900), time(119_000), time(7_199_000), time(7_260_000), time(172_800_000)];
        assert_eq!(texts, ["0.0s", "9.9s", "119s", "119m", "2h01m", "2d"]);
        assert_eq!([count(99_999), count(123_456), count(12_000_000)], ["99999", "123k", "12M"]);
        let row = Row { problem: Some("a\x1b[2Jb".to_owned()), ..Row::default() };
        assert_eq!(why(&row), "a [2Jb");
    }
}
