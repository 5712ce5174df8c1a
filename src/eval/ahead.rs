//! Audio decoded on a thread of its own, a few clips before the GPU asks for them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use crate::audio::{self, Waveform};
use crate::error::{Error, Result};
use crate::eval::dataset::{AudioSource, Clips};

/// Clips that may wait. Half a minute of samples is 2 MB; the queue only has to bridge uneven files.
const QUEUE: usize = 4;

/// Decodes these clips one after the other and hands them over in order. The thread ends once nobody listens.
pub(super) fn decode<'scope>(
    scope: &'scope Scope<'scope, '_>,
    sources: Vec<AudioSource>,
    rate: u32,
) -> Receiver<Result<Waveform>> {
    let (give, take) = sync_channel(QUEUE);
    scope.spawn(move || decode_all(sources, rate, &give));
    take
}

fn decode_all(sources: Vec<AudioSource>, rate: u32, give: &SyncSender<Result<Waveform>>) {
    let mut clips = Clips::default();
    for source in sources {
        let wave = match &source {
            AudioSource::File(path) => audio::read(path, rate),
            AudioSource::Embedded { table, row } => {
                clips.bytes(table, *row).and_then(|bytes| audio::read_bytes(&source.name(), bytes, rate))
            }
            AudioSource::Unknown { field } => {
                let reason = "is missing; it must name the audio file".to_owned();
                Err(Error::Audio { path: format!("`{field}`").into(), reason })
            }
        };
        if give.send(wave).is_err() {
            return;
        }
    }
}
