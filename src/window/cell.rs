//! What a window keeps instead of its events: one cell an aggregate. Cells fold events in, merge (sessions do), and show
//! themselves as JSON. Whole numbers are exact.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::AggregateOp;

/// A number of an event's body.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Number {
    /// Whole.
    Int(i64),
    /// Whole, beyond [`i64::MAX`].
    Big(u64),
    /// Any other.
    Float(f64),
}

impl Number {
    /// The number in a JSON value, if it is one.
    pub fn of(value: &serde_json::Value) -> Option<Self> {
        let serde_json::Value::Number(number) = value else { return None };
        let big = || number.as_u64().map(Self::Big);
        number.as_i64().map(Self::Int).or_else(big).or_else(|| number.as_f64().map(Self::Float))
    }

    fn as_f64(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Big(int) => int as f64,
            Self::Float(float) => float,
        }
    }

    fn as_int(self) -> Option<i128> {
        match self {
            Self::Int(int) => Some(i128::from(int)),
            Self::Big(int) => Some(i128::from(int)),
            Self::Float(_) => None,
        }
    }

    fn order(self, other: Self) -> Ordering {
        match (self.as_int(), other.as_int()) {
            (Some(this), Some(that)) => this.cmp(&that),
            _ => self.as_f64().total_cmp(&other.as_f64()),
        }
    }
}

/// What an aggregate takes of an event; of one that lacks the field there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Field {
    /// There is no field, or only that it is there counts.
    There,
    /// For sums, means and extremes.
    Number(Number),
    /// For first, last and distinct: the value as compact JSON.
    Json(Box<str>),
}

/// Where an event stood: what tells two of the same time apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Event time, milliseconds since the epoch.
    pub time_ms: i64,
    /// The source's place in the manifest.
    pub source: u16,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// An exact sum of whole numbers beside one of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    /// The upper and the lower half of 128 bits: as one number they would ask for 16-byte alignment.
    int: (i64, u64),
    float: f64,
    /// A number that was not whole has come.
    is_float: bool,
}

impl Sum {
    fn int(&self) -> i128 {
        i128::from(self.int.0) << 64 | i128::from(self.int.1)
    }

    fn set_int(&mut self, int: i128) {
        self.int = ((int >> 64) as i64, int as u64);
    }

    fn add(&mut self, number: Number) {
        match number.as_int() {
            // 2^63 events of the largest number would not fill it.
            Some(int) => self.set_int(self.int().saturating_add(int)),
            None => {
                self.float += number.as_f64();
                self.is_float = true;
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.set_int(self.int().saturating_add(other.int()));
        self.float += other.float;
        self.is_float |= other.is_float;
    }

    fn as_f64(&self) -> f64 {
        self.int() as f64 + self.float
    }
}

/// One aggregate of one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Cell {
    /// How many.
    Count(u64),
    /// The sum.
    Sum(Sum),
    /// Sum and how many.
    Avg(Box<(Sum, u64)>),
    /// The least.
    Min(Option<Number>),
    /// The greatest.
    Max(Option<Number>),
    /// Of the earliest event.
    First(Option<Box<(Place, Box<str>)>>),
    /// Of the latest event.
    Last(Option<Box<(Place, Box<str>)>>),
    /// All that came, as compact JSON.
    Distinct(BTreeSet<Box<str>>),
}

impl Cell {
    /// Of no event.
    pub fn empty(op: AggregateOp) -> Self {
        match op {
            AggregateOp::Count => Self::Count(0),
            AggregateOp::Sum => Self::Sum(Sum::default()),
            AggregateOp::Avg => Self::Avg(Box::default()),
            AggregateOp::Min => Self::Min(None),
            AggregateOp::Max => Self::Max(None),
            AggregateOp::First => Self::First(None),
            AggregateOp::Last => Self::Last(None),
            AggregateOp::Distinct => Self::Distinct(BTreeSet::new()),
        }
    }

    /// Takes what one event has. A field of another kind than the cell's counts as none.
    pub fn fold(&mut self, place: Place, field: &Field) {
        match (self, field) {
            (Self::Count(count), _) => *count += 1,
            (Self::Sum(sum), Field::Number(number)) => sum.add(*number),
            (Self::Avg(avg), Field::Number(number)) => {
                avg.0.add(*number);
                avg.1 += 1;
            }
            (Self::Min(least), Field::Number(number)) => keep(least, *number, Ordering::Less),
            (Self::Max(most), Field::Number(number)) => keep(most, *number, Ordering::Greater),
            (Self::First(first), Field::Json(json)) if first.as_ref().is_none_or(|first| place < first.0) => {
                *first = Some(Box::new((place, json.clone())));
            }
            (Self::Last(last), Field::Json(json)) if last.as_ref().is_none_or(|last| place > last.0) => {
                *last = Some(Box::new((place, json.clone())));
            }
            (Self::Distinct(values), Field::Json(json)) if !values.contains(json) => {
                values.insert(json.clone());
            }
            _ => {}
        }
    }

    /// Takes all that `other`, a cell of the same aggregate, took.
    pub fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Count(count), Self::Count(more)) => *count += more,
            (Self::Sum(sum), Self::Sum(more)) => sum.merge(&more),
            (Self::Avg(avg), Self::Avg(more)) => {
                avg.0.merge(&more.0);
                avg.1 += more.1;
            }
            (Self::Min(least), Self::Min(Some(other))) => keep(least, other, Ordering::Less),
            (Self::Max(most), Self::Max(Some(other))) => keep(most, other, Ordering::Greater),
            (Self::First(first), Self::First(Some(other)))
                if first.as_ref().is_none_or(|first| other.0 < first.0) =>
            {
                *first = Some(other);
            }
            (Self::Last(last), Self::Last(Some(other)))
                if last.as_ref().is_none_or(|last| other.0 > last.0) =>
            {
                *last = Some(other);
            }
            (Self::Distinct(values), Self::Distinct(more)) => values.extend(more),
            _ => {}
        }
    }

    /// Appends the result as JSON: `null` where there was nothing to take, 0 for a sum of nothing.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Count(count) => int(i128::from(*count), out),
            Self::Sum(sum) if sum.is_float => float(sum.as_f64(), out),
            Self::Sum(sum) => int(sum.int(), out),
            Self::Avg(avg) if avg.1 > 0 => float(avg.0.as_f64() / avg.1 as f64, out),
            Self::Min(Some(number)) | Self::Max(Some(number)) => match number.as_int() {
                Some(whole) => int(whole, out),
                None => float(number.as_f64(), out),
            },
            Self::First(Some(kept)) | Self::Last(Some(kept)) => out.extend_from_slice(kept.1.as_bytes()),
            Self::Distinct(values) => int(values.len() as i128, out),
            _ => out.extend_from_slice(b"null"),
        }
    }

    /// What it takes beside itself, in bytes.
    pub fn heap_bytes(&self) -> usize {
        const NODE: usize = 32;
        match self {
            Self::Avg(_) => size_of::<(Sum, u64)>() + NODE / 2,
            Self::First(Some(kept)) | Self::Last(Some(kept)) => kept.1.len() + 2 * NODE,
            Self::Distinct(values) => values.iter().map(|value| value.len() + NODE).sum(),
            _ => 0,
        }
    }
}

fn keep(kept: &mut Option<Number>, number: Number, wanted: Ordering) {
    if kept.is_none_or(|kept| number.order(kept) == wanted) {
        *kept = Some(number);
    }
}

fn int(int: i128, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(int).as_bytes());
}

/// What is no number in JSON (an overflow) is `null`.
fn float(float: f64, out: &mut Vec<u8>) {
    match serde_json::Number::from_f64(float) {
        Some(number) => out.extend_from_slice(number.to_string().as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(op: AggregateOp, values: &[serde_json::Value]) -> String {
        let mut cell = Cell::empty(op);
        for (value, offset) in values.iter().zip(0..) {
            let place = Place { time_ms: 1000 - offset, source: 0, partition: 0, offset };
            let is_number = !matches!(op, AggregateOp::First | AggregateOp::Last | AggregateOp::Distinct);
            let field = match Number::of(value).filter(|_| is_number) {
                Some(number) => Field::Number(number),
                None => Field::Json(value.to_string().into()),
            };
            cell.fold(place, &field);
        }
        let mut out = Vec::new();
        cell.write_json(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn whole_numbers_are_exact_and_others_are_told() {
        use serde_json::json;
        let large = [json!(u64::MAX), json!(u64::MAX), json!(i64::MIN), json!(1)];
        for (op, values, expected) in [
            (AggregateOp::Sum, &large[..], "27670116110564327423"),
            (AggregateOp::Sum, &[json!(9007199254740993_i64), json!(2)], "9007199254740995"),
            (AggregateOp::Sum, &[json!(1), json!(0.5)], "1.5"),
            (AggregateOp::Sum, &[], "0"),
            (AggregateOp::Min, &large, "-9223372036854775808"),
            (AggregateOp::Max, &large, "18446744073709551615"),
            (AggregateOp::Max, &[json!(2), json!(2.5)], "2.5"),
            (AggregateOp::Min, &[], "null"),
            (AggregateOp::Avg, &[json!(1), json!(2)], "1.5"),
            (AggregateOp::Avg, &[], "null"),
            (AggregateOp::Avg, &[json!(1e308), json!(1e308)], "null"),
            (AggregateOp::Count, &[json!(1), json!(1)], "2"),
            // Offsets grow while times fall: the first by time came last.
            (AggregateOp::First, &[json!("a"), json!({"b": 1})], r#"{"b":1}"#),
            (AggregateOp::Last, &[json!("a"), json!("b")], r#""a""#),
            (AggregateOp::Distinct, &[json!(1), json!("1"), json!(1)], "2"),
        ] {
            assert_eq!(folded(op, values), expected, "{op:?} of {values:?}");
        }
    }
}
