//! JSON the way the published evaluators read it.
//!
//! They are Python programs, whose parser takes `NaN` and `Infinity`, keeps the last of two equal keys and lets
//! half a surrogate pair pass, but no raw line break in a string and no trailing comma. One of the IFEval rules
//! asks exactly this parser whether an answer is JSON, so the same code serves the rule and the input files.
//! Half surrogates become U+FFFD, as Rust strings cannot hold them.

use std::fmt;

/// A JSON value. Numbers keep their text, since only a few of them are ever calculated with.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::eval) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Where and why a text is not JSON.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::eval) struct Malformed {
    /// Byte offset into the text.
    pub(in crate::eval) offset: usize,
    pub(in crate::eval) reason: &'static str,
}

/// Deeper nesting makes the Python parser give up too.
const MAX_DEPTH: usize = 900;
/// Python refuses to convert longer whole numbers.
const MAX_INTEGER_DIGITS: usize = 4300;

impl Json {
    /// Parses a whole text; only blanks, tabs and line breaks may surround the value.
    pub(in crate::eval) fn parse(text: &str) -> Result<Json, Malformed> {
        let mut parser = Parser { text, at: 0 };
        parser.skip_blanks();
        let value = parser.value(0)?;
        parser.skip_blanks();
        if parser.at < text.len() {
            return Err(parser.malformed("there is more text after the value"));
        }
        Ok(value)
    }

    /// The value under `key`; none if this is no object or lacks the key.
    pub(in crate::eval) fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(pairs) => pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text, if this is one.
    pub(in crate::eval) fn as_text(&self) -> Option<&str> {
        match self {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number; booleans count as 1 and 0.
    pub(in crate::eval) fn as_number(&self) -> Option<f64> {
        match self {
            Json::Bool(flag) => Some(f64::from(u8::from(*flag))),
            Json::Number(text) => match text.as_str() {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                digits => digits.parse().ok(),
            },
            _ => None,
        }
    }

    /// False for null, false, zero and anything empty.
    pub(in crate::eval) fn is_truthy(&self) -> bool {
        match self {
            Json::Null => false,
            Json::Bool(_) | Json::Number(_) => self.as_number() != Some(0.0),
            Json::Text(text) => !text.is_empty(),
            Json::List(items) => !items.is_empty(),
            Json::Object(pairs) => !pairs.is_empty(),
        }
    }

    /// Equality as Python sees it: numbers and booleans by value, everything else by content.
    pub(in crate::eval) fn same_as(&self, other: &Json) -> bool {
        match (self, other) {
            (Json::Bool(_) | Json::Number(_), Json::Bool(_) | Json::Number(_)) => {
                self.as_number() == other.as_number()
            }
            _ => self == other,
        }
    }

    /// What Python's `str` prints, for use as a label in a table.
    pub(in crate::eval) fn label(&self) -> String {
        match self {
            Json::Null => "None".to_owned(),
            Json::Bool(flag) => if *flag { "True" } else { "False" }.to_owned(),
            Json::Number(text) | Json::Text(text) => text.clone(),
            Json::List(items) => {
                format!("[{}]", items.iter().map(Json::label).collect::<Vec<_>>().join(", "))
            }
            Json::Object(pairs) => {
                let pairs: Vec<_> = pairs.iter().map(|(k, v)| format!("{k}: {}", v.label())).collect();
                format!("{{{}}}", pairs.join(", "))
            }
        }
    }
}

/// JSON text that reads back as the same value; what is not ASCII stays as it is.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(flag) => write!(f, "{flag}"),
            Json::Number(digits) => f.write_str(digits),
            Json::Text(text) => write_text(f, text),
            Json::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if at == 0 { "[" } else { ", " })?;
                }
                f.write_str(if items.is_empty() { "[]" } else { "]" })
            }
            Json::Object(pairs) => {
                for (at, (key, value)) in pairs.iter().enumerate() {
                    f.write_str(if at == 0 { "{" } else { ", " })?;
                    write_text(f, key)?;
                    write!(f, ": {value}")?;
                }
                f.write_str(if pairs.is_empty() { "{}" } else { "}" })
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str(&serde_json::Value::from(text).to_string())
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn malformed(&self, reason: &'static str) -> Malformed {
        Malformed { offset: self.at, reason }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Moves past `word` if it comes next.
    fn take(&mut self, word: &str) -> bool {
        let found = self.text[self.at..].starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Json, Malformed> {
        if depth > MAX_DEPTH {
            return Err(self.malformed("the value is nested too deeply"));
        }
        match self.peek() {
            Some(b'"') => self.string().map(Json::Text),
            Some(b'[') => self.list(depth),
            Some(b'{') => self.object(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.take("null") => Ok(Json::Null),
            _ if self.take("true") => Ok(Json::Bool(true)),
            _ if self.take("false") => Ok(Json::Bool(false)),
            _ if self.take("NaN") => Ok(Json::Number("NaN".to_owned())),
            _ if self.take("Infinity") => Ok(Json::Number("Infinity".to_owned())),
            _ => Err(self.malformed("a value is expected here")),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json, Malformed> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_blanks();
        if self.take("]") {
            return Ok(Json::List(items));
        }
        loop {
            self.skip_blanks();
            items.push(self.value(depth + 1)?);
            self.skip_blanks();
            if self.take("]") {
                return Ok(Json::List(items));
            }
            if !self.take(",") {
                return Err(self.malformed("a comma or `]` is expected here"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, Malformed> {
        self.at += 1;
        let mut pairs: Vec<(String, Json)> = Vec::new();
        self.skip_blanks();
        if self.take("}") {
            return Ok(Json::Object(pairs));
        }
        loop {
            self.skip_blanks();
            if self.peek() != Some(b'"') {
                return Err(self.malformed("a key in double quotes is expected here"));
            }
            let key = self.string()?;
            self.skip_blanks();
            if !self.take(":") {
                return Err(self.malformed("a colon is expected here"));
            }
            self.skip_blanks();
            let value = self.value(depth + 1)?;
            match pairs.iter_mut().find(|(name, _)| *name == key) {
                Some(pair) => pair.1 = value,
                None => pairs.push((key, value)),
            }
            self.skip_blanks();
            if self.take("}") {
                return Ok(Json::Object(pairs));
            }
            if !self.take(",") {
                return Err(self.malformed("a comma or `}` is expected here"));
            }
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Json, Malformed> {
        let start = self.at;
        if self.take("-Infinity") {
            return Ok(Json::Number("-Infinity".to_owned()));
        }
        self.take("-");
        let whole = if self.take("0") { 1 } else { self.digits() };
        if whole == 0 {
            return Err(self.malformed("a digit is expected here"));
        }
        let mut end = self.at;
        // A point or an exponent without digits is not part of the number; what follows then is refused.
        if self.take(".") && self.digits() > 0 {
            end = self.at;
        }
        self.at = end;
        if (self.take("e") || self.take("E")) && {
            let _sign = self.take("+") || self.take("-");
            self.digits() > 0
        } {
            end = self.at;
        }
        self.at = end;
        let text = &self.text[start..end];
        if whole > MAX_INTEGER_DIGITS && text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
            return Err(self.malformed("the whole number has too many digits"));
        }
        Ok(Json::Number(text.to_owned()))
    }

    fn string(&mut self) -> Result<String, Malformed> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let Some(c) = self.text[self.at..].chars().next() else {
                return Err(self.malformed("the string is not closed"));
            };
            match c {
                '"' => {
                    self.at += 1;
                    return Ok(out);
                }
                '\\' => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                c if c < ' ' => return Err(self.malformed("a string holds a raw control character")),
                c => {
                    self.at += c.len_utf8();
                    out.push(c);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Malformed> {
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.malformed("the escape after `\\` is unknown")),
        };
        self.at += 1;
        Ok(c)
    }

    /// Four hexadecimal digits, and the second half of a surrogate pair if it follows.
    fn unicode_escape(&mut self) -> Result<char, Malformed> {
        let first = self.four_digits()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let resume = self.at;
        if self.take("\\u") {
            let second = self.four_digits()?;
            if (0xdc00..0xe000).contains(&second) {
                let joined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
        self.at = resume;
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn four_digits(&mut self) -> Result<u32, Malformed> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        let mut value = 0;
        for digit in digits {
            match char::from(*digit).to_digit(16) {
                Some(digit) => value = value * 16 + digit,
                None => return Err(self.malformed("`\\u` needs four hexadecimal digits")),
            }
        }
        if digits.len() < 4 {
            return Err(self.malformed("`\\u` needs four hexadecimal digits"));
        }
        self.at += 4;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::Json;

    #[test]
    fn takes_and_refuses_what_python_does() {
        let good =
            ["42", " \"a\\ud83d\" ", "NaN", "[Infinity, -Infinity]", "{\"a\": 1, \"a\": 2}", "-0.5e+3"];
        let bad = [
            "",
            "01",
            "1.",
            "-",
            "nan",
            "{'a': 1}",
            "[1,]",
            "\"a\nb\"",
            "\u{feff}1",
            "1 2",
            "\"\\x\"",
            "-NaN",
        ];
        for text in good {
            assert!(Json::parse(text).is_ok(), "{text}");
        }
        for text in bad {
            assert!(Json::parse(text).is_err(), "{text}");
        }
        assert!(Json::parse(&"[".repeat(5000)).is_err());
    }

    #[test]
    fn keeps_the_last_of_equal_keys_and_joins_surrogates() {
        let value = Json::parse("{\"a\": 1, \"a\": \"\\ud83d\\ude00 \\ud83dx\"}").unwrap();
        assert_eq!(value.get("a"), Some(&Json::Text("😀 \u{fffd}x".to_owned())));
    }
}
