//! The clip of an item: a player with a link to the file, or with the sound itself.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::error::{Error, Result};

/// What a path may not hold in a link.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'\\')
    .add(b':');

/// How a row calls its clip.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Name {
    /// As the data call it, relative to the folder of the clips.
    pub(super) given: Option<String>,
    /// As `diffa eval` found it, relative to where that was run.
    pub(super) noted: Option<String>,
}

/// What became of a clip.
enum Located<'a> {
    File(&'a str, PathBuf),
    /// A cell of a Parquet file, of which there is no file to play.
    Embedded(&'a str),
    Missing(&'a str),
}

/// Clips that a page cannot play because their files are not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingClips {
    /// Items whose clip is not found.
    pub missing: usize,
    /// Items that name the file of a clip.
    pub total: usize,
    /// The first clip that is not found.
    pub example: String,
}

/// Where clips are and how the page refers to them.
#[derive(Debug, Clone)]
pub struct Clips {
    root: PathBuf,
    page_folder: PathBuf,
    embed: bool,
}

impl Clips {
    /// Clips below `root`, for a page that is going to be `page`. With `embed` the sounds become part of the page,
    /// which then can be moved anywhere but is a third larger than all its clips together.
    ///
    /// # Errors
    /// The working folder is unknown.
    pub fn new(root: &Path, page: &Path, embed: bool) -> Result<Clips> {
        let whole = |path: &Path| std::path::absolute(path).map_err(Error::io("resolve", path));
        let page_folder = page.parent().filter(|folder| !folder.as_os_str().is_empty());
        let or_here =
            |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
        Ok(Clips {
            root: whole(&or_here(root))?,
            page_folder: whole(page_folder.unwrap_or(Path::new(".")))?,
            embed,
        })
    }

    /// Where the clip is. The folder of the clips goes first, since they may have been moved after the run.
    fn locate<'a>(&self, name: &'a Name) -> Option<Located<'a>> {
        let [given, noted] =
            [&name.given, &name.noted].map(|name| name.as_deref().filter(|name| !name.is_empty()));
        let first = given.or(noted)?;
        let below = [given, noted].into_iter().flatten().map(|name| (name, self.root.join(name)));
        let mut all = below.chain(noted.map(|name| (name, PathBuf::from(name))));
        Some(match all.find(|(_, path)| path.is_file()) {
            Some((name, path)) => Located::File(name, std::path::absolute(&path).unwrap_or(path)),
            None if given.is_none() && is_cell(first) => Located::Embedded(first),
            None => Located::Missing(first),
        })
    }

    /// Counts the clips that are not found; none if all are.
    pub(super) fn missing(&self, names: impl Iterator<Item = Name>) -> Option<MissingClips> {
        let (mut total, mut missing, mut example) = (0, 0, None);
        for name in names {
            match self.locate(&name) {
                None | Some(Located::Embedded(_)) => continue,
                Some(Located::File(..)) => {}
                Some(Located::Missing(name)) => {
                    missing += 1;
                    example.get_or_insert_with(|| name.to_owned());
                }
            }
            total += 1;
        }
        example.map(|example| MissingClips { missing, total, example })
    }

    /// A player for the clip that a row names; nothing if it names none, a word if the file is not there.
    pub(super) fn player(&self, name: &Name) -> Markup {
        let (clip, path) = match self.locate(name) {
            None => return html! {},
            Some(Located::Embedded(clip) | Located::Missing(clip)) => {
                return html! { p.note { "no clip: " (clip) } };
            }
            Some(Located::File(clip, path)) => (clip, path),
        };
        if self.embed {
            return match fs::read(&path) {
                Ok(bytes) => {
                    let address = format!("data:{};base64,{}", kind(&path), STANDARD.encode(bytes));
                    html! { audio controls preload="none" src=(address) title=(clip) {} }
                }
                Err(error) => html! { p.note { "no clip: " (clip) ": " (error) } },
            };
        }
        html! { audio controls preload="none" src=(self.address(&path)) title=(clip) {} }
    }

    /// The link from the page to a file.
    fn address(&self, path: &Path) -> String {
        // On Windows a file on another drive has no relative path.
        let (path, prefix) = match pathdiff::diff_paths(path, &self.page_folder) {
            Some(relative) if relative.is_relative() => (relative, ""),
            _ => (path.to_path_buf(), "file:///"),
        };
        let parts = path
            .components()
            .map(|part| utf8_percent_encode(&part.as_os_str().to_string_lossy(), ESCAPED).to_string());
        format!("{prefix}{}", parts.collect::<Vec<_>>().join("/"))
    }
}

/// True for what `diffa eval` notes of a clip inside a Parquet file: the file and the row.
fn is_cell(noted: &str) -> bool {
    noted.rsplit_once('#').is_some_and(|(table, row)| {
        table.to_ascii_lowercase().ends_with(".parquet") && row.parse::<usize>().is_ok()
    })
}

/// Media type by the file's name.
fn kind(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    match extension.as_deref() {
        Some("wav") => "audio/wav",
        Some("flac") => "audio/flac",
        Some("mp3") => "audio/mpeg",
        Some("ogg" | "oga" | "opus") => "audio/ogg",
        Some("m4a" | "mp4") => "audio/mp4",
        Some("aac") => "audio/aac",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_and_escaped() {
        let folder = tempfile::tempdir().unwrap();
        let sounds = folder.path().join("my sounds");
        fs::create_dir(&sounds).unwrap();
        fs::write(sounds.join("a#1 \"x\".wav"), b"RIFF").unwrap();
        let page = folder.path().join("pages/report.html");
        let player = |embed: bool, clip: &str| {
            let name = Name { given: Some(clip.to_owned()), noted: None };
            Clips::new(&sounds, &page, embed).unwrap().player(&name).into_string()
        };
        assert!(player(false, "a#1 \"x\".wav").contains("src=\"../my%20sounds/a%231%20%22x%22.wav\""));
        assert!(player(true, "a#1 \"x\".wav").contains("src=\"data:audio/wav;base64,UklGRg==\""));
        assert!(player(false, "<none>.wav").contains("no clip: &lt;none&gt;.wav"));
    }

    #[test]
    fn clips_are_found_where_the_run_found_them() {
        let folder = tempfile::tempdir().unwrap();
        let noted = folder.path().join("a.wav");
        fs::write(&noted, b"RIFF").unwrap();
        let noted = noted.to_str().unwrap();
        let clips =
            Clips::new(&folder.path().join("elsewhere"), &folder.path().join("p.html"), false).unwrap();
        let name = |given: &str, noted: &str| {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            Name { given: some(given), noted: some(noted) }
        };
        assert!(clips.player(&name("x/a.wav", noted)).into_string().contains("src=\"a.wav\""));
        let names = [name("x/a.wav", noted), name("x/a.wav", ""), name("", ""), name("", "usa.parquet#3")];
        let missing = clips.missing(names.into_iter()).unwrap();
        assert_eq!(missing, MissingClips { missing: 1, total: 2, example: "x/a.wav".to_owned() });
        assert_eq!(clips.missing([name("", noted)].into_iter()), None);
    }
}
