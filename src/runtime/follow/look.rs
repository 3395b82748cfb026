//! What manifests and plugins hold at one moment, by content: a time or a name tells little where mounts swap links
//! (Kubernetes' `..data`) and builds replace files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::manifest;

/// Every file with the SHA-256 of its content, lower-case hex; `None`: it cannot be read.
pub(super) type Look = BTreeMap<PathBuf, Option<String>>;

/// Takes looks, and reads a file again only when it may have changed.
#[derive(Debug, Default)]
pub(super) struct Eye {
    seen: BTreeMap<PathBuf, (Stamp, String)>,
}

/// Differs when a file was written or replaced, links followed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            place: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Eye {
    /// The manifests at `paths`, and these plugins.
    pub fn look(&mut self, paths: &[PathBuf], plugins: &BTreeSet<PathBuf>) -> Look {
        let files: BTreeSet<PathBuf> =
            manifest::manifest_files(paths).into_iter().chain(plugins.iter().cloned()).collect();
        self.seen.retain(|file, _| files.contains(file));
        files.into_iter().map(|file| (file.clone(), self.digest(&file).ok())).collect()
    }

    /// What a file holds.
    pub fn digest(&mut self, file: &Path) -> io::Result<String> {
        let stamp = Stamp::of(&fs::metadata(file)?);
        if let Some((before, digest)) = self.seen.get(file)
            && *before == stamp
        {
            return Ok(digest.clone());
        }
        let mut hash = Sha256::new();
        io::copy(&mut fs::File::open(file)?, &mut hash)?;
        let digest = format!("{:x}", hash.finalize());
        self.seen.insert(file.to_owned(), (stamp, digest.clone()));
        Ok(digest)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_look_differs_by_what_files_hold() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().to_owned()];
        let file = folder.path().join("function.yaml");
        let plugin = folder.path().join("libecho.so");
        let plugins = BTreeSet::from([plugin.clone()]);
        let mut eye = Eye::default();
        let empty = eye.look(&paths, &plugins);
        assert_eq!(empty, Look::from([(plugin.clone(), None)]));
        fs::write(&file, "a: 1").unwrap();
        let first = eye.look(&paths, &plugins);
        assert_ne!(first, empty);
        fs::write(folder.path().join("notes.txt"), "something else").unwrap();
        fs::write(folder.path().join(".function.yaml.swp"), "half").unwrap();
        fs::write(&file, "a: 1").unwrap();
        assert_eq!(eye.look(&paths, &plugins), first, "written anew with the same content");
        fs::write(&plugin, "code").unwrap();
        let second = eye.look(&paths, &plugins);
        assert_ne!(second, first);
        fs::remove_file(&plugin).unwrap();
        assert_eq!(eye.look(&paths, &plugins), first);
    }

    #[test]
    fn a_mount_that_swaps_its_link_is_seen() {
        let mount = tempfile::tempdir().unwrap();
        let at = |name: &str| mount.path().join(name);
        for (version, text) in [("..2026_1", "a: 1"), ("..2026_2", "a: 2")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("function.yaml"), text).unwrap();
        }
        symlink("..2026_1", at("..data")).unwrap();
        symlink("..data/function.yaml", at("function.yaml")).unwrap();
        let paths = [mount.path().to_owned()];
        let mut eye = Eye::default();
        let first = eye.look(&paths, &BTreeSet::new());
        assert_eq!(first.len(), 1);
        symlink("..2026_2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_ne!(eye.look(&paths, &BTreeSet::new()), first);
    }
}
