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

    /// A player for the clip that a row names; nothing if it names none, a word if the file is not there.
    pub(super) fn player(&self, clip: Option<&str>) -> Markup {
        let Some(clip) = clip.filter(|clip| !clip.is_empty()) else { return html! {} };
        let path = self.root.join(clip);
        if !path.is_file() {
            return html! { p.note { "no clip: " (clip) } };
        }
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
            Clips::new(&sounds, &page, embed).unwrap().player(Some(clip)).into_string()
        };
        assert!(player(false, "a#1 \"x\".wav").contains("src=\"../my%20sounds/a%231%20%22x%22.wav\""));
        assert!(player(true, "a#1 \"x\".wav").contains("src=\"data:audio/wav;base64,UklGRg==\""));
        assert!(player(false, "<none>.wav").contains("no clip: &lt;none&gt;.wav"));
    }
}
