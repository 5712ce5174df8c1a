//! The 25 kinds of instructions and their settings.
//!
//! A rule is built once per prompt. Settings that are null, zero, false or empty count as missing, as they do in the
//! published program; it then draws a value at random, so a rule with such a setting has no verdict. Settings of a
//! wrong type are errors.

use fancy_regex::Regex;

use super::super::json::Json;
use super::super::python;
use super::pattern;

/// An instruction with its settings.
pub(super) enum Rule {
    /// A setting is missing, so chance decides.
    Drawn,
    Existence(Vec<Regex>),
    Frequency(Regex, Amount),
    ForbiddenWords(Vec<Regex>),
    LetterFrequency(char, Amount),
    ResponseLanguage(String),
    Sentences(Amount),
    Paragraphs(f64),
    Words(Amount),
    NthParagraph {
        paragraphs: f64,
        nth: f64,
        first_word: String,
    },
    Placeholders(f64),
    Postscript(Regex),
    BulletLists(f64),
    ConstrainedResponse,
    HighlightedSections(f64),
    MultipleSections(Regex, f64),
    JsonFormat,
    Title,
    TwoResponses,
    RepeatPrompt(String),
    EndChecker(String),
    Quotation,
    CapitalWords(Amount),
    EnglishCapital,
    EnglishLowercase,
    NoComma,
}

/// A number to compare a count with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Amount {
    AtLeast(f64),
    LessThan(f64),
}

impl Amount {
    pub(super) fn allows(self, count: usize) -> bool {
        match self {
            Amount::AtLeast(n) => count as f64 >= n,
            Amount::LessThan(n) => (count as f64) < n,
        }
    }
}

/// Why a rule cannot be built.
enum Stop {
    Drawn,
    Bad(String),
}

/// The languages an instruction may ask for.
const LANGUAGES: [&str; 30] = [
    "en", "es", "pt", "ar", "hi", "fr", "ru", "de", "ja", "it", "bn", "uk", "th", "ur", "ta", "te", "bg",
    "ko", "pl", "he", "fa", "vi", "ne", "sw", "kn", "mr", "gu", "pa", "ml", "fi",
];

/// The settings of one instruction.
struct Settings<'a>(&'a Json);

impl Settings<'_> {
    fn value(&self, name: &str) -> Result<&Json, Stop> {
        self.0.get(name).filter(|value| value.is_truthy()).ok_or(Stop::Drawn)
    }

    fn text(&self, name: &str) -> Result<&str, Stop> {
        self.value(name)?.as_text().ok_or_else(|| Stop::Bad(format!("`{name}` must be a text")))
    }

    fn texts(&self, name: &str) -> Result<Vec<&str>, Stop> {
        let Json::List(items) = self.value(name)? else {
            return Err(Stop::Bad(format!("`{name}` must be a list of texts")));
        };
        let texts: Option<Vec<&str>> = items.iter().map(Json::as_text).collect();
        texts.ok_or_else(|| Stop::Bad(format!("`{name}` must be a list of texts")))
    }

    /// A number; one below zero is replaced by a random one in the published program.
    fn number(&self, name: &str) -> Result<f64, Stop> {
        let number = self.value(name)?.as_number();
        let number = number.ok_or_else(|| Stop::Bad(format!("`{name}` must be a number")))?;
        if number < 0.0 { Err(Stop::Drawn) } else { Ok(number) }
    }

    fn amount(&self, number: &str, relation: &str) -> Result<Amount, Stop> {
        let at = self.number(number)?;
        match self.text(relation)? {
            "at least" => Ok(Amount::AtLeast(at)),
            "less than" => Ok(Amount::LessThan(at)),
            other => {
                Err(Stop::Bad(format!("`{relation}` is `{other}`, but must be `at least` or `less than`")))
            }
        }
    }
}

fn compile(pattern: &str, ignore_case: bool) -> Result<Regex, Stop> {
    pattern::compile(pattern, ignore_case).map_err(Stop::Bad)
}

fn compile_all(patterns: impl Iterator<Item = String>) -> Result<Vec<Regex>, Stop> {
    patterns.map(|pattern| compile(&pattern, true)).collect()
}

impl Rule {
    /// The rule called `id` with the given settings.
    pub(super) fn new(id: &str, settings: &Json) -> Result<Rule, String> {
        if !matches!(settings, Json::Object(_)) {
            return Err("its entry of `kwargs` must be an object".to_owned());
        }
        match build(id, &Settings(settings)) {
            Ok(rule) => Ok(rule),
            Err(Stop::Drawn) => Ok(Rule::Drawn),
            Err(Stop::Bad(reason)) => Err(reason),
        }
    }
}

fn build(id: &str, settings: &Settings<'_>) -> Result<Rule, Stop> {
    Ok(match id {
        "keywords:existence" => {
            Rule::Existence(compile_all(settings.texts("keywords")?.into_iter().map(str::to_owned))?)
        }
        "keywords:frequency" => {
            let amount = settings.amount("frequency", "relation")?;
            Rule::Frequency(compile(python::strip(settings.text("keyword")?), true)?, amount)
        }
        "keywords:forbidden_words" => {
            let words = settings.texts("forbidden_words")?;
            Rule::ForbiddenWords(compile_all(words.into_iter().map(|word| format!(r"\b{word}\b")))?)
        }
        "keywords:letter_frequency" => {
            let amount = settings.amount("let_frequency", "let_relation")?;
            let letter = python::strip(settings.text("letter")?).to_lowercase();
            match letter.as_bytes() {
                [letter @ b'a'..=b'z'] => Rule::LetterFrequency(char::from(*letter), amount),
                _ => Rule::Drawn,
            }
        }
        "language:response_language" => {
            let code = settings.text("language")?;
            if !LANGUAGES.contains(&code) {
                return Err(Stop::Bad(format!(
                    "`language` is `{code}`, but must be one of {}",
                    LANGUAGES.join(", ")
                )));
            }
            Rule::ResponseLanguage(code.to_owned())
        }
        "length_constraints:number_sentences" => {
            Rule::Sentences(settings.amount("num_sentences", "relation")?)
        }
        "length_constraints:number_paragraphs" => Rule::Paragraphs(settings.number("num_paragraphs")?),
        "length_constraints:number_words" => Rule::Words(settings.amount("num_words", "relation")?),
        "length_constraints:nth_paragraph_first_word" => {
            let (paragraphs, nth) = (settings.number("num_paragraphs")?, settings.number("nth_paragraph")?);
            let first_word = settings.text("first_word")?.to_lowercase();
            if nth > paragraphs {
                return Err(Stop::Drawn);
            }
            Rule::NthParagraph { paragraphs, nth, first_word }
        }
        "detectable_content:number_placeholders" => Rule::Placeholders(settings.number("num_placeholders")?),
        "detectable_content:postscript" => Rule::Postscript(postscript(settings.text("postscript_marker")?)?),
        "detectable_format:number_bullet_lists" => Rule::BulletLists(settings.number("num_bullets")?),
        "detectable_format:constrained_response" => Rule::ConstrainedResponse,
        "detectable_format:number_highlighted_sections" => {
            Rule::HighlightedSections(settings.number("num_highlights")?)
        }
        "detectable_format:multiple_sections" => {
            let splitter = python::strip(settings.text("section_spliter")?);
            let number = settings.number("num_sections")?;
            Rule::MultipleSections(compile(&format!(r"\s?{splitter}\s?\d+\s?"), false)?, number)
        }
        "detectable_format:json_format" => Rule::JsonFormat,
        "detectable_format:title" => Rule::Title,
        "combination:two_responses" => Rule::TwoResponses,
        "combination:repeat_prompt" => match settings.text("prompt_to_repeat") {
            Ok(prompt) => Rule::RepeatPrompt(python::strip(prompt).to_lowercase()),
            Err(Stop::Drawn) => return Err(Stop::Bad("`prompt_to_repeat` is missing".to_owned())),
            Err(stop) => return Err(stop),
        },
        "startend:end_checker" => {
            Rule::EndChecker(python::strip(settings.text("end_phrase")?).to_lowercase())
        }
        "startend:quotation" => Rule::Quotation,
        "change_case:capital_word_frequency" => {
            Rule::CapitalWords(settings.amount("capital_frequency", "capital_relation")?)
        }
        "change_case:english_capital" => Rule::EnglishCapital,
        "change_case:english_lowercase" => Rule::EnglishLowercase,
        "punctuation:no_comma" => Rule::NoComma,
        _ => return Err(Stop::Bad("this kind of instruction is unknown".to_owned())),
    })
}

/// The pattern of a postscript; two markers are known by heart, others are patterns themselves.
fn postscript(marker: &str) -> Result<Regex, Stop> {
    match python::strip(marker) {
        "P.P.S" => compile(r"p\.\s?p\.\s?s", false),
        "P.S." => compile(r"p\.\s?s\.", false),
        other => compile(&other.to_lowercase(), false),
    }
}
