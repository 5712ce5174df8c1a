//! One request to a chat completions endpoint, and what its failure means.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::{Response, StatusCode};

use super::Settings;
use super::prompt::SYSTEM;

/// More than any three short replies need.
const MAX_REPLY_BYTES: u64 = 4 << 20;
/// How much of a reply an error message quotes.
const QUOTED_CHARS: usize = 200;

/// Why a request brought nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Trouble {
    /// Worth another try; the endpoint may say when.
    Passing { reason: String, wait: Option<Duration> },
    /// This request will never be answered.
    Lasting(String),
    /// No request will be answered: the key, the address or the model is wrong.
    Refused(String),
}

impl Trouble {
    fn passing(reason: impl Into<String>) -> Trouble {
        Trouble::Passing { reason: reason.into(), wait: None }
    }
}

/// The endpoint.
pub(super) struct Client {
    agent: Agent,
    address: String,
    model: String,
    key: Option<String>,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Client {
        let agent = Agent::config_builder()
            .timeout_global(Some(settings.patience.timeout))
            .http_status_as_error(false)
            .user_agent(concat!("diffa/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let base = settings.url.trim_end_matches('/');
        let address = match base.ends_with("/chat/completions") {
            true => base.to_owned(),
            false => format!("{base}/chat/completions"),
        };
        let (model, key) = (settings.model.clone(), settings.key.clone());
        Client { agent, address, model, key }
    }

    /// Samples `n` replies to `prompt` with the published parameters; at least one reply, trimmed, empty ones left
    /// out. Endpoints that do not know `n` give one.
    pub(super) fn ask(&self, prompt: &str, n: usize) -> Result<Vec<String>, Trouble> {
        let body = json!({
            "model": self.model,
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}],
            "temperature": 0.5,
            "top_p": 0.95,
            "n": n,
            "max_tokens": 1024,
            "frequency_penalty": 0,
            "presence_penalty": 0,
        });
        let mut request = self.agent.post(&self.address);
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = request.send_json(&body).map_err(|error| self.unsent(&error))?;
        let wait = asked_wait(&response);
        let status = response.status();
        let text = response.body_mut().with_config().limit(MAX_REPLY_BYTES).read_to_string();
        if !status.is_success() {
            return Err(self.refused(status, wait, &text.unwrap_or_default()));
        }
        let text = text.map_err(|error| Trouble::passing(format!("the reply broke off: {error}")))?;
        let reply: Value = serde_json::from_str(&text)
            .map_err(|_| Trouble::passing(format!("the reply is not JSON: {}", self.quoted(&text))))?;
        let choices = reply["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
        let contents = choices.iter().filter_map(|choice| choice["message"]["content"].as_str());
        let replies: Vec<String> =
            contents.map(str::trim).filter(|content| !content.is_empty()).map(str::to_owned).collect();
        match replies.is_empty() {
            true => Err(Trouble::passing(format!("the reply holds no text: {}", self.quoted(&text)))),
            false => Ok(replies),
        }
    }

    fn unsent(&self, error: &ureq::Error) -> Trouble {
        let reason = format!("{}: {error}", self.address);
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                Trouble::Refused(reason)
            }
            _ => Trouble::passing(reason),
        }
    }

    fn refused(&self, status: StatusCode, wait: Option<Duration>, text: &str) -> Trouble {
        let detail = serde_json::from_str::<Value>(text).ok();
        let detail = detail.as_ref().and_then(|reply| reply["error"]["message"].as_str()).unwrap_or(text);
        let reason = format!("the judge answers {status}: {}", self.quoted(detail));
        match status.as_u16() {
            408 | 409 | 425 | 429 => Trouble::Passing { reason, wait },
            401 | 403..=405 => Trouble::Refused(reason),
            code if code < 500 => Trouble::Lasting(reason),
            _ => Trouble::Passing { reason, wait },
        }
    }

    /// The beginning of what an endpoint sent, on one line. Some quote the key; it must not get into a report.
    fn quoted(&self, text: &str) -> String {
        let text = match &self.key {
            Some(key) => text.replace(key.as_str(), "(key)"),
            None => text.to_owned(),
        };
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(QUOTED_CHARS) {
            Some((end, _)) => format!("{}...", &line[..end]),
            None if line.is_empty() => "(nothing)".to_owned(),
            None => line,
        }
    }
}

/// The pause that `Retry-After` asks for, in seconds or until a date.
fn asked_wait<B>(response: &Response<B>) -> Option<Duration> {
    let value = response.headers().get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}
