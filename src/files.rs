//! Writing files whole or not at all, and telling whether two names are one file.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Puts `content` into a file, old or new: readers see the old content or all of the new, and a crash leaves one of
/// them. Makes the folder if there is none. Programs that write at the same time do not disturb each other.
///
/// Errors: a folder or a file that cannot be written.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:x}.part", fastrand::u64(..)));
    let part = path.with_file_name(name);
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&part, path)) {
        // What could not be put in place is of no use.
        _ = fs::remove_file(&part);
        return Err(Error::io("write", path)(error));
    }
    Ok(())
}

/// True if both names lead to one file or folder that is there: another path, a symbolic or a hard link.
pub fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(a), Ok(b)) => a == b || is_linked(&a, &b),
        _ => false,
    }
}

#[cfg(unix)]
fn is_linked(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &Path| path.metadata().ok().map(|data| (data.dev(), data.ino()));
    inode(one).is_some_and(|found| inode(other) == Some(found))
}

/// The standard library does not tell hard links here.
#[cfg(not(unix))]
fn is_linked(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::{replace, same_file};

    #[test]
    fn a_file_is_known_by_all_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a"), "x").unwrap();
        std::fs::write(path("b"), "x").unwrap();
        std::fs::create_dir(path("d")).unwrap();
        assert!(same_file(&path("a"), &path("d/../a")));
        assert!(!same_file(&path("a"), &path("b")) && !same_file(&path("a"), &path("new")));
        std::fs::hard_link(path("a"), path("hard")).unwrap();
        assert_eq!(same_file(&path("a"), &path("hard")), cfg!(unix));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(path("a"), path("soft")).unwrap();
            assert!(same_file(&path("soft"), &path("hard")));
        }
    }

    #[test]
    fn a_file_is_new_or_old_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/file");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        // A folder in the way: an error that names the file.
        let taken = dir.path().join("new");
        assert!(replace(&taken, b"x").unwrap_err().to_string().contains("new"));
        let left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().chain(std::fs::read_dir(&taken).unwrap()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
}
