//! Files that are read must not be written: one file can have several names.

use std::path::Path;

use diffa::{Error, Result};

/// True if both names lead to one file or folder that is there: another path, a symbolic or a hard link.
pub(super) fn same_file(one: &Path, other: &Path) -> bool {
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

/// Refuses to write a file that is read too.
pub(super) fn check_output<'a>(
    option: &str,
    output: &Path,
    inputs: impl IntoIterator<Item = &'a Path>,
) -> Result<()> {
    match inputs.into_iter().find(|input| same_file(input, output)) {
        None => Ok(()),
        Some(input) => {
            let [output, read] = [output, input].map(|path| path.display().to_string());
            let same =
                if read == output { String::new() } else { format!(" is the same file as {read}, which") };
            Err(Error::usage(
                option,
                format!("{output}{same} is read and would be overwritten; name another file"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let error = check_output("--html", &path("d/../a"), [path("b").as_path(), &path("a")]).unwrap_err();
        assert!(
            error.to_string().starts_with("--html: ") && error.to_string().contains("overwritten"),
            "{error}"
        );
    }
}
