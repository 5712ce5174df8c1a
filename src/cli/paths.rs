//! Files that are read must not be written: one file can have several names.

use std::path::Path;

use diffa::files::same_file;
use diffa::{Error, Result};

/// Refuses to write a file that is read too, and `-`, by which other programs mean standard output.
pub(super) fn check_output<'a>(
    option: &str,
    output: &Path,
    inputs: impl IntoIterator<Item = &'a Path>,
) -> Result<()> {
    if output == Path::new("-") {
        return Err(Error::usage(option, "this result goes to a file, not to standard output; name one"));
    }
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
    fn an_output_that_is_an_input_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a"), "x").unwrap();
        std::fs::create_dir(path("d")).unwrap();
        let error = check_output("--html", &path("d/../a"), [path("b").as_path(), &path("a")]).unwrap_err();
        assert!(
            error.to_string().starts_with("--html: ") && error.to_string().contains("overwritten"),
            "{error}"
        );
        check_output("--html", &path("new"), [path("a").as_path()]).unwrap();
        let error = check_output("--html", Path::new("-"), []).unwrap_err();
        assert!(error.to_string().contains("name one"), "{error}");
    }
}
