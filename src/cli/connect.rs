//! Which cluster a verb talks to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Global;
use crate::kafka::Cluster;

/// Where `dev` writes the address of its embedded broker, below the folder that it was started in.
pub const DEV_BROKER_FILE: &str = ".tidemill/dev-broker";

/// The cluster that `--brokers` or `TIDEMILL_BROKERS` names.
pub fn cluster(global: &Global) -> anyhow::Result<Cluster> {
    named(global).context("no brokers: give --brokers HOST:PORT or set TIDEMILL_BROKERS")
}

/// The same, or else the embedded broker of a `dev` that runs in this folder or one above.
pub fn cluster_or_dev(global: &Global) -> anyhow::Result<Cluster> {
    if let Some(cluster) = named(global) {
        return Ok(cluster);
    }
    let file = dev_broker_file().context(
        "no brokers: give --brokers HOST:PORT, set TIDEMILL_BROKERS, or start `tidemill dev` in this folder",
    )?;
    let address = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Cluster::new(address.trim(), []))
}

fn named(global: &Global) -> Option<Cluster> {
    let brokers = global.brokers.clone().or_else(|| std::env::var("TIDEMILL_BROKERS").ok())?;
    (!brokers.is_empty()).then(|| Cluster::new(&brokers, []))
}

/// The file with the address of a running `dev`'s embedded broker, looked for from the current folder upwards.
pub fn dev_broker_file() -> Option<PathBuf> {
    find_upwards(&std::env::current_dir().ok()?)
}

fn find_upwards(from: &Path) -> Option<PathBuf> {
    from.ancestors().map(|folder| folder.join(DEV_BROKER_FILE)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dev_broker_is_found_from_a_folder_below() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("functions/echo");
        fs::create_dir_all(&below).unwrap();
        assert_eq!(find_upwards(&below), None);
        let file = folder.path().join(DEV_BROKER_FILE);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "127.0.0.1:9\n").unwrap();
        assert_eq!(find_upwards(&below), Some(file));
    }
}
