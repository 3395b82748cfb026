//! `tidemill new`: a function of one's own, that builds and whose tests pass.

mod names;
mod shape;
mod skeleton;
mod survey;
mod topic;
mod types;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::{Global, Output, connect};
use survey::Found;

pub use skeleton::{Body, Sdk, Skeleton};

/// Make a function: a crate that builds, its manifest, cases and sample events
///
/// With --from-topic it is made for what that topic holds: format, CloudEvents type, Rust types of JSON bodies, and
/// sample.jsonl are taken from its last records. Nothing is written to Kafka.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tidemill new order-notes\n  cd order-notes && cargo test\n  \
    tidemill new order-notes --from-topic orders --brokers HOST:PORT\n\n\
    Exit codes: 0 made, 1 the folder is not empty or cannot be written, or the topic tells nothing.")]
pub struct New {
    /// Its name: a letter, then up to 62 of a-z, 0-9 and -
    name: String,
    /// The folder to make it in; default: NAME here
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// Where tidemill-sdk comes from: its folder, a git URL or a version; default: the sources that this
    /// tidemill was built from, if they are still there
    #[arg(long, value_name = "DIR|URL|VERSION")]
    sdk: Option<String>,
    /// Make it for the records of this topic
    #[arg(long, value_name = "TOPIC")]
    from_topic: Option<String>,
    /// How many of the topic's last records to look at
    #[arg(long, value_name = "N", default_value_t = 200, requires = "from_topic",
        value_parser = clap::value_parser!(i64).range(1..=10_000))]
    samples: i64,
}

/// The SDK beside the sources that this binary was built from.
const OWN_SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/functions/sdk");

impl New {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        check_name(&self.name)?;
        let folder = self.path.clone().unwrap_or_else(|| PathBuf::from(&self.name));
        check_empty(&folder)?;
        let (skeleton, found) = self.skeleton(global)?;
        skeleton.write(&folder).with_context(|| format!("cannot write into {}", folder.display()))?;
        match global.output {
            Output::Text => print!("{}", described(&skeleton, found.as_ref(), &folder)),
            Output::Json => {
                let files: Vec<_> = skeleton.files().into_iter().map(|(file, _)| file).collect();
                let mut report = json!({ "name": skeleton.name, "folder": folder, "files": files });
                if let Some(found) = found {
                    report["found"] = json!(found);
                }
                println!("{report}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What to write, and what the topic holds if there is one.
    fn skeleton(&self, global: &Global) -> anyhow::Result<(Skeleton, Option<Found>)> {
        let sdk = sdk(self.sdk.as_deref())?;
        let Some(topic) = &self.from_topic else { return Ok((Skeleton::example(&self.name, sdk), None)) };
        if ["-out", ".dlq"].iter().any(|end| *topic == format!("{}{end}", self.name)) {
            bail!("`{}` would read {topic}, which it writes itself: choose another name", self.name);
        }
        let cluster = connect::cluster_or_dev(global)?;
        let survey = topic::survey(&cluster, topic, self.samples)?;
        let (skeleton, found) = survey.skeleton(&self.name, topic, sdk)?;
        Ok((skeleton, Some(found)))
    }
}

/// What was learned from the topic.
fn learned(topic: &str, found: &Found) -> String {
    let Found { records, taken, filtered, others, .. } = found;
    let mut text = format!("{topic} holds {}", found.format);
    match &found.event_type {
        Some(event_type) => {
            text += &format!(" with {} in it; the most common type is {event_type}.\n", found.body)
        }
        None => text += ".\n",
    }
    text += &format!("Of the {records} records that were looked at the function takes {taken}");
    if *filtered > 0 {
        text += &format!(", its filter refuses {filtered}");
    }
    if *others > 0 {
        text += &format!(", {others} are something else");
    }
    text += ".\n";
    if found.sample > 0 {
        text += &format!(
            "sample.jsonl, cases.yaml and src/lib.rs hold data of {} of them: look before you share them.\n",
            found.sample
        );
    }
    text
}

fn described(skeleton: &Skeleton, found: Option<&Found>, folder: &Path) -> String {
    let sdk = match &skeleton.sdk {
        Sdk::Path(path) => format!("the tidemill-sdk in {}", path.display()),
        Sdk::Git(url) => format!("the tidemill-sdk of {url}"),
        Sdk::Version(version) => format!("tidemill-sdk {version}"),
    };
    let folder = folder.display();
    let learned = found.map_or_else(String::new, |found| learned(&skeleton.topic, found) + "\n");
    format!(
        "{learned}made {folder}:\n  \
         src/lib.rs      the handler and its tests\n  \
         function.yaml   what it reads and writes\n  \
         cases.yaml      events in, what must come out\n  \
         sample.jsonl    events to try it with\n\
         It depends on {sdk} (--sdk takes another folder, a git URL or a version).\n\n\
         Next:\n  \
         cd {folder}\n  \
         cargo test         # its tests\n  \
         tidemill test .    # its cases, without a broker\n  \
         tidemill dev .     # try it, with an embedded broker\n"
    )
}

/// Names that Cargo refuses for a library, besides the keywords.
const TAKEN: &[&str] = &["alloc", "core", "proc-macro", "std", "test"];

/// A name must do for a function, a crate and a library.
fn check_name(name: &str) -> anyhow::Result<()> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !starts || name.len() > 63 || name.ends_with('-') || !name.chars().all(is_word) {
        bail!(
            "`{name}` cannot be a function's name: begin with a letter of a-z, go on with a-z, 0-9 and -, \
             63 in all, and end with a letter or digit"
        );
    }
    if TAKEN.contains(&name) || names::KEYWORDS.contains(&name) {
        bail!("`{name}` cannot be a crate's name, since Rust has a meaning for it: choose another");
    }
    Ok(())
}

fn check_empty(folder: &Path) -> anyhow::Result<()> {
    match fs::read_dir(folder) {
        Ok(entries) => match entries.count() {
            0 => Ok(()),
            _ => bail!("{} is not empty: choose another with --path", folder.display()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot look into {}", folder.display())),
    }
}

/// What `--sdk` means; without it the sources that this binary was built from, else this version.
fn sdk(given: Option<&str>) -> anyhow::Result<Sdk> {
    let Some(given) = given else {
        let own = Path::new(OWN_SDK);
        return Ok(if own.join("Cargo.toml").is_file() {
            Sdk::Path(own.to_owned())
        } else {
            Sdk::Version(env!("CARGO_PKG_VERSION").to_owned())
        });
    };
    if given.contains("://") || given.starts_with("git@") {
        return Ok(Sdk::Git(given.to_owned()));
    }
    if Path::new(given).join("Cargo.toml").is_file() {
        let folder = fs::canonicalize(given).with_context(|| format!("cannot find {given}"))?;
        return Ok(Sdk::Path(folder));
    }
    if given.starts_with(|c: char| c.is_ascii_digit() || "^~=".contains(c)) {
        return Ok(Sdk::Version(given.to_owned()));
    }
    bail!("--sdk {given}: neither a folder with a Cargo.toml, nor a git URL, nor a version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_must_do_for_function_crate_and_library() {
        for good in ["a", "order-notes", "f2", &"a".repeat(63)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "2f", "-a", "a-", "A", "a_b", "a.b", "match", "test", "ä", &"a".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sdk_is_told_by_its_looks() {
        assert_eq!(sdk(None).unwrap(), Sdk::Path(PathBuf::from(OWN_SDK)));
        assert_eq!(sdk(Some(OWN_SDK)).unwrap(), Sdk::Path(fs::canonicalize(OWN_SDK).unwrap()));
        assert_eq!(sdk(Some("https://x/y.git")).unwrap(), Sdk::Git("https://x/y.git".to_owned()));
        assert_eq!(sdk(Some("0.1")).unwrap(), Sdk::Version("0.1".to_owned()));
        assert!(sdk(Some("nowhere")).is_err());
    }
}
