//! CloudEvents in binary mode: a filter on the type passes half, a typed JSON handler emits a
//! receipt for each. The bare loop copies all of the same input and understands none of it.

use std::time::Duration;

use anyhow::Result;

use crate::bare::Kind;
use crate::contest::{Field, Work};
use crate::fill::{COMPLETED, Shape, completed};
use crate::report;
use crate::session::Session;
use crate::subject::Function;
use crate::throughput::{Load, Race};

/// Filters, decodes and emits exactly once, a cut every 100 ms, one worker.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cargo run --release -p tidemill-benches -- cloudevents --rounds 5")]
pub struct Args {
    #[command(flatten)]
    pub load: Load,
    #[command(flatten)]
    pub field: Field,
}

/// Measures the receipts.
pub fn run(args: &Args) -> Result<()> {
    let session = Session::open(&args.load.place)?;
    let cut = Duration::from_millis(100);
    let filters = format!("[ {{ exact: {{ type: {COMPLETED} }} }} ]");
    let function = Function {
        package: Some("bench-receipt"),
        source_format: "cloudevents",
        filters,
        sink: "format: cloudevents\n      cloudevents: { type: com.example.receipt, source: /bench/receipts, mode: binary }",
        ..Function::echo(cut)
    };
    let work = Work { bare: Kind::Eosb, bare_cut: cut, function };
    let contestants = args.field.contestants(&session, &work)?;
    let records = args.load.records;
    let race =
        Race { session: &session, load: &args.load, shape: Shape::Rides, expected: completed(records) };
    let results = race.run(&contestants)?;
    let work = format!(
        "CloudEvents (binary), exact filter passes half, typed JSON handler emits, exactly once, cut 100 ms, {} records",
        report::rate(records as f64)
    );
    report::row(&work, &results.figure());
    Ok(())
}
