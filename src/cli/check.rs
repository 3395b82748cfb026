//! `tidemill check`: is a manifest valid, and what does it come to?

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Global, Output};
use crate::kafka::Cluster;
use crate::manifest::{self, Errors};
use crate::model::{Clock, Function, ProtocolChoice, SystemClock};
use crate::runtime::{Choice, Protocols};

/// How many ticks of a clock are shown.
const TICKS: usize = 3;

/// Check manifests without connecting: print them with every default, the topics to be made, the group, the next ticks.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill check functions/ride-receipts\n  \
    tidemill check --schema > function.schema.json\n\n\
    Exit codes: 0 valid, 2 invalid, with every finding as `file:line: path: message`.\n\n\
    Editors complete manifests that begin with a line such as\n  \
    # yaml-language-server: $schema=schemas/function.v1alpha1.schema.json")]
pub struct Check {
    /// Manifests, or folders of them
    #[arg(value_name = "FILE|DIR", required_unless_present_any = ["schema", "platform_schema", "reference"])]
    files: Vec<PathBuf>,
    /// Print the JSON Schema of function manifests instead
    #[arg(long, conflicts_with_all = ["files", "platform_schema", "reference"])]
    schema: bool,
    /// Print the JSON Schema of the platform's settings instead
    #[arg(long, conflicts_with_all = ["files", "reference"])]
    platform_schema: bool,
    /// Print the reference of every key as Markdown instead
    #[arg(long, conflicts_with = "files")]
    reference: bool,
    /// Refuse a plugin file that is not there, instead of warning
    #[arg(long)]
    plugins: bool,
}

impl Check {
    /// Runs the verb. The platform's settings are checked too, where there are any.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        if self.schema {
            println!("{:#}", manifest::function_schema());
            return Ok(ExitCode::SUCCESS);
        }
        if self.platform_schema {
            println!("{:#}", manifest::platform_schema());
            return Ok(ExitCode::SUCCESS);
        }
        if self.reference {
            print!("{}", manifest::reference());
            return Ok(ExitCode::SUCCESS);
        }
        let (platform, mut errors) = match global.platform() {
            Ok(platform) => (Some(platform), Errors::default()),
            Err(errors) => (None, errors),
        };
        let functions = match manifest::load(&self.files) {
            Ok(functions) => functions,
            Err(found) => {
                errors.extend(found);
                Vec::new()
            }
        };
        let missing = Errors(functions.iter().filter_map(missing_plugin).collect());
        if self.plugins {
            errors.extend(missing.clone());
        }
        if !errors.is_empty() {
            match global.output {
                Output::Text => eprintln!("{errors}"),
                Output::Json => println!("{}", json!({ "valid": false, "errors": errors })),
            }
            return Ok(ExitCode::from(2));
        }
        let settings = platform.iter().flat_map(|platform| platform.kafka.keys());
        let cluster = Cluster::new("", settings.map(|name| (name.clone(), String::new())));
        let protocols =
            Protocols::new(platform.as_ref().map_or(ProtocolChoice::Auto, |it| it.group_protocol));
        let protocol_of = |function: &Function| protocols.of(function, &cluster);
        let now_ms = SystemClock::start().now().wall_ms;
        match global.output {
            Output::Text => {
                for (index, function) in functions.iter().enumerate() {
                    if index > 0 {
                        println!();
                    }
                    print!("{}", described(function, now_ms));
                    let Choice { protocol, why } = protocol_of(function);
                    println!("# joins its group by the protocol {}: {why}", protocol.as_str());
                }
                for warning in &missing.0 {
                    eprintln!("warning: {warning}");
                }
            }
            Output::Json => {
                let functions: Vec<_> = functions
                    .iter()
                    .map(|function| {
                        let mut shown = json_of(function, now_ms);
                        shown["groupProtocol"] = json!(protocol_of(function).protocol);
                        shown
                    })
                    .collect();
                println!("{}", json!({ "valid": true, "functions": functions, "warnings": missing }));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The resolved manifest with what follows from it in comments: the whole can be loaded again.
fn described(function: &Function, now_ms: i64) -> String {
    let rendered = manifest::render(function);
    let body = rendered.strip_prefix("---\n").unwrap_or(&rendered);
    let mut text = format!("---\n# from {}\n{body}# group: {}\n", function.file.display(), function.group);
    for new in manifest::topics(function) {
        let partitions = match (new.partitions_after.as_slice(), new.create.partitions) {
            ([topic], _) => format!("as many as {topic}"),
            ([_, ..], _) => format!("as many as the largest of {}", new.partitions_after.join(", ")),
            ([], Some(count)) => count.to_string(),
            ([], None) => "broker's default".to_owned(),
        };
        text += &format!(
            "# makes topic {} ({}) if it is missing: partitions={partitions}",
            new.topic,
            new.role.as_str()
        );
        if let Some(replication) = new.create.replication {
            text += &format!(", replication={replication}");
        }
        for (name, value) in &new.create.config {
            text += &format!(", {name}={value}");
        }
        if !new.sized_after.is_empty() {
            let headroom = manifest::HEADROOM_BYTES / 1024;
            text +=
                &format!(", max.message.bytes={headroom} KiB above that of {}", new.sized_after.join(", "));
        }
        text.push('\n');
    }
    for (name, ticks) in ticks(function, now_ms) {
        text += &format!("# {name} ticks next: {}\n", ticks.join(", "));
    }
    text
}

/// The next ticks of each source that is a clock, by its name.
fn ticks(function: &Function, now_ms: i64) -> BTreeMap<&str, Vec<String>> {
    let clocks = function.sources.iter().filter_map(|source| Some((source, source.schedule.as_ref()?)));
    clocks.map(|(source, schedule)| (source.name.as_str(), schedule.upcoming(now_ms, TICKS))).collect()
}

fn json_of(function: &Function, now_ms: i64) -> serde_json::Value {
    json!({
        "file": function.file,
        "group": function.group,
        "manifest": manifest::render_json(function),
        "topics": manifest::topics(function),
        "ticks": ticks(function, now_ms),
    })
}

fn missing_plugin(function: &Function) -> Option<manifest::Diagnostic> {
    let handler = function.handler.as_ref().filter(|handler| !handler.plugin.is_file())?;
    let advice = match &handler.crate_dir {
        Some(folder) => format!("build the crate in {}", folder.display()),
        None => "build it, or correct the path".to_owned(),
    };
    Some(manifest::Diagnostic {
        file: function.file.display().to_string(),
        line: None,
        path: "spec.handler.plugin".to_owned(),
        message: format!("{} is not there: {advice}", handler.plugin.display()),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_check_prints_can_be_loaded_again() {
        let text = "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {name: mill}\nspec:\n  \
                    sources: [{topic: in}]\n  sinks: [{topic: out, create: {partitions: 3, replication: 1}}]\n";
        let functions = manifest::parse(Path::new("/f/function.yaml"), text).unwrap();
        let printed = described(&functions[0], 0);
        let end = "\
# group: tidemill.default.mill
# makes topic mill.dlq (dead letters) if it is missing: partitions=broker's default, \
message.timestamp.after.max.ms=9223372036854775807, max.message.bytes=64 KiB above that of in
# makes topic mill.redrive (redriven events) if it is missing: partitions=as many as in, \
message.timestamp.after.max.ms=9223372036854775807, max.message.bytes=64 KiB above that of in
# makes topic out (sink) if it is missing: partitions=3, replication=1
";
        assert!(printed.ends_with(end), "{printed}");
        assert_eq!(manifest::parse(Path::new("/f/function.yaml"), &printed).unwrap(), functions);
    }

    #[test]
    fn a_clock_is_printed_with_its_topic_and_its_next_ticks() {
        let text = "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {name: mill}\nspec:\n  \
                    sources: [{name: morning, schedule: {cron: 30 2 * * *, zone: Europe/Berlin}}]\n  \
                    sinks: [{topic: out}]\n";
        let functions = manifest::parse(Path::new("/f/function.yaml"), text).unwrap();
        // 2026-03-28T00:00:00Z
        let printed = described(&functions[0], 1_774_656_000_000);
        let end = "\
# makes topic mill.schedule.morning (ticks) if it is missing: partitions=1, \
message.timestamp.after.max.ms=9223372036854775807, retention.bytes=67108864, retention.ms=-1, segment.bytes=16777216
# morning ticks next: 2026-03-28T02:30:00+01:00[Europe/Berlin], 2026-03-29T03:00:00+02:00[Europe/Berlin], \
2026-03-30T02:30:00+02:00[Europe/Berlin]
";
        assert!(printed.ends_with(end), "{printed}");
        assert_eq!(manifest::parse(Path::new("/f/function.yaml"), &printed).unwrap(), functions);
    }

    #[test]
    fn a_window_is_printed_with_every_default_and_its_topic() {
        let text = "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {name: mill}\nspec:\n  \
                    window: {tumbling: {size: 90s}, aggregate: {total: {op: sum, field: /fare}}}\n  \
                    sources: [{topic: in}]\n  sinks: [{topic: out}]\n";
        let functions = manifest::parse(Path::new("/f/function.yaml"), text).unwrap();
        let printed = described(&functions[0], 0);
        let window = "
  window:
    tumbling:
      size: 90s
    fire:
      at: close
    aggregate:
      total:
        op: sum
        field: /fare
    grace: 0s
    idle: 10s
    maxDrift: 1m
    maxSkew: 1h
";
        let topic = "\
# makes topic mill.state (state) if it is missing: partitions=as many as in, cleanup.policy=compact, \
message.timestamp.after.max.ms=9223372036854775807, max.message.bytes=64 KiB above that of in
";
        assert!(printed.contains(window) && printed.ends_with(topic), "{printed}");
        assert_eq!(manifest::parse(Path::new("/f/function.yaml"), &printed).unwrap(), functions);
    }
}
