//! Which cluster a verb talks to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Global, run};
use crate::kafka::Cluster;

/// Where `dev` writes the address of its embedded broker, below the folder that it was started in.
pub const DEV_BROKER_FILE: &str = ".tidemill/dev-broker";

/// The cluster that flags, variables or `tidemill.yaml` name, with their security settings.
pub fn cluster(global: &Global) -> anyhow::Result<Cluster> {
    run::cluster(&global.platform()?)
}

/// The same, or when none is named the embedded broker of a `dev` that runs in this folder or one above.
pub fn cluster_or_dev(global: &Global) -> anyhow::Result<Cluster> {
    let platform = global.platform()?;
    match dev_broker_file().filter(|_| platform.brokers().is_err()) {
        // Security settings are those of another cluster.
        Some(file) => {
            let address =
                fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            Ok(Cluster::new(address.trim(), []))
        }
        None => run::cluster(&platform),
    }
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
