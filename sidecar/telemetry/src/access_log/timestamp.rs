//! `%START_TIME%` and its format.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// A compiled `strftime` format with Envoy's `%s`, `%f`, `%3f`, `%6f`, `%9f`.
#[derive(Debug)]
pub(super) struct TimeFormat(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(String),
    Field(char),
    /// Digits of the second's fraction.
    Fraction(usize),
}

impl TimeFormat {
    /// Parses a format; `None` is RFC 3339 with milliseconds. What is no known field stays as it is.
    pub(super) fn parse(format: Option<&str>) -> Self {
        let format = format.filter(|format| !format.is_empty()).unwrap_or("%Y-%m-%dT%H:%M:%S.%3fZ");
        let format = format.replace("%T", "%H:%M:%S").replace("%F", "%Y-%m-%d");
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut characters = format.chars().peekable();
        while let Some(character) = characters.next() {
            let piece = match (character, characters.peek()) {
                ('%', Some(&digit @ '1'..='9')) => {
                    characters.next();
                    if characters.peek() == Some(&'f') {
                        Some(Piece::Fraction(digit as usize - '0' as usize))
                    } else {
                        text.push('%');
                        text.push(digit);
                        continue;
                    }
                }
                ('%', Some('f')) => Some(Piece::Fraction(9)),
                ('%', Some(&field)) if "YmdHMSsejbBaAyzZIpE".contains(field) => {
                    Some(Piece::Field(field))
                }
                _ => None,
            };
            let Some(piece) = piece else {
                text.push(character);
                continue;
            };
            characters.next();
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(piece);
        }
        pieces.push(Piece::Text(text));
        Self(pieces)
    }

    /// The time in this format.
    pub(super) fn of(&self, time: SystemTime) -> impl fmt::Display + '_ {
        Formatted { format: self, time: OffsetDateTime::from(time), since_epoch: time }
    }
}

struct Formatted<'a> {
    format: &'a TimeFormat,
    time: OffsetDateTime,
    since_epoch: SystemTime,
}

impl fmt::Display for Formatted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.format.0 {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Fraction(digits) => {
                    let nanos = format!("{:09}", self.time.nanosecond());
                    f.write_str(&nanos[..*digits])?;
                }
                Piece::Field(field) => self.field(*field, f)?,
            }
        }
        Ok(())
    }
}

impl Formatted<'_> {
    fn field(&self, field: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.time;
        let month = time.month().to_string();
        let weekday = time.weekday().to_string();
        match field {
            'Y' | 'E' => write!(f, "{}", time.year()),
            'y' => write!(f, "{:02}", time.year() % 100),
            'm' => write!(f, "{:02}", u8::from(time.month())),
            'd' => write!(f, "{:02}", time.day()),
            'e' => write!(f, "{:2}", time.day()),
            'j' => write!(f, "{:03}", time.ordinal()),
            'H' => write!(f, "{:02}", time.hour()),
            'I' => write!(f, "{:02}", (time.hour() + 11) % 12 + 1),
            'p' => f.write_str(if time.hour() < 12 { "AM" } else { "PM" }),
            'M' => write!(f, "{:02}", time.minute()),
            'S' => write!(f, "{:02}", time.second()),
            'b' => f.write_str(&month[..3]),
            'B' => f.write_str(&month),
            'a' => f.write_str(&weekday[..3]),
            'A' => f.write_str(&weekday),
            'z' => f.write_str("+0000"),
            'Z' => f.write_str("UTC"),
            _ => {
                let since = self.since_epoch.duration_since(UNIX_EPOCH).unwrap_or_default();
                write!(f, "{}", since.as_secs())
            }
        }
    }
}

/// A time in RFC 3339, UTC, with seconds.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    TimeFormat::parse(Some("%Y-%m-%dT%H:%M:%SZ")).of(time).to_string()
}
