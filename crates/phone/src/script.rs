//! How a line behaves: the `line = { … }` table of a directory.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a line does with each call. Without a key it answers at once and talks.
///
/// ```toml
/// line = { answer_after = "300ms", say = "tone:440", hangup_after = "10s", dtmf = "12#" }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct Script {
    /// What becomes of a call that comes in.
    pub reply: Reply,
    /// How long it rings before that.
    pub answer_after: Duration,
    /// Hangs up so long after the answer.
    pub hangup_after: Option<Duration>,
    /// What it says.
    pub say: Say,
    /// Keys it presses once the call is up; a comma is a pause of one second.
    pub dtmf: String,
    /// Puts the peer on hold so long after the answer.
    pub hold_after: Option<Duration>,
    /// Takes it off hold so long after that.
    pub resume_after: Option<Duration>,
    /// The codecs it knows, best first; all that we have, if empty.
    pub codecs: Vec<CodecName>,
    /// Says that it rings until the caller has heard it (RFC 3262), if the caller knows how to tell so.
    pub reliable: bool,
    /// Says where its sound is when it begins to ring, as a gateway does: 183 with the answer.
    pub early_media: bool,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reply {
    /// It is answered.
    #[default]
    Answer,
    /// It rings until the caller gives up or [`crate::PhoneOrder::Answer`] comes.
    Ring,
    /// It is refused with this status: 486 if busy, 603 if declined.
    Refuse(u16),
    /// The line does not exist: it does not register; on a trunk, nothing answers at all.
    Unreachable,
}

/// What a line says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Say {
    /// Something like speech.
    #[default]
    Speech,
    /// A steady tone of so many hertz.
    Tone(f32),
    /// Nothing: packets of silence.
    Silence,
    /// A WAV file, again and again.
    Wav(PathBuf),
}

/// A codec as a script names it, in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum CodecName {
    Pcmu,
    Pcma,
    G722,
    Opus,
}

/// What is wrong with a script, in words for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    #[error("{0:?} is no length of time: write for example \"300ms\", \"2s\" or \"1m\"")]
    Duration(String),
    #[error("a line waits at most an hour, and {0:?} is longer")]
    TooLong(String),
    #[error("say = {0:?}: a tone is written \"tone:440\", between 20 and 7600 hertz")]
    Tone(String),
    #[error("say is empty: write \"speech\", \"tone:440\", \"silence\" or the path of a WAV file")]
    SayNothing,
    #[error("dtmf = {0:?}: keys are 0-9, *, #, A-D, and a comma for a pause; at most 64")]
    Dtmf(String),
    #[error("codec {0:?} is not known: there are \"pcmu\", \"pcma\", \"g722\" and \"opus\"")]
    Codec(String),
    #[error("reject_status = {0}: a refusal is 300 to 699")]
    Status(u16),
    #[error("{0} and {1} exclude one another: a line does one thing with a call")]
    Both(&'static str, &'static str),
    #[error("{0} needs {1}")]
    Needs(&'static str, &'static str),
}

impl Script {
    /// A line that rings until it is told to answer.
    pub fn manual() -> Self {
        Self { reply: Reply::Ring, ..Self::default() }
    }
}

/// The longest a line waits for anything.
const WAIT_MAX: Duration = Duration::from_hours(1);
/// As many keys as a media port queues.
pub(crate) const KEYS_MAX: usize = 64;

/// The table as it is written.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_after: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    busy: bool,
    #[serde(skip_serializing_if = "is_false")]
    decline: bool,
    #[serde(skip_serializing_if = "is_false")]
    no_answer: bool,
    #[serde(skip_serializing_if = "is_false")]
    unreachable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reject_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hangup_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    say: Option<Say>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dtmf: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume_after: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    codecs: Vec<CodecName>,
    #[serde(skip_serializing_if = "is_false")]
    reliable: bool,
    #[serde(skip_serializing_if = "is_false")]
    early_media: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

impl TryFrom<Table> for Script {
    type Error = ScriptError;

    fn try_from(table: Table) -> Result<Self, ScriptError> {
        let replies = [
            ("busy", table.busy.then_some(Reply::Refuse(486))),
            ("decline", table.decline.then_some(Reply::Refuse(603))),
            ("no_answer", table.no_answer.then_some(Reply::Ring)),
            ("unreachable", table.unreachable.then_some(Reply::Unreachable)),
            ("reject_status", table.reject_status.map(Reply::Refuse)),
        ];
        let mut chosen = replies.into_iter().filter_map(|(key, reply)| Some((key, reply?)));
        let (reply_key, reply) = chosen.next().unwrap_or(("answer", Reply::Answer));
        if let Some((other, _)) = chosen.next() {
            return Err(ScriptError::Both(reply_key, other));
        }
        if let Reply::Refuse(status) = reply
            && !(300..700).contains(&status)
        {
            return Err(ScriptError::Status(status));
        }
        // Only an answer and a refusal happen after a while; the other two never do.
        if table.answer_after.is_some() && matches!(reply, Reply::Ring | Reply::Unreachable) {
            return Err(ScriptError::Both(reply_key, "answer_after"));
        }
        if table.resume_after.is_some() && table.hold_after.is_none() {
            return Err(ScriptError::Needs("resume_after", "hold_after"));
        }
        let dtmf = table.dtmf.unwrap_or_default();
        let is_key = |key: char| matches!(key, '0'..='9' | '*' | '#' | 'A'..='D' | 'a'..='d' | ',');
        if dtmf.len() > KEYS_MAX || !dtmf.chars().all(is_key) {
            return Err(ScriptError::Dtmf(dtmf));
        }
        Ok(Self {
            reply,
            answer_after: parse_optional(table.answer_after.as_deref())?.unwrap_or_default(),
            hangup_after: parse_optional(table.hangup_after.as_deref())?,
            say: table.say.unwrap_or_default(),
            dtmf,
            hold_after: parse_optional(table.hold_after.as_deref())?,
            resume_after: parse_optional(table.resume_after.as_deref())?,
            codecs: table.codecs,
            reliable: table.reliable,
            early_media: table.early_media,
        })
    }
}

impl From<Script> for Table {
    fn from(script: Script) -> Self {
        Self {
            answer_after: (!script.answer_after.is_zero()).then(|| print_duration(script.answer_after)),
            busy: script.reply == Reply::Refuse(486),
            decline: script.reply == Reply::Refuse(603),
            no_answer: script.reply == Reply::Ring,
            unreachable: script.reply == Reply::Unreachable,
            reject_status: match script.reply {
                Reply::Refuse(486 | 603) | Reply::Answer | Reply::Ring | Reply::Unreachable => None,
                Reply::Refuse(status) => Some(status),
            },
            hangup_after: script.hangup_after.map(print_duration),
            say: (script.say != Say::default()).then_some(script.say),
            dtmf: (!script.dtmf.is_empty()).then_some(script.dtmf),
            hold_after: script.hold_after.map(print_duration),
            resume_after: script.resume_after.map(print_duration),
            codecs: script.codecs,
            reliable: script.reliable,
            early_media: script.early_media,
        }
    }
}

impl TryFrom<String> for Say {
    type Error = ScriptError;

    fn try_from(text: String) -> Result<Self, ScriptError> {
        match text.as_str() {
            "" => Err(ScriptError::SayNothing),
            "speech" => Ok(Self::Speech),
            "silence" => Ok(Self::Silence),
            _ => match text.strip_prefix("tone:") {
                Some(hertz) => match hertz.parse::<f32>() {
                    // Half the sampling rate, less what the filters of 16 kHz codecs take away.
                    Ok(hertz) if (20.0..=7600.0).contains(&hertz) => Ok(Self::Tone(hertz)),
                    Ok(_) | Err(_) => Err(ScriptError::Tone(text)),
                },
                None => Ok(Self::Wav(text.into())),
            },
        }
    }
}

impl std::str::FromStr for Say {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        Self::try_from(text.to_owned())
    }
}

impl From<Say> for String {
    fn from(say: Say) -> Self {
        match say {
            Say::Speech => "speech".to_owned(),
            Say::Tone(hertz) => format!("tone:{hertz}"),
            Say::Silence => "silence".to_owned(),
            Say::Wav(path) => path.display().to_string(),
        }
    }
}

impl TryFrom<String> for CodecName {
    type Error = ScriptError;

    fn try_from(text: String) -> Result<Self, ScriptError> {
        match text.to_ascii_lowercase().as_str() {
            "pcmu" => Ok(Self::Pcmu),
            "pcma" => Ok(Self::Pcma),
            "g722" => Ok(Self::G722),
            "opus" => Ok(Self::Opus),
            _ => Err(ScriptError::Codec(text)),
        }
    }
}

impl std::str::FromStr for CodecName {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        Self::try_from(text.to_owned())
    }
}

impl From<CodecName> for String {
    fn from(codec: CodecName) -> Self {
        match codec {
            CodecName::Pcmu => "pcmu",
            CodecName::Pcma => "pcma",
            CodecName::G722 => "g722",
            CodecName::Opus => "opus",
        }
        .to_owned()
    }
}

/// Reads `300ms`, `2s`, `1.5s`, `1m`, `1h`: a number and its unit.
pub fn parse_duration(text: &str) -> Result<Duration, ScriptError> {
    let refuse = || ScriptError::Duration(text.to_owned());
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(refuse)?;
    let (number, unit) = text.split_at(unit_at);
    let milliseconds = match unit {
        "ms" => 1.0,
        "s" => 1_000.0,
        "m" | "min" => 60_000.0,
        "h" => 3_600_000.0,
        _ => return Err(refuse()),
    };
    let plain = |c: char| c.is_ascii_digit() || c == '.';
    let number = number.trim();
    if !number.chars().all(plain) {
        return Err(refuse());
    }
    let milliseconds = number.parse::<f64>().map_err(|_| refuse())? * milliseconds;
    if milliseconds > WAIT_MAX.as_millis() as f64 {
        return Err(ScriptError::TooLong(text.to_owned()));
    }
    Ok(Duration::from_micros((milliseconds * 1_000.0).round() as u64))
}

fn parse_optional(text: Option<&str>) -> Result<Option<Duration>, ScriptError> {
    text.map(parse_duration).transpose()
}

fn print_duration(duration: Duration) -> String {
    format!("{}ms", duration.as_micros() as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Script, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_table_reads_as_it_is_meant() {
        let seconds = Duration::from_secs;
        let table = [
            ("{}", Script::default()),
            (r#"{"answer_after": "300ms"}"#, Script { answer_after: Duration::from_millis(300), ..Script::default() }),
            (r#"{"answer_after": "1.5s"}"#, Script { answer_after: Duration::from_millis(1500), ..Script::default() }),
            (r#"{"busy": true}"#, Script { reply: Reply::Refuse(486), ..Script::default() }),
            (r#"{"busy": false}"#, Script::default()),
            (
                r#"{"decline": true, "answer_after": "2s"}"#,
                Script { reply: Reply::Refuse(603), answer_after: seconds(2), ..Script::default() },
            ),
            (r#"{"no_answer": true}"#, Script { reply: Reply::Ring, ..Script::default() }),
            (r#"{"unreachable": true}"#, Script { reply: Reply::Unreachable, ..Script::default() }),
            (r#"{"reject_status": 480}"#, Script { reply: Reply::Refuse(480), ..Script::default() }),
            (r#"{"say": "tone:440"}"#, Script { say: Say::Tone(440.0), ..Script::default() }),
            (r#"{"say": "silence"}"#, Script { say: Say::Silence, ..Script::default() }),
            (r#"{"say": "greeting.wav"}"#, Script { say: Say::Wav("greeting.wav".into()), ..Script::default() }),
            (
                r#"{"hangup_after": "1m", "dtmf": "12#,A"}"#,
                Script { hangup_after: Some(seconds(60)), dtmf: "12#,A".to_owned(), ..Script::default() },
            ),
            (
                r#"{"reliable": true, "early_media": true}"#,
                Script { reliable: true, early_media: true, ..Script::default() },
            ),
            (
                r#"{"hold_after": "1s", "resume_after": "2 s", "codecs": ["PCMA", "opus"]}"#,
                Script {
                    hold_after: Some(seconds(1)),
                    resume_after: Some(seconds(2)),
                    codecs: vec![CodecName::Pcma, CodecName::Opus],
                    ..Script::default()
                },
            ),
        ];
        for (json, expected) in table {
            let script = read(json).unwrap();
            assert_eq!(script, expected, "{json}");
            let again = serde_json::to_string(&script).unwrap();
            assert_eq!(read(&again).unwrap(), script, "{again}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        let table = [
            (r#"{"answer": "2s"}"#, "unknown field `answer`"),
            (r#"{"answer_after": "2"}"#, "\"2\" is no length of time"),
            (r#"{"answer_after": "-2s"}"#, "no length of time"),
            (r#"{"answer_after": "1.2.3s"}"#, "no length of time"),
            (r#"{"answer_after": ".s"}"#, "no length of time"),
            (r#"{"answer_after": "2h"}"#, "at most an hour"),
            (r#"{"busy": true, "decline": true}"#, "busy and decline exclude one another"),
            (r#"{"no_answer": true, "answer_after": "2s"}"#, "no_answer and answer_after exclude"),
            (r#"{"reject_status": 200}"#, "a refusal is 300 to 699"),
            (r#"{"resume_after": "2s"}"#, "resume_after needs hold_after"),
            (r#"{"say": "tone:loud"}"#, "a tone is written"),
            (r#"{"say": "tone:9000"}"#, "between 20 and 7600 hertz"),
            (r#"{"say": "tone:NaN"}"#, "a tone is written"),
            (r#"{"say": ""}"#, "say is empty"),
            (r#"{"dtmf": "1x"}"#, "keys are 0-9"),
            (r#"{"codecs": ["g729"]}"#, "codec \"g729\" is not known"),
        ];
        for (json, words) in table {
            let error = read(json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
