//! Which items of a benchmark a run answers, in which order: filter, then shuffle, then limit, then shard.
//!
//! Every step is a function of the data and the options alone, so that machines that know nothing of each other
//! agree on who does what.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::eval::Object;
use crate::eval::dataset::Item;

/// A choice among the items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// An item passes if, for every field named, it has one of the values given for it.
    pub filters: Vec<Filter>,
    /// Seed of a random order.
    pub shuffle: Option<u64>,
    /// At most this many.
    pub limit: Option<usize>,
    /// Only this part of them.
    pub shard: Option<Shard>,
}

/// `field=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// A field of the data, or `subset` or `split`.
    pub field: String,
    /// The text of the value.
    pub value: String,
}

/// Part `index` of `count` nearly equal, contiguous parts, from 0. Contiguous, so that questions about one clip
/// stay together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

/// An item that is due, and its place among all that the run's selection holds over all shards.
#[derive(Debug, Clone)]
pub struct Due {
    /// Place in the selection before it was cut into shards, from 0.
    pub place: usize,
    /// The item.
    pub item: Item,
}

/// What a selection picked.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The items of this shard, in the order in which they are to be answered.
    pub due: Vec<Due>,
    /// Items of all shards together.
    pub total: usize,
}

impl Selection {
    /// Picks from the data.
    ///
    /// # Errors
    /// [`Error::Usage`] if a filter names a field that no item has, or if nothing is left.
    pub fn apply(&self, items: Vec<Item>) -> Result<Selected> {
        for filter in &self.filters {
            if !items.iter().any(|item| field(item, &filter.field).is_some()) {
                let known: BTreeSet<&str> =
                    items.iter().flat_map(|item| item.fields.keys()).map(String::as_str).collect();
                let known: Vec<&str> = known.into_iter().collect();
                let reason =
                    format!("no item has a field `{}`; there are {}", filter.field, known.join(", "));
                return Err(Error::usage("--filter", reason));
            }
        }
        let mut items: Vec<Item> = items.into_iter().filter(|item| self.passes(item)).collect();
        if items.is_empty() {
            return Err(Error::usage("--filter", "no item passes; see the values in the data"));
        }
        if let Some(seed) = self.shuffle {
            shuffle(&mut items, seed);
        }
        items.truncate(self.limit.unwrap_or(usize::MAX));
        let total = items.len();
        let part = self.shard.map_or(0..total, |shard| shard.part(total));
        let due = items.into_iter().enumerate().map(|(place, item)| Due { place, item });
        Ok(Selected { due: due.filter(|due| part.contains(&due.place)).collect(), total })
    }

    fn passes(&self, item: &Item) -> bool {
        self.filters.iter().all(|filter| {
            let given = field(item, &filter.field);
            self.filters
                .iter()
                .any(|other| other.field == filter.field && given.as_ref() == Some(&other.value))
        })
    }

    /// The selection for the record of a run, with the number of items it picks; the shard stands beside it.
    pub(super) fn record(&self, total: usize) -> Object {
        let filters: Vec<String> = self.filters.iter().map(Filter::to_string).collect();
        let record = [
            ("filter", json!(filters)),
            ("shuffle", json!(self.shuffle)),
            ("limit", json!(self.limit)),
            ("items", json!(total)),
        ];
        record.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// A field as text: `subset` and `split` of the file unless the data have such fields; null is the empty text.
fn field(item: &Item, name: &str) -> Option<String> {
    match (item.fields.get(name), name) {
        (Some(Value::String(text)), _) => Some(text.clone()),
        (Some(Value::Null), _) => Some(String::new()),
        (Some(other), _) => Some(other.to_string()),
        (None, "subset") => item.subset.clone(),
        (None, "split") => item.split.clone(),
        (None, _) => None,
    }
}

/// Fisher and Yates' shuffle on SplitMix64, so that a seed gives the same order on every platform.
fn shuffle(items: &mut [Item], seed: u64) {
    let mut state = seed;
    for last in (1..items.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The high half of the product is uniform enough: no benchmark has 2^32 items.
        let pick = (u128::from(z) * (last as u128 + 1)) >> 64;
        items.swap(last, pick as usize);
    }
}

impl Shard {
    /// The places of this part among `total`.
    fn part(self, total: usize) -> std::ops::Range<usize> {
        let bound = |index: usize| total * index / self.count;
        bound(self.index)..bound(self.index + 1)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Shard> {
        let numbers =
            text.split_once('/').and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        match numbers {
            Some((index, count)) if index < count => Ok(Shard { index, count }),
            Some((index, count)) if count > 0 => Err(Error::usage(
                "--shard",
                format!("{index}/{count}: shards count from 0, so the last one is {}/{count}", count - 1),
            )),
            _ => Err(Error::usage("--shard", format!("`{text}` is not I/N, for example 0/4"))),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Filter> {
        match text.split_once('=') {
            Some((field, value)) if !field.is_empty() => {
                Ok(Filter { field: field.into(), value: value.into() })
            }
            _ => Err(Error::usage(
                "--filter",
                format!("`{text}` is not FIELD=VALUE, for example category=Perception"),
            )),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.field, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_everything_once() {
        for (total, count) in [(61, 4), (3, 5), (0, 2), (8, 1)] {
            let parts: Vec<usize> = (0..count).flat_map(|index| Shard { index, count }.part(total)).collect();
            assert_eq!(parts, (0..total).collect::<Vec<_>>());
        }
        assert_eq!("1/4".parse::<Shard>().unwrap(), Shard { index: 1, count: 4 });
        for bad in ["4/4", "1", "/", "-1/4", "0/0", "a/b"] {
            assert!(bad.parse::<Shard>().unwrap_err().to_string().contains("--shard"), "{bad}");
        }
    }
}
