//! What the English Punkt model knows about single words.
//!
//! The tables come from the pretrained model of Jan Strunk and Tibor Kiss, as redistributed by the NLTK Project under
//! the Apache License 2.0; `punkt_en.txt` says how they were reduced. They were learned from the Wall Street Journal,
//! hence the odd collocations.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Words that are written with a stop, without that stop.
const ABBREVIATIONS: &str = "a.a a.c a.d a.g a.h a.m a.m.e a.s a.t adm ala ariz aug ave b.f b.v bros c c.i.t c.o.m.b \
    c.v calif chg cie co col colo conn corp cos ct d d.c d.h d.w dec dr e e.f e.h e.l e.m f f.g f.j feb fla fri ft g \
    g.d g.f g.k ga gen h h.c h.f h.m i.m.s ill inc j.b j.c j.j j.k j.p j.r jan jr k kan ky l l.a l.f l.p lt ltd m \
    m.b.a m.d.c m.j maj messrs mg mich minn mr mrs ms n n.c n.d n.h n.j n.m n.v n.y nev nov oct ok okla ore p p.a.m \
    p.m pa ph.d prof r r.a r.h r.i r.j r.k r.t rep reps s s.a s.a.y s.c s.g s.p.a s.s sen sep sept sr st sw t t.j \
    tenn tues u.k u.n u.s u.s.a u.s.s.r v va vs vt w w.c w.r w.va w.w wash wed wis yr";

/// Stops with blanks between them, which the model lists as an abbreviation too.
const SPACED_STOPS: &str = ". . ";

/// Words that often begin a sentence.
const STARTERS: &str = "according although among both but despite even he however i if in indeed instead it many \
    meanwhile moreover most nevertheless nonetheless nor sales separately similarly since so some the there these they \
    this though thus under when while yet";

/// Second words of pairs that are never parted, after a number.
const AFTER_NUMBER: &str = "abreast aes business cbot colgate commodities cooper corrections credit dividend financing \
    genentech henley insider international leisure letters notable pay-fone pegasus pepper review rj wedgestone who \
    zimmer";

/// Other pairs that are never parted.
const PAIRS: [(&str, &str); 11] = [
    ("b", "edelman"),
    ("b", "levine"),
    ("b", "smith"),
    ("b", "stewart"),
    ("b", "wigton"),
    ("i", "magnin"),
    ("i", "toussie"),
    ("j", "aron"),
    ("j", "fialka"),
    ("j", "walter"),
    ("o", "ludcke"),
];

/// The only words that were seen with a small letter at the start of a sentence and never with a capital.
const BEGAN_SMALL: [&str; 4] = ["administrators", "b-week", "r-revised", "z-holiday"];

/// How a word was written in the training text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// Unknown, or only with a capital.
    NeverSmall,
    /// Also small, and inside sentences never with a capital.
    SmallInside,
    /// Also small, but inside sentences with a capital too.
    Mixed,
}

static WRITING: LazyLock<HashMap<&'static str, Writing>> = LazyLock::new(|| {
    let mut table = HashMap::new();
    let mut writing = Writing::SmallInside;
    for line in include_str!("punkt_en.txt").lines().filter(|line| !line.starts_with('#')) {
        match line {
            "[small]" => writing = Writing::SmallInside,
            "[small, capital inside sentences]" => writing = Writing::Mixed,
            words => table.extend(words.split(' ').map(|word| (word, writing))),
        }
    }
    table
});

fn lists(words: &str, word: &str) -> bool {
    words.split_ascii_whitespace().any(|listed| listed == word)
}

/// True for a known abbreviation, given small and without its last stop.
pub(super) fn is_abbreviation(stem: &str) -> bool {
    stem == SPACED_STOPS || lists(ABBREVIATIONS, stem)
}

/// True for a word that often begins a sentence.
pub(super) fn is_starter(word: &str) -> bool {
    lists(STARTERS, word)
}

/// True for two words that stay together although a stop stands between them.
pub(super) fn is_collocation(first: &str, second: &str) -> bool {
    (first == "##number##" && lists(AFTER_NUMBER, second)) || PAIRS.contains(&(first, second))
}

/// How a word, given small, was written.
pub(super) fn writing(word: &str) -> Writing {
    WRITING.get(word).copied().unwrap_or(Writing::NeverSmall)
}

/// True for a word that began sentences with a small letter and was never seen with a capital.
pub(super) fn began_small(word: &str) -> bool {
    BEGAN_SMALL.contains(&word)
}
